"""The passport: nothing that passed is lost, nothing that came from elsewhere runs unasked, and it is used again."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from filelock import FileLock
from nbclient import NotebookClient
from test_parts import INDEPENDENT

from attempts import written
from dreamer_helpers import course
from dreamer_helpers.course import exercises, passport
from dreamer_helpers.course.exercises import exercise, reset
from dreamer_helpers.course.passport import FORMAT, Passport, keep
from dreamer_helpers.errors import UserError
from dreamer_helpers.parts import Parts
from dreamer_helpers.symlog import symexp, symlog
from helpers import restart

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_notebooks  # noqa: E402

MINE = "def symlog(x):\n    return torch.log1p(x.clamp(min=0)) - torch.log1p(-x.clamp(max=0))\n"
"""Right, and not written as the course has it."""
NEWER = {
    "format": FORMAT,
    "version": 7,
    "learner": {"name": "Ada"},
    "sources": {
        "symexp": {"source": "def symexp(x): ...\n", "passed": "2031-05-01"},
        "telepathy": "def telepathy(): ...\n",
        "levitation": {"frames": [1, 2]},
    },
}
"""What a course that does not exist yet may write."""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A passport and a home of its own for every test."""
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / "course" / "passport.json"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("COURSE_EXERCISES", raising=False)
    (tmp_path / "course").mkdir()
    (tmp_path / "home").mkdir()
    restart()
    yield tmp_path / "course" / "passport.json"


def names(folder: Path) -> list[str]:
    """What lies in a folder, but the lock."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def in_file(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


# --------------------------------------------------------------------------------------------- two at once

WRITER = """
import sys
from dreamer_helpers.course.passport import Passport
for i in range(int(sys.argv[2])):
    Passport.load().add(f"{sys.argv[1]}{i}", "def f(): ...\\n")
"""


@pytest.mark.parametrize("additions", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_notebooks_that_write_at_once_lose_nothing(additions: int, file: Path) -> None:
    """Two processes; whoever reads in between finds a whole passport, whatever moment it is."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(additions)], env=env, stderr=subprocess.PIPE)
        for name in "ab"
    ]
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        time.sleep(0.01)
        if file.exists():
            seen.append(len(in_file(file)["sources"]))
    for writer in writers:
        assert writer.wait() == 0, writer.stderr.read().decode()
    assert set(Passport.load().own()) == {f"{name}{i}" for name in "ab" for i in range(additions)}
    assert seen == sorted(seen) and len(set(seen)) > 2
    assert names(file.parent) == ["passport.json"]


def test_what_another_notebook_wrote_since_is_kept(file: Path) -> None:
    one, two = Passport.load(), Passport.load()
    one.add("symlog", "def symlog(x): ...\n")
    two.add("symexp", "def symexp(x): ...\n")
    one.remove("two_hot_mean")
    two.import_json(json.dumps({"format": FORMAT, "sources": {"two_hot_mean": "def two_hot_mean(): ...\n"}}))
    assert set(Passport.load().sources) == {"symlog", "symexp", "two_hot_mean"}


def test_an_older_attempt_is_replaced(file: Path) -> None:
    Passport.load().add("symlog", "def symlog(x): return 1\n")
    Passport.load().add("symlog", MINE)
    assert Passport.load().own() == {"symlog": MINE}


# --------------------------------------------------------------------------------- what a newer course wrote


CHANGES: dict[str, Callable[[Passport], Any]] = {
    "add": lambda p: p.add("symlog", MINE),
    "add over": lambda p: p.add("symexp", "def symexp(x): return x\n"),
    "remove": lambda p: p.remove("symlog"),
    "import": lambda p: p.import_json(json.dumps({"format": FORMAT, "sources": {"symlog": MINE}})),
    "trust": lambda p: p.trust(["telepathy"]),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_what_a_newer_course_wrote_is_kept(change: str, file: Path) -> None:
    file.write_text(json.dumps({**NEWER, "sources": {**NEWER["sources"], "symlog": "def symlog(x): ...\n"}}))
    loaded = Passport.load()
    assert set(loaded.sources) == {"symexp", "telepathy", "symlog"}, "what cannot be read is not offered"
    CHANGES[change](loaded)
    after = in_file(file)
    assert after["version"] == 7 and after["learner"] == {"name": "Ada"}
    assert after["sources"]["telepathy"] == "def telepathy(): ...\n"
    assert after["sources"]["levitation"] == {"frames": [1, 2]}
    source = "def symexp(x): return x\n" if change == "add over" else "def symexp(x): ...\n"
    assert after["sources"]["symexp"] == {"source": source, "passed": "2031-05-01"}
    assert json.loads(Passport.load().export_json())["learner"] == {"name": "Ada"}


# ---------------------------------------------------------------------------------------- damaged or foreign

DAMAGED = {
    "cut off": b'{"format": "dreamer-helpers pass',
    "another kind": b'{"cells": [], "nbformat": 4}',
    "a list": b"[]",
    "sources that are none": json.dumps({"format": FORMAT, "sources": [1]}).encode(),
    "no text": b"\xff\xfe\x00\x81",
    "empty": b"",
    "deep": b"[" * 100_000,
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_or_foreign_file_is_set_aside(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match="passport"):
        Passport.load()
    assert file.read_bytes() == content, "who only reads changes nothing"
    line = keep("symlog", MINE)
    assert "\n" not in line and "passport.set-aside-1.json" in line
    assert Passport.load().own() == {"symlog": MINE}
    file.write_bytes(content)
    assert "passport.set-aside-2.json" in keep("symlog", MINE)
    for number in (1, 2):
        assert file.with_name(f"passport.set-aside-{number}.json").read_bytes() == content
    assert keep("symlog", MINE) == ""


def test_an_import_of_another_text_changes_nothing(file: Path) -> None:
    Passport.load().add("symlog", MINE)
    before = file.read_bytes()
    for content in DAMAGED.values():
        with pytest.raises(UserError, match="this text is"):
            Passport.load().import_json(content.decode("latin-1"))
    assert file.read_bytes() == before


# --------------------------------------------------------------------------------------- what cannot be saved


@contextmanager
def as_a_guest() -> Iterator[None]:
    """Without the rights of root, whom no folder refuses."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@contextmanager
def read_only_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for above in file.parents[:4]:
        with suppress(OSError):
            above.chmod(above.stat().st_mode | 0o055)
    file.parent.chmod(0o555)
    with as_a_guest():
        yield
    file.parent.chmod(0o755)


@contextmanager
def closed_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    file.parent.chmod(0o000)
    with as_a_guest():
        yield
    file.parent.chmod(0o755)


@contextmanager
def read_only_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    file.chmod(0o444)
    for above in file.parents[:4]:
        with suppress(OSError):
            above.chmod(above.stat().st_mode | 0o077)
    with as_a_guest():
        yield


@contextmanager
def full_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the operating system does it: half of the text is written, then no more."""
    real = os.fsync

    def fails(number: int) -> None:
        os.ftruncate(number, 10)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(passport.os, "fsync", fails)
    yield
    monkeypatch.setattr(passport.os, "fsync", real)


@contextmanager
def held_lock(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(passport, "PATIENCE", 0.1)
    with FileLock(passport.lock_file(file)):
        yield


REFUSALS = {
    "read-only folder": read_only_folder, "closed folder": closed_folder, "read-only file": read_only_file,
    "full disk": full_disk, "held by another": held_lock,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSALS))
def test_what_cannot_be_saved_is_one_line_and_the_old_passport_stands(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Passport.load().add("symexp", "def symexp(x): ...\n")
    before = file.read_bytes()
    with REFUSALS[kind](file, monkeypatch):
        line = keep("symlog", MINE)
    assert line.startswith("symlog is used, but it was not saved: ") and "\n" not in line
    assert "passport.json" in line and "COURSE_PASSPORT" in line
    assert file.read_bytes() == before
    assert names(file.parent) == ["passport.json"]
    assert keep("symlog", MINE) == ""
    assert set(Passport.load().own()) == {"symlog", "symexp"}


def no_more_than(size: int) -> None:
    """Let this process write no file that is larger: the partial write fails as on a full disk."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_write_that_the_system_cuts_off_leaves_the_old_passport(file: Path) -> None:
    Passport.load().add("symexp", "def symexp(x): ...\n")
    before = file.read_bytes()
    code = "import sys; from dreamer_helpers.course.passport import keep; print(keep('symlog', 'x' * 5000))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, preexec_fn=lambda: no_more_than(1000), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.startswith("symlog is used, but it was not saved: "), done.stderr
    assert file.read_bytes() == before and names(file.parent) == ["passport.json"]


@pytest.mark.parametrize("place", ["folder", "folder/", "file/passport.json"])
def test_a_place_that_cannot_hold_a_file_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / place))
    line = keep("symlog", MINE)
    assert line.startswith("symlog is used, but it was not saved: ") and "\n" not in line
    assert names(tmp_path / "folder") == ["thesis.txt"]
    with pytest.raises(UserError, match="COURSE_PASSPORT"):
        Passport.load().add("symlog", MINE)


def test_an_interrupt_in_the_middle_leaves_the_old_passport(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Passport.load().add("symexp", "def symexp(x): ...\n")
    before = file.read_bytes()

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(passport.os, "replace", interrupted)
        keep("symlog", MINE)
    assert file.read_bytes() == before and names(file.parent) == ["passport.json"]
    assert keep("symlog", MINE) == "", "the lock was given back"


def test_a_reader_that_holds_the_file_for_a_moment_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows a file that somebody reads cannot be replaced."""
    real, tries = os.replace, []

    def busy(*arguments: Any) -> None:
        tries.append(1)
        if len(tries) < 4:
            raise PermissionError(13, "The process cannot access the file")
        real(*arguments)

    monkeypatch.setattr(passport.os, "replace", busy)
    assert keep("symlog", MINE) == ""
    assert Passport.load().own() == {"symlog": MINE}


def test_a_file_system_without_locks_is_written_all_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(passport.FileLock, "acquire", without)
    assert keep("symlog", MINE) == ""
    assert Passport.load().own() == {"symlog": MINE}


# ------------------------------------------------------------------------------------------- where it lies


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_PASSPORT", "~/new folder/passport.json")
    assert keep("symlog", MINE) == ""
    assert (tmp_path / "home" / "new folder" / "passport.json").exists()
    assert not (tmp_path / "~").exists()
    assert Passport.load("~/new folder/passport.json").own() == {"symlog": MINE}


def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_PASSPORT", "")
    assert keep("symlog", MINE) == ""
    assert (tmp_path / "passport.json").exists()


def test_a_link_stays_a_link_and_rights_stay_as_they_are(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "cloud.json")
    keep("symexp", "def symexp(x): ...\n")
    (tmp_path / "cloud.json").chmod(0o640)
    keep("symlog", MINE)
    assert file.is_symlink()
    assert (tmp_path / "cloud.json").stat().st_mode & 0o777 == 0o640
    assert set(Passport.load(tmp_path / "cloud.json").own()) == {"symlog", "symexp"}


def test_letters_of_any_alphabet_come_back(file: Path) -> None:
    source = "def symlog(ξ):\n    # größer 大きい \N{SNOWMAN}\n    return ξ\n"
    keep("symlog", source)
    assert Passport.load().own() == {"symlog": source}
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as some editors save it
    assert Passport.load().own() == {"symlog": source}


# ------------------------------------------------------------------------------------- whose the sources are


def test_what_was_imported_is_foreign_until_it_is_trusted(file: Path) -> None:
    keep("symlog", MINE)
    text = json.dumps({"format": FORMAT, "sources": {"symlog": "import evil\n", "symexp": "import worse\n"}})
    assert Passport.load().import_json(text) == ["symlog", "symexp"]
    loaded = Passport.load()
    assert loaded.own() == {"symlog": MINE}, "what is one's own is not replaced"
    assert loaded.foreign() == {"symlog": "import evil\n", "symexp": "import worse\n"}
    assert loaded.sources == {"symlog": MINE, "symexp": "import worse\n"}
    loaded.trust(["symexp"])
    again = Passport.load()
    assert again.own() == {"symlog": MINE, "symexp": "import worse\n"}
    assert again.foreign() == {"symlog": "import evil\n"}
    again.add("symlog", MINE + "\n")
    assert Passport.load().foreign() == {"symlog": "import evil\n"}
    Passport.load().remove("symlog")
    assert set(Passport.load().sources) == {"symexp"} and Passport.load().foreign() == {}


def test_trust_holds_for_what_was_seen(file: Path) -> None:
    """Another notebook may have imported something else since."""
    Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symexp": "def symexp(x): ...\n"}}))
    seen = Passport.load()
    Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symexp": "import worse\n"}}))
    seen.trust(["symexp"])
    assert Passport.load().own() == {"symexp": "def symexp(x): ...\n"}


CHANGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "source": lambda content: content["sources"].update(symlog="import evil\n"),
    "another name": lambda content: content["sources"].update(symexp=content["sources"].pop("symlog")),
    "swapped": lambda content: (
        content["sources"].update(symexp="import evil\n"),
        content["seals"].update(symexp=content["seals"]["symlog"]),
    ),
    "seal": lambda content: content["seals"].update(symlog=17),
    "no seal": lambda content: content["seals"].clear(),
    "no seals": lambda content: content.pop("seals"),
    "odd seals": lambda content: content.update(seals=["symlog"]),
    "first form": lambda content: (content.pop("seals"), content.update(version=1)),
}


@pytest.mark.parametrize("change", list(CHANGED))
def test_what_was_changed_from_outside_is_foreign(change: str, file: Path) -> None:
    keep("symlog", MINE)
    content = in_file(file)
    CHANGED[change](content)
    file.write_text(json.dumps(content))
    loaded = Passport.load()
    assert set(loaded.sources) == set(loaded.own()) | set(loaded.foreign())
    assert set(loaded.own().values()) <= {MINE} and len(loaded.foreign()) == 1
    keep("symlog", MINE)  # written anew, it is one's own
    assert Passport.load().own()["symlog"] == MINE


def test_a_passport_of_another_machine_is_foreign(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep("symlog", MINE)
    for other in ("other", "home"):
        monkeypatch.setenv("HOME", str(tmp_path / other))
        assert Passport.load().own() == ({"symlog": MINE} if other == "home" else {})
    key = passport.key_file()
    assert key.is_relative_to(tmp_path / "home") and key.stat().st_mode & 0o077 == 0
    assert key.read_text().strip() not in file.read_text()


def test_what_travels_as_text_has_no_seal(file: Path) -> None:
    """Whoever gets it has to look at it."""
    keep("symlog", MINE)
    text = Passport.load().export_json()
    file.unlink()
    Passport.load().import_json(text)
    assert Passport.load().own() == {} and Passport.load().foreign() == {"symlog": MINE}


def test_importing_what_is_ones_own_changes_nothing(file: Path) -> None:
    keep("symlog", MINE)
    assert Passport.load().import_json(Passport.load().export_json()) == ["symlog"]
    assert Passport.load().own() == {"symlog": MINE} and Passport.load().foreign() == {}


def test_without_a_home_to_keep_a_key_in_parts_are_saved_and_asked_for_later(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert keep("symlog", MINE) == ""
    assert Passport.load().own() == {"symlog": MINE}, "in this notebook it is known"
    passport.KEYS.clear()  # the kernel is started again
    assert Passport.load().own() == {} and Passport.load().foreign() == {"symlog": MINE}


# ------------------------------------------------------------------------------------- used in later notebooks

STUB = "def {}(x):\n    ..."
SYMEXP = "def symexp(x):\n    return torch.expm1(x.clamp(min=0)) - torch.expm1(-x.clamp(max=0))\n"
EVIL = MINE.replace("    return", "    open('{}', 'w').close()\n    return")


def solve(name: str, source: str) -> Any:
    """A cell in which an exercise is solved."""
    return exercise(name)(written(source))


def opened(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """A new notebook: what its first cell says of the passport."""
    restart()
    capsys.readouterr()
    return course.setup(passport=True).splitlines()[1:]


def test_what_passed_is_used_after_a_restart(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert opened(capsys) == ["your passport holds no parts yet"]
    solve("symlog", MINE)
    assert opened(capsys) == ["from your passport: symlog (lesson 01)"]
    mine = solve("symlog", STUB.format("symlog"))
    assert mine is not symlog and inspect.getsource(mine) == MINE
    assert solve("symexp", STUB.format("symexp")) is symexp
    assert capsys.readouterr().out.splitlines() == [
        "exercise symlog: yours, from lesson 01, is used",
        "exercise symexp: not attempted yet; the course's own is used",
    ]
    assert course.part("symlog") is mine and course.part("symexp") is symexp
    assert capsys.readouterr().out.splitlines() == ["symlog: yours, from lesson 01", "symexp: the course's"]
    rows = repr(exercises.scoreboard("01")).splitlines()
    assert rows[0].startswith("1 of ") and f"{'symlog':<24}yours, from lesson 01" in rows
    assert f"{'symexp':<24}the course's" in rows
    assert (
        rows[-1] == f"in the whole course 1 of {len(exercises.REGISTRY)} parts are yours, 1 of them from your passport"
    )
    assert Parts.from_passport().notes == {"symlog": "yours, from lesson 01"}


def test_a_part_of_this_notebook_goes_before_an_older_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve("symlog", MINE)
    opened(capsys)
    newer = solve("symlog", MINE.replace("torch.log1p(x", "torch.log1p(+x"))
    assert course.part("symlog") is newer
    assert Parts.from_passport().symlog is newer
    assert f"{'symlog':<24}yours" in repr(exercises.scoreboard("01")).splitlines()
    opened(capsys)
    assert "+x" in inspect.getsource(course.part("symlog"))


def test_an_attempt_that_fails_leaves_the_courses_own(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve("symlog", MINE)
    opened(capsys)
    assert solve("symlog", "def symlog(x):\n    return x") is symlog
    assert course.part("symlog") is symlog
    assert f"{'symlog':<24}the course's" in repr(exercises.scoreboard("01"))
    assert Passport.load().own()["symlog"].endswith(MINE)
    assert solve("symlog", STUB.format("symlog")) is not symlog, "the cell as it was: the older one is back"


def test_nothing_is_used_unasked(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve("symlog", MINE)
    restart()
    course.setup()
    assert solve("symlog", STUB.format("symlog")) is symlog
    assert course.part("symlog") is symlog
    assert capsys.readouterr().out.splitlines()[-1] == (
        "symlog: the course's; course.setup(passport=True) looks into your passport"
    )
    assert repr(exercises.scoreboard()).startswith("0 of ")


def test_what_passes_no_more_says_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checks of a newer course may see more."""
    keep("symlog", "def symlog(x):\n    return x\n")
    keep("symexp", "def symexp(x):\n    return 1 / 0\n")
    keep("two_hot_mean", "def two_hot_mean(: this is no Python\n")
    opened(capsys)
    assert solve("symlog", STUB.format("symlog")) is symlog
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("symlog: yours does not pass any more, the course's own is used. symlog(")
    assert said[1] == "exercise symlog: not attempted yet; the course's own is used"
    assert course.part("symexp") is symexp
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert repr(exercises.scoreboard("01")).startswith("0 of ")
    assert repr(exercises.scoreboard("02")).startswith("0 of ")
    assert "SyntaxError" in capsys.readouterr().out
    assert set(Passport.load().own()) == {"symlog", "symexp", "two_hot_mean"}, "nothing is thrown away"


def test_what_another_version_of_the_course_knows_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep("telepathy", "def telepathy(): ...\n")
    assert opened(capsys) == [
        "your passport holds no parts yet", "kept for another version of the course: telepathy",
    ]  # fmt: skip
    assert Parts.from_passport().notes == {"telepathy": "left out: this course has no such exercise"}


def test_reset_forgets_it_everywhere(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve("symlog", MINE)
    opened(capsys)
    reset("symlog")
    assert solve("symlog", STUB.format("symlog")) is symlog
    assert opened(capsys) == ["your passport holds no parts yet"]


@pytest.mark.parametrize("kind", list(REFUSALS))
def test_a_right_answer_that_cannot_be_saved_is_used(
    kind: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the cells below, the scoreboard and the agent."""
    solve("symexp", SYMEXP)
    opened(capsys)
    with REFUSALS[kind](file, monkeypatch):
        mine = solve("symlog", MINE)
        first, second = capsys.readouterr().out.splitlines()
        assert first == "exercise symlog: right; yours is used from here on"
        assert second.startswith("symlog is used, but it was not saved: ")
        assert course.part("symlog") is mine is Parts.from_passport().symlog
        assert f"{'symlog':<24}yours" in repr(exercises.scoreboard("01")).splitlines()
        if kind != "full disk":
            reset("symexp")
            assert "symexp is still in the passport: " in capsys.readouterr().out


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_passport_stops_no_notebook(content: bytes, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(content)
    (line,) = opened(capsys)
    assert line.startswith("your passport is not used: ")
    assert solve("symexp", STUB.format("symexp")) is symexp
    reset("symexp")
    assert file.read_bytes() == content
    mine = solve("symlog", MINE)
    assert "it is kept as passport.set-aside-1.json" in capsys.readouterr().out
    assert Parts.from_passport().symlog is mine
    assert opened(capsys) == ["from your passport: symlog (lesson 01)"]


# ------------------------------------------------------------------------------------ foreign until trusted


def evil(tmp_path: Path) -> tuple[str, Path]:
    """A part that passes, and leaves a trace when it is run."""
    return EVIL.format(tmp_path / "trace"), tmp_path / "trace"


ARRIVALS: dict[str, Callable[[Path, str], Any]] = {
    "imported": lambda file, text: Passport.load().import_json(text),
    "put in its place": lambda file, text: file.write_text(text),
    "first form": lambda file, text: file.write_text(json.dumps({**json.loads(text), "version": 1})),
    "seals of another": lambda file, text: file.write_text(
        json.dumps({**json.loads(text), "seals": {"symlog": "0" * 64}})
    ),
}


@pytest.mark.parametrize("how", list(ARRIVALS))
def test_what_came_from_elsewhere_runs_at_the_learners_word(
    how: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, trace = evil(tmp_path)
    ARRIVALS[how](file, json.dumps({"format": FORMAT, "version": 2, "sources": {"symlog": source}}))
    assert opened(capsys) == [
        "your passport holds no parts yet",
        "not used, as it came from elsewhere: symlog; course.trust() shows the source",
    ]
    assert solve("symlog", STUB.format("symlog")) is symlog and course.part("symlog") is symlog
    parts = Parts.from_passport()
    assert parts.symlog is symlog
    assert parts.notes == {"symlog": "left out: it came from elsewhere; course.trust() shows it"}
    assert repr(exercises.scoreboard()).startswith("0 of ")
    shown = course.trust()
    assert source in repr(shown) and "<details>" in shown._repr_html_()
    assert not trace.exists(), "shown, and not run"
    assert repr(course.trust()) == "symlog: taken; it is used from here on."
    assert trace.exists()
    assert solve("symlog", STUB.format("symlog")) is not symlog
    assert opened(capsys) == ["from your passport: symlog (lesson 01)"]


def test_what_was_shown_is_what_is_taken(file: Path, tmp_path: Path) -> None:
    """What has changed since is shown again first."""
    source, trace = evil(tmp_path)
    for each in (SYMEXP.replace("symexp", "symlog"), source):
        Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symlog": each}}))
        assert each in repr(course.trust())
    assert not trace.exists()


def test_ones_own_goes_before_what_came_from_elsewhere(file: Path, tmp_path: Path) -> None:
    source, trace = evil(tmp_path)
    mine = solve("symlog", MINE)
    Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symlog": source}}))
    assert repr(course.trust()) == (
        "nothing is taken; yours are kept. course.trust('symlog') puts the other one in the place of yours"
    )
    assert Parts.from_passport().symlog is mine
    restart()
    assert Parts.from_passport().notes == {"symlog": "yours, from lesson 01"}
    assert not trace.exists()
    assert source in repr(course.trust("symlog"))
    assert "taken" in repr(course.trust("symlog"))
    assert Passport.load().own() == {"symlog": source}


def test_what_does_not_pass_is_not_taken(file: Path) -> None:
    wrong = "def symlog(x):\n    return x\n"
    Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symlog": wrong}}))
    course.trust()
    assert repr(course.trust()).startswith("symlog: it does not pass and is not taken. symlog(")
    assert Passport.load().own() == {} and Passport.load().foreign() == {"symlog": wrong}


def test_what_waits_for_nothing_is_told(file: Path) -> None:
    assert repr(course.trust()) == "nothing is taken"
    with pytest.raises(UserError, match="nothing waits for an exercise 'symlog'; there are none"):
        course.trust("symlog")
    with pytest.raises(UserError, match="no exercise 'simlog'"):
        course.part("simlog")


@pytest.mark.parametrize("mode", ["strict", "reference"])
def test_machines_leave_a_learners_passport_alone(
    mode: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, trace = evil(tmp_path)
    keep("symexp", SYMEXP)
    Passport.load().import_json(json.dumps({"format": FORMAT, "sources": {"symlog": source}}))
    before = file.read_bytes()
    monkeypatch.setenv("COURSE_EXERCISES", mode)
    assert opened(capsys) == ["no passport is used"]
    assert course.part("symexp") is symexp
    solve("symlog", MINE)
    assert set(Parts.from_passport().notes) == ({"symlog"} if mode == "strict" else set())
    for _ in range(2):
        assert repr(course.trust()) == "nothing is taken"
    exercises.scoreboard("01")
    reset("symexp")
    assert file.read_bytes() == before and not trace.exists()
    file.write_text("no passport")
    assert opened(capsys) == ["no passport is used"]
    assert Parts.from_passport().notes == {}


# ------------------------------------------------------------------------------------------ a walk through it


def walked(number: str, solved: Collection[str], extra: str = "") -> list[str]:
    """A lesson in a kernel of its own: its first cells, its exercises (those in ``solved`` are), its scoreboard.

    Returns the lines that it shows.
    """
    (source,) = (ROOT / "notebooks" / "source").glob(f"{number}_*.py")
    code = [cell.source for cell in build_notebooks.convert(source).cells if cell.cell_type == "code"]
    cells = code[:2]
    for cell in code[2:]:
        asked = re.search(r'^@exercise\("(\w+)"', cell, re.MULTILINE)
        if asked and asked[1] in solved:
            cell = f'@exercise("{asked[1]}")\n{textwrap.dedent(INDEPENDENT[asked[1]]).strip()}'
        if asked or "scoreboard(" in cell:
            cells.append(cell)
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in [*cells, *filter(None, [extra])]])
    NotebookClient(nb, timeout=300, resources={"metadata": {"path": str(source.parents[1])}}).execute(
        env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    shown = [output for cell in nb.cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in shown]
    return "\n".join(texts).splitlines()


TRAIN = """
from dreamer_helpers.course.exercises import scoreboard
from dreamer_helpers.parts import Parts
from dreamer_helpers.config import preset
from dreamer_helpers.train import train
parts = Parts.from_passport()
agent = train(preset("cpu"), "CartPole-v1", 300, parts=parts, progress_bar=False).agent
print("the agent's parts that are yours:", *sorted(agent.foreign))
print(parts.report())
print(scoreboard())
"""


@pytest.mark.slow
def test_a_walk_through_the_lessons_and_a_restart(file: Path) -> None:
    """Real kernels and the lessons' own cells: what was built once is used everywhere, and is named."""
    exercises.load_lessons()
    total = len(exercises.REGISTRY)
    assert "your passport holds no parts yet" in walked("00", ["symlog_slope"])

    slope = exercises.find("symlog_slope").lesson
    in_01 = walked("01", ["symlog", "symexp"])
    assert f"from your passport: symlog_slope (lesson {slope})" in in_01
    assert f"{'symlog':<24}yours" in in_01
    assert f"in the whole course 3 of {total} parts are yours, 1 of them from your passport" in in_01

    mine = [f"{name}: yours, from lesson 01" for name in ("symlog", "symexp")]
    in_02 = walked("02", ["two_hot_encoding", "symexp_bins"])
    assert set(mine) <= set(in_02)
    assert f"{'two_hot_mean':<24}the course's" in in_02
    assert f"in the whole course 5 of {total} parts are yours, 3 of them from your passport" in in_02

    again = walked("02", [])
    kept = [f"exercise {name}: yours, from lesson 02, is used" for name in ("symexp_bins", "two_hot_encoding")]
    assert {*mine, *kept, "exercise two_hot_mean: not attempted yet; the course's own is used"} <= set(again)
    assert f"in the whole course 5 of {total} parts are yours, 5 of them from your passport" in again

    in_09 = walked("09", [], TRAIN)
    assert "the agent's parts that are yours: symexp symexp_bins symlog two_hot_encoding" in in_09
    rows = [line for line in in_09 if "yours, from lesson" in line]
    for name, lesson in (("symlog", "01"), ("symexp", "01"), ("two_hot_encoding", "02"), ("symexp_bins", "02")):
        assert rows.count(f"{name:<22}yours, from lesson {lesson}") == 1, "the agent's report"
        assert rows.count(f"{name:<24}yours, from lesson {lesson}") == 1, "the scoreboard"
    assert f"5 of {total} parts are yours" in in_09
