"""What a notebook takes up from the learner's passport.

A notebook asks for the passport once, in its first cell: ``course.setup(passport=True)``. From there on a stub that
was not touched takes the learner's own part, and ``course.part("symlog")`` gives it to a later lesson. Each is made
anew from its source and checked once more when it is first used. What came from elsewhere waits for ``course.trust()``.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from dreamer_helpers.course.exercises import (
    KEPT,
    OPENED,
    OURS,
    REGISTRY,
    TAKEN,
    Exercise,
    closed,
    find,
    here,
    load_lessons,
    once_more,
    whose,
)
from dreamer_helpers.course.passport import Passport, by_machine
from dreamer_helpers.errors import UserError

FOREIGN = "it came from elsewhere; course.trust() shows it"
SHOWN: dict[str, str] = {}
"""The foreign sources that the learner has been shown, by name."""


# ---------------------------------------------------------------------------------- what is taken up


def take_up() -> str:
    """Use the learner's passport in this notebook from here on. Returns a line, or two, that name what is in it."""
    KEPT.clear()
    OPENED.clear()
    if by_machine():
        return "no passport is used"
    try:
        passport = Passport.load()
    except UserError as error:
        return f"your passport is not used: {error}"
    OPENED.append(passport.path)
    load_lessons()
    mine, waiting = passport.own(), passport.foreign()
    for name in REGISTRY:
        if name in mine:
            _take(name, mine[name])
    lines = [f"from your passport: {by_lesson(list(KEPT))}" if KEPT else "your passport holds no parts yet"]
    if unknown := sorted(set(mine) - set(REGISTRY)):
        lines.append(f"kept for another version of the course: {', '.join(unknown)}")
    if waiting:
        lines.append(f"not used, as it came from elsewhere: {', '.join(waiting)}; course.trust() shows the source")
    return "\n".join(lines)


def by_lesson(names: list[str]) -> str:
    """These exercises with their lessons: "symlog, symexp (lesson 01), two_hot_mean (lesson 02)"."""
    lessons: dict[str, list[str]] = {}
    for name in names:
        lessons.setdefault(REGISTRY[name].lesson, []).append(name)
    return ", ".join(f"{', '.join(lessons[lesson])} (lesson {lesson})" for lesson in sorted(lessons))


def _take(name: str, source: str) -> None:
    KEPT[name] = cache(partial(_checked, REGISTRY[name], source))


def _checked(entry: Exercise, source: str) -> Any:
    """The learner's part; None, with a line that says why, if it does not pass any more."""
    verdict, piece = once_more(entry, source)
    if verdict.state == "passed":
        return piece
    KEPT.pop(entry.name, None)
    print(f"{entry.name}: yours does not pass any more, the course's own is used. {verdict.message}")
    return None


def part(name: str) -> Any:
    """The part of this name that is in use; prints whose it is. Raises UserError for another name."""
    entry = find(name)
    piece = TAKEN[name] if here(name) else None
    if piece is None and whose(entry) != OURS:
        piece = KEPT[name]()
    if piece is not None:
        print(f"{name}: {entry.yours}")
        return piece
    print(f"{name}: {OURS}{closed()}")
    return entry.reference


def own_pieces(path: str | Path | None = None) -> dict[str, tuple[str, Any, str]]:
    """What a learner has written: for each exercise its slot, the piece, and whose it is or why not.

    Every source in the passport is made anew and checked once more. The piece is None where it does not pass, where the
    course knows no such exercise, and where it has no place in the agent. Without ``path`` it is the learner's own
    passport, and what passed in this notebook comes first. Raises UserError if the file at ``path`` is no passport.
    """
    load_lessons()
    passed = {} if path else {name: _placed(REGISTRY[name], TAKEN[name]) for name in filter(here, TAKEN)}
    if by_machine() and not path:
        return passed
    try:
        passport = Passport.load(path)
    except UserError as error:
        if path:
            raise
        return passed | {"passport": ("", None, f"left out: {error}")}
    mine = passport.own() | (passport.unsealed() if path else {})
    there = {name: _piece(name, mine.get(name)) for name in passport.sources if name not in passed}
    return passed | there


def _piece(name: str, source: str | None) -> tuple[str, Any, str]:
    entry = REGISTRY.get(name)
    if entry is None:
        return "", None, "left out: this course has no such exercise"
    if source is None:
        return entry.slot, None, f"left out: {FOREIGN}"
    verdict, piece = once_more(entry, source)
    if verdict.state != "passed":
        return entry.slot, None, f"left out: it does not pass any more. {verdict.message}"
    return _placed(entry, piece)


def _placed(entry: Exercise, piece: Any) -> tuple[str, Any, str]:
    if not entry.slot:
        return "", None, f"{entry.yours}; it has no place in the agent"
    return entry.slot, piece, entry.yours


# ---------------------------------------------------------------------------------- what came from elsewhere


@dataclass
class Sources:
    """Pieces of source to look at, folded."""

    sources: dict[str, str]
    line: str

    def __repr__(self) -> str:
        return "\n\n".join([*(f"# {name}\n{source}" for name, source in self.sources.items()), self.line])

    def _repr_html_(self) -> str:
        folded = (
            f"<details><summary>{html.escape(name)}</summary><pre>{html.escape(source)}</pre></details>"
            for name, source in self.sources.items()
        )
        return f'{"".join(folded)}<div role="status">{html.escape(self.line)}</div>'


def trust(*names: str) -> Sources:
    """See :func:`dreamer_helpers.course.trust`."""
    passport = Passport.load()
    foreign, mine = passport.foreign(), passport.own()
    wanted = {name: foreign.get(name, "") for name in names or [name for name in foreign if name not in mine]}
    if by_machine() or not wanted:
        held = [name for name in foreign if name in mine]
        return Sources({}, f"nothing is taken{_instead(held)}")
    if unknown := [name for name in wanted if name not in foreign or name not in REGISTRY]:
        raise UserError(f"nothing waits for an exercise {unknown[0]!r}; there are {', '.join(foreign) or 'none'}")
    if any(SHOWN.get(name) != source for name, source in wanted.items()):
        SHOWN.update(wanted)
        call = ", ".join(map(repr, names))
        return Sources(
            wanted, f"This was not written here. Read it; course.trust({call}), called again, runs and takes it."
        )
    return Sources({}, "\n".join(_trusted(passport, name, source) for name, source in wanted.items()))


def _instead(held: list[str]) -> str:
    return f"; yours are kept. course.trust({held[0]!r}) puts the other one in the place of yours" if held else ""


def _trusted(passport: Passport, name: str, source: str) -> str:
    verdict, _ = once_more(REGISTRY[name], source)
    if verdict.state != "passed":
        return f"{name}: it does not pass and is not taken. {verdict.message}"
    _take(name, source)
    try:
        return f"{name}: taken; it is used from here on. {passport.trust([name])}".rstrip()
    except UserError as error:
        return f"{name}: it is used, but that is not kept: {error}"
