"""The learner's passport: the source of every exercise that passed, in a file that is the learner's own.

The file is JSON. ``sources`` maps the name of an exercise to its source, ``seals`` says which of them were written by
this course for this user, and ``imported`` holds what came from elsewhere and waits until the learner has looked at it.
Everything else that stands there was written by a newer course, and is kept.

A seal is made with a key that lies in the user's home and never in the passport. So a source that was changed, or that
another person's passport brought along, is known to be foreign, and is not run before the learner says so.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dreamer_helpers.errors import UserError, did_you_mean

FORMAT = "dreamer-helpers passport"
VERSION = 2
PATIENCE = 10.0
"""Seconds to wait for another notebook that is writing."""
KEYS: dict[Path, str] = {}
"""The keys that this process has read or made, by their files."""


def place() -> Path:
    """Where the passport is: the variable COURSE_PASSPORT, else ``passport.json`` in the folder of the notebook."""
    return Path(os.path.expanduser(os.environ.get("COURSE_PASSPORT") or "passport.json"))


def by_machine() -> bool:
    """Whether continuous integration or the teacher's set is at work, which leaves a learner's passport alone."""
    return bool(os.environ.get("COURSE_EXERCISES"))


def keep(name: str, source: str) -> str:
    """Keep the source of an exercise that passed, whatever happens: raises nothing.

    Returns "", or one line that says what was not saved and why, or that a damaged file was set aside.
    """
    try:
        return "" if by_machine() else Passport(place()).add(name, source)
    except UserError as error:
        return f"{name} is used, but it was not saved: {error}"


def forget(name: str) -> str:
    """Forget the source of an exercise; returns and raises as :func:`keep`."""
    try:
        return "" if by_machine() else Passport(place()).remove(name)
    except UserError as error:
        return f"{name} is still in the passport: {error}"


class Damaged(UserError):
    """A file or a text that is no passport."""


def _empty() -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "sources": {}}


@dataclass
class Passport:
    """What passed, by the name of the exercise. Each change reads the file again first, and writes it at once."""

    path: Path
    content: dict[str, Any] = field(default_factory=_empty)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Passport:
        """Read the passport; an empty one if there is none yet. Raises UserError for a file that is none."""
        path = Path(os.path.expanduser(path)) if path else place()
        try:
            return cls(path, _read(path))
        except OSError as error:
            raise _refused("read", path, error) from None

    @property
    def sources(self) -> dict[str, str]:
        """All sources; where one's own and a foreign one bear the same name, one's own."""
        return _texts(self.content, "imported") | _texts(self.content, "sources")

    def own(self) -> dict[str, str]:
        """The sources that passed here, or that were trusted here."""
        return _own(self.content)

    def foreign(self) -> dict[str, str]:
        """The sources that were imported, or written into the file by something else than this course for this user."""
        mine = _own(self.content)
        rest = {name: text for name, text in _texts(self.content, "sources").items() if name not in mine}
        return rest | _texts(self.content, "imported")

    def unsealed(self) -> dict[str, str]:
        """Those foreign sources that bear no seal at all, as the first form of this file had none."""
        seals = _mapping(self.content, "seals")
        return {name: text for name, text in _texts(self.content, "sources").items() if name not in seals}

    def add(self, name: str, source: str) -> str:
        """Keep a source in place of an older one. Returns "", or a line if a damaged file was set aside for it.

        Raises UserError if the file cannot be written.
        """
        return self._change(lambda content: _put(content, name, source))

    def remove(self, name: str) -> str:
        """Forget a source, if it is there. Returns and raises as :meth:`add`."""

        def forget(content: dict[str, Any]) -> None:
            for part in ("sources", "seals", "imported"):
                _mapping(content, part).pop(name, None)

        return self._change(forget)

    def trust(self, names: Iterable[str]) -> str:
        """Make foreign sources one's own, as they were when this passport was read. Returns and raises as add.

        Raises UserError for a name that is not among the foreign ones.
        """
        foreign = self.foreign()
        taken = {name: _looked_up(name, foreign) for name in names}

        def take(content: dict[str, Any]) -> None:
            for name, source in taken.items():
                _put(content, name, source)
                if _texts(content, "imported").get(name) == source:
                    content["imported"].pop(name)

        return self._change(take)

    def export_json(self) -> str:
        """All of it as text, to take along: Colab forgets its files. Seals stay here, as their key does."""
        return json.dumps({key: value for key, value in self.content.items() if key != "seals"}, indent=1)

    def import_json(self, text: str) -> list[str]:
        """Take in what :meth:`export_json` gave; returns the names. Raises UserError for another text.

        What comes in is foreign: it waits beside one's own sources until it is trusted.
        """
        given = _parse(text, "this text")
        found = _texts(given, "imported") | _texts(given, "sources")

        def take(content: dict[str, Any]) -> None:
            mine = _own(content)
            waiting = {name: source for name, source in found.items() if mine.get(name) != source}
            if waiting:
                content["imported"] = _mapping(content, "imported") | waiting

        self._change(take)
        return list(found)

    def _change(self, change: Callable[[dict[str, Any]], None]) -> str:
        path = Path(os.path.realpath(self.path))  # a link to a cloud's folder stays a link
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                content, damaged = _read_again(path)
                before = json.dumps(content)
                change(content)
                note = "" if json.dumps(content) == before else _write(path, _upgraded(content), damaged)
        except OSError as error:
            raise _refused("write", self.path, error) from None
        self.content = content
        return note


# ---------------------------------------------------------------------------------------- what stands in it


def _mapping(content: dict[str, Any], part: str) -> dict[str, Any]:
    """A part of the file that maps names to something; an empty one if it is not there, or something else."""
    found = content.get(part)
    return found if isinstance(found, dict) else {}


def _texts(content: dict[str, Any], part: str) -> dict[str, str]:
    """The sources in a part of the file: plain, or the field ``source`` of an entry that a newer course wrote."""
    texts = {
        name: entry.get("source") if isinstance(entry, dict) else entry
        for name, entry in _mapping(content, part).items()
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _own(content: dict[str, Any]) -> dict[str, str]:
    key, seals = _key(), _mapping(content, "seals")
    texts = _texts(content, "sources").items()
    return {name: text for name, text in texts if key and seals.get(name) == _seal(key, name, text)}


def _put(content: dict[str, Any], name: str, source: str) -> None:
    old = content["sources"].get(name)
    content["sources"][name] = {**old, "source": source} if isinstance(old, dict) else source
    content["seals"] = _mapping(content, "seals") | {name: _seal(_key() or _new_key(), name, source)}


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    version = content.get("version")
    return content | {"version": VERSION} if isinstance(version, int) and version < VERSION else content


def _looked_up(name: str, there: dict[str, str]) -> str:
    if name not in there:
        waiting = f"there are {', '.join(there)}" if there else "nothing waits"
        raise UserError(f"no foreign source of {name!r} in the passport{did_you_mean(name, there)}; {waiting}")
    return there[name]


# ------------------------------------------------------------------------------------------------- seals


def key_file() -> Path:
    """Where the key is that seals the sources of this user."""
    above = os.environ.get("XDG_CONFIG_HOME") or os.path.join("~", ".config")
    return Path(os.path.expanduser(above)) / "dreamer_helpers" / "passport.key"


def _seal(key: str, name: str, source: str) -> str:
    content = f"{name}\n{source}".encode("utf-8", "surrogatepass")
    return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()


def _key() -> str:
    """The key, or "" if there is none yet."""
    path = key_file()
    if path not in KEYS and (stored := _stored_key(path)):
        KEYS[path] = stored
    return KEYS.get(path, "")


def _stored_key(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text("utf-8").strip()
    return ""


def _new_key() -> str:
    """A key, kept for this user. Where it cannot be kept it holds until the kernel stops."""
    path, key = key_file(), secrets.token_hex(32)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            key = _stored_key(path) or key
            with _partial(path, key + "\n", 0o600) as partial:
                _replace(partial, path)
    return KEYS.setdefault(path, key)


# -------------------------------------------------------------------------------------------------- files


def _refused(doing: str, path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot {doing} the passport {path}: {error.strerror or error}; set COURSE_PASSPORT to another file"
    )


def _parse(text: str, where: str) -> dict[str, Any]:
    """Raises Damaged for what is no passport."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Damaged(f"{where} is damaged or no passport: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise Damaged(f"{where} is no passport of this course")
    if not isinstance(content.setdefault("sources", {}), dict):
        raise Damaged(f"{where} is no passport of this course: its sources are none")
    return content


def _read(path: Path) -> dict[str, Any]:
    """Raises Damaged for a file that is no passport, and OSError for one that cannot be read."""
    try:
        return _parse(path.read_text("utf-8-sig"), str(path))
    except FileNotFoundError:
        return _empty()
    except UnicodeDecodeError:
        raise Damaged(f"{path} is damaged or no passport: it is no text") from None


def _read_again(path: Path) -> tuple[dict[str, Any], bool]:
    """What is in the file now, and whether that is damaged and to be set aside."""
    try:
        return _read(path), False
    except Damaged:
        return _empty(), True


def _write(path: Path, content: dict[str, Any], damaged: bool) -> str:
    """Replace the file as a whole, or not at all. Returns a line if the old one was set aside."""
    if path.exists():
        path.open("r+b").close()  # a file that its owner made read-only is not replaced
    with _partial(path, json.dumps(content, indent=1) + "\n") as partial:
        if not damaged:
            _replace(partial, path)
            return ""
        aside = _free_name(path)
        path.rename(aside)
        _replace(partial, path)
    return f"{path} was damaged or no passport; it is kept as {aside.name}, and a new one is begun"


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.set-aside-{number}{path.suffix}")).exists():
        number += 1
    return aside


@contextmanager
def _partial(path: Path, text: str, mode: int | None = None) -> Iterator[Path]:
    """The text in a file of its own beside ``path``, safe on the disk; gone afterwards, unless it was renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "x", encoding="utf-8") as file:
            if mode is not None:
                partial.chmod(mode)
            elif path.exists():
                shutil.copymode(path, partial)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        with suppress(OSError):
            partial.unlink()


def _replace(partial: Path, path: Path) -> None:
    """Put a file in the place of another. On Windows somebody who reads it holds it for a moment."""
    for wait in (0.01, 0.05, 0.1, 0.2, 0.5):
        try:
            return os.replace(partial, path)
        except PermissionError:
            time.sleep(wait)
    os.replace(partial, path)


def lock_file(path: Path) -> Path:
    """The file by which notebooks tell each other that one of them is writing."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else writes meanwhile. Raises OSError if somebody holds the lock for too long.

    Where a lock cannot be had at all, as on some network drives, writing goes on without one.
    """
    lock = FileLock(lock_file(path))
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.01)
    except Timeout:
        raise OSError(errno.EBUSY, "another notebook is writing it and does not end") from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
