"""The exercise machine, and what every exercise of every lesson has. Attempts on them are in ``lessons/``."""

from __future__ import annotations

import inspect
import re
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attempts import written
from dreamer_helpers import course
from dreamer_helpers.course import exercises, lesson_modules
from dreamer_helpers.course.exercises import REGISTRY, Exercise, check, exercise, is_stub, load_lessons, scoreboard
from dreamer_helpers.course.passport import Passport
from dreamer_helpers.errors import UserError
from dreamer_helpers.symlog import symlog
from helpers import restart

load_lessons()
LESSONS = Path(__file__).parent / "lessons"
MINE = "def symlog(x):\n    return torch.log1p(x.clamp(min=0)) - torch.log1p(-x.clamp(max=0))"
"""Right, and not written as the course has it."""


@pytest.fixture(autouse=True)
def own_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A passport and a memory of its own for every test."""
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / "passport.json"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("COURSE_EXERCISES", raising=False)
    restart()
    yield tmp_path / "passport.json"


# ------------------------------------------------------------------------- the checks of every exercise


def of_lesson(number: str) -> dict[str, Any]:
    """What the test file of a lesson holds."""
    path = LESSONS / f"test_lesson_{number}.py"
    assert path.exists(), f"{path.name} is missing: other right answers, mistakes, explorers"
    return runpy.run_path(str(path))


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_exercise_has_what_learners_and_its_checks_need(name: str) -> None:
    entry, tests = REGISTRY[name], of_lesson(REGISTRY[name].lesson)
    assert len(entry.hints) >= 2, "hints are graded: a nudge first"
    assert entry.minutes > 0
    assert entry.reference.__name__ == name, "the answered notebook defines the reference under its own name"
    assert re.match(r"dreamer_helpers\.(?!course)", entry.reference.__module__), "a solution exists once, outside"
    folder = lesson_modules("exercises")[entry.lesson]
    assert f'"{name}", "{entry.lesson}"' in inspect.getsource(folder), "its number is that of its folder"
    assert set(entry.uses) <= set(REGISTRY)
    assert len(tests["RIGHT"].get(name, ())) >= 1, f"RIGHT lacks another right answer for {name}"
    assert len(tests["MISTAKES"].get(name, ())) >= 5, f"MISTAKES lacks five mistakes for {name}"


def test_two_exercises_do_not_fill_one_slot() -> None:
    slots = [entry.slot for entry in REGISTRY.values() if entry.slot]
    assert len(slots) == len(set(slots))


def test_tests_of_lessons_name_exercises_that_are_there() -> None:
    for path in sorted(LESSONS.glob("test_lesson_*.py")):
        tests = runpy.run_path(str(path))
        assert set(tests.get("RIGHT", ())) | set(tests.get("MISTAKES", ())) <= set(REGISTRY), path.name


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_reference_passes(name: str) -> None:
    assert check(REGISTRY[name], REGISTRY[name].reference).state == "passed"


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_reference_passes_as_a_cell(name: str) -> None:
    """Written into the notebook, as the teacher's set has it."""
    attempt = written("from __future__ import annotations\n" + exercises.reference_source(REGISTRY[name]))
    assert check(REGISTRY[name], attempt).state == "passed"


# -------------------------------------------------------------------------------------------- the machine


STUBS = [
    "def f(x):\n    ...",
    'def f(x):\n    """What it should do."""',
    "def f(x):\n    pass",
    "def f(x):\n    y = ...",
    "def f(x):\n    return ...",
    'def f(x):\n    raise NotImplementedError("your turn")',
    "def f(x):\n    # here\n    y: int = ...\n    return",
]


@pytest.mark.parametrize("source", STUBS)
def test_stubs_are_recognised(source: str) -> None:
    assert is_stub(written(source))
    indented = textwrap.indent(source.replace("(x)", "(self, x)"), "    ")
    assert is_stub(written(f"class C(nn.Module):\n{indented}"))


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return x[..., 0]",
        "def f(x):\n    return x",
        "def f(x, *, y=...):\n    return x",
        "def f(x):\n    ...\n    return x",
        "def f(x):\n    return x\n    ...",
        "def f(x):\n    every = ...\n    return x[every]",
        "def f(x):\n    if x > 0:\n        return x\n    raise NotImplementedError",
        "f = lambda x: x",
    ],
)
def test_what_does_more_than_wait_is_no_stub(source: str) -> None:
    assert not is_stub(written(source))


def test_only_the_methods_to_be_written_count() -> None:
    cell = """
    class C(nn.Module):
        def __init__(self):
            super().__init__()

        def forward(self, x):
            return x

        def later(self):
            raise NotImplementedError
    """
    assert not is_stub(written(cell))  # code beside what waits
    assert not is_stub(written(cell), ["forward"])
    assert is_stub(written(cell), ["later"])


def test_a_stub_gives_the_reference_and_one_quiet_line(capsys: pytest.CaptureFixture[str], own_passport: Path) -> None:
    assert exercise("symlog")(written("def symlog(x):\n    ...")) is symlog
    assert capsys.readouterr().out == "exercise symlog: not attempted yet; the course's own is used\n"
    assert not own_passport.exists()


def test_a_stub_that_is_run_again_does_not_lose_what_passed() -> None:
    """In the same notebook as after a restart: yours is used until it is reset."""
    course.setup(passport=True)
    mine = written(MINE)
    exercise("symlog")(mine)
    stub = written("def symlog(x):\n    ...")
    assert exercise("symlog")(stub) is mine
    assert f"{'symlog':<24}yours" in repr(scoreboard("01"))
    exercises.reset("symlog")
    assert exercise("symlog")(stub) is symlog


def test_a_right_answer_is_used_and_kept(capsys: pytest.CaptureFixture[str], own_passport: Path) -> None:
    mine = written(MINE)
    assert exercise("symlog")(mine) is mine
    assert capsys.readouterr().out == "exercise symlog: right; yours is used from here on\n"
    assert Passport.load().sources["symlog"].strip() == f"import torch\n{MINE}"
    assert repr(scoreboard("01")).splitlines()[:2] == ["1 of 3 parts are yours", f"{'symlog':<24}yours"]
    exercises.reset("symlog")
    assert Passport.load().sources == {}
    assert repr(scoreboard("01")).startswith("0 of 3")


def test_a_wrong_answer_is_explained_and_the_reference_stands_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert exercise("symlog")(written("def symlog(x):\n    return torch.log1p(torch.abs(x))")) is symlog
    assert capsys.readouterr().out.splitlines() == [
        "exercise symlog: not right yet; the course's own is used",
        "symlog(tensor(-1.0)) gave 0.6931, and -0.6931 is right: below 0 the sign is lost; symlog and symexp mirror "
        "what they do above.",
        "hint('symlog') gives a hint, show_solution('symlog') the answer.",
    ]


def test_what_leans_on_something_without_source_is_used_and_told() -> None:
    attempt = written("def symlog(x):\n    return torch.sign(x) * helper(x)")
    attempt.__globals__["helper"] = lambda x: torch.log1p(torch.abs(x))
    verdict = check(REGISTRY["symlog"], attempt)
    assert verdict.state == "passed"
    assert not verdict.source
    assert "for your passport it cannot be kept, as it uses `helper`, whose source cannot be found" in verdict.message
    assert "Define what it uses in its cell, or inside of it." in repr(verdict)


def test_modes_for_continuous_integration(monkeypatch: pytest.MonkeyPatch, own_passport: Path) -> None:
    stub, mine = written("def symlog(x):\n    ..."), written(MINE)
    monkeypatch.setenv("COURSE_EXERCISES", "reference")
    assert exercise("symlog")(mine) is symlog
    monkeypatch.setenv("COURSE_EXERCISES", "strict")
    assert exercise("symlog")(mine) is mine
    with pytest.raises(AssertionError, match="not attempted yet"):
        exercise("symlog")(stub)
    with pytest.raises(AssertionError, match=r"and -0.6931 is right"):
        exercise("symlog")(written("def symlog(x):\n    return torch.log1p(torch.abs(x))"))
    assert not own_passport.exists()  # nobody's passport is written by a machine
    monkeypatch.setenv("COURSE_EXERCISES", "strikt")
    with pytest.raises(UserError, match="empty, strict or reference, not 'strikt'"):
        exercise("symlog")


def test_a_typing_mistake_in_the_name_is_told() -> None:
    with pytest.raises(UserError, match=r"no exercise 'simlog' \(did you mean 'symlog'\?\)"):
        exercise("simlog")
    with pytest.raises(UserError, match="no lesson '99' with exercises"):
        scoreboard("99")
    with pytest.raises(ValueError, match="'symlog' already"):
        exercises.register(REGISTRY["symlog"])


def test_hints_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        exercises.hint("symlog")
        assert capsys.readouterr().out.startswith(f"Hint {number} of 3: ")
    exercises.hint("symlog")
    assert capsys.readouterr().out.count("\n* ") == 3


def test_the_solution_is_the_reference_folded() -> None:
    solution = exercises.show_solution("symlog")
    assert "torch.sign(x) * torch.log1p(torch.abs(x))" in repr(solution)
    assert solution._repr_html_().startswith("<details>")
    verdict = exercises.Verdict("symlog", "wrong", "1 < 2")
    assert "1 &lt; 2" in verdict._repr_html_()


def test_a_class_can_be_an_exercise() -> None:
    """An nn.Module written in a cell: judged by its behaviour, kept by its source."""

    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    def doubles(kind: type[nn.Module]) -> None:
        got = kind()(torch.ones(1)).item()
        if got != 2.0:
            raise AssertionError(f"Twice()([1.0]) gave {got}, and 2.0 is right")

    entry = Exercise("Twice", "00", Twice, (doubles,), ("Add it to itself.",), 1, "", methods=("forward",))
    right = "class Twice(nn.Module):\n    def forward(self, x):\n        return x + x"
    assert check(entry, written(right)).state == "passed"
    assert check(entry, written(right.replace("x + x", "x"))).message == "Twice()([1.0]) gave 1.0, and 2.0 is right."
    assert is_stub(written(right.replace("return x + x", "...")), ["forward"])
