"""Exercises in notebooks: a stub is filled in, checked at once, and used from there on.

    @exercise("symlog")
    def symlog(x):
        ...

A stub, which does nothing but wait, is quietly replaced by the reference, the package's own object; an attempt that
passes every check is used; one that does not says what is wrong, and the reference stands in, so that later cells
run. ``hint``, ``show_solution`` and ``reset`` help. The passport keeps what passed, and a stub takes it from there in
later notebooks: see ``own_parts.py``. The variable COURSE_EXERCISES is empty for learners;
``strict`` raises unless every attempt passes, ``reference`` uses the references throughout.
"""

from __future__ import annotations

import ast
import html
import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer_helpers.course import attempts, judging, passport
from dreamer_helpers.course.attempts import Anchor, Found
from dreamer_helpers.course.checking import Cases, checks_of
from dreamer_helpers.course.lessons import lesson_modules
from dreamer_helpers.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Exercise:
    """One exercise: its reference is the package's own object, its checks raise AssertionError on an attempt.

    ``minutes`` is what a learner may need. ``slot`` names the field of the agent's ``Parts`` that the exercise fills,
    empty for one that has no place in the agent. ``methods`` names the methods of a class that are to be written, and
    ``uses`` the exercises that an attempt may call.
    """

    name: str
    lesson: str
    reference: Any
    checks: tuple[Cases | Callable[[Any], None], ...]
    hints: tuple[str, ...]
    minutes: int
    slot: str
    methods: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def yours(self) -> str:
        """Whose a learner's part is, wherever it is named."""
        return f"yours, from lesson {self.lesson}"


REGISTRY: dict[str, Exercise] = {}
"""All exercises, by name: :func:`load_lessons` fills it."""


def register(*exercises: Exercise) -> None:
    """Add exercises. Raises ValueError for a name that is taken."""
    for entry in exercises:
        if entry.name in REGISTRY:
            raise ValueError(f"there is an exercise {entry.name!r} already")
        REGISTRY[entry.name] = entry


def load_lessons() -> None:
    """Import the exercises of every lesson's folder, which register themselves."""
    lesson_modules("exercises")


def find(name: str) -> Exercise:
    """The exercise of this name. Raises UserError for another name."""
    load_lessons()
    if name not in REGISTRY:
        raise UserError(f"no exercise {name!r}{did_you_mean(name, REGISTRY)}; there are {', '.join(REGISTRY)}")
    return REGISTRY[name]


def _asked(given: Any, call: str) -> Exercise:
    """The exercise that a learner means, who may have given the function for its name; a line then says how to."""
    if isinstance(given, str):
        return find(given)
    load_lessons()
    same = [name for name, own in TAKEN.items() if own is given]
    for name in [*same, getattr(given, "__name__", "")]:
        if name in REGISTRY:
            print(f'{call}("{name}") is how it is written, with the name in quotes.')
            return REGISTRY[name]
    raise UserError(f'give the name of the exercise, in quotes: {call}("{next(iter(REGISTRY))}")')


# ------------------------------------------------------------------------------------------------- attempts


@dataclass
class Verdict:
    """What became of an attempt: ``todo``, ``kept``, ``passed`` or ``wrong``. Shows itself as text and as HTML.

    ``message`` says what is wrong, or what is worth knowing of what is right; ``source`` is for the passport.
    """

    name: str
    state: str
    message: str = ""
    source: str = ""

    @property
    def line(self) -> str:
        """The first line, always the same for the same state."""
        kept = REGISTRY[self.name].yours if self.state == "kept" else ""
        words = {
            "todo": "not attempted yet; the course's own is used",
            "kept": f"{kept}, is used",
            "passed": "right; yours is used from here on",
            "wrong": "not right yet; the course's own is used",
        }
        return f"exercise {self.name}: {words[self.state]}"

    def __repr__(self) -> str:
        lines = [self.line, *([self.message] if self.message else [])]
        if self.state == "wrong":
            lines.append(f"hint({self.name!r}) gives a hint, show_solution({self.name!r}) the answer.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        colour = {"todo": "138,138,138", "kept": "0,158,115", "passed": "0,158,115", "wrong": "213,94,0"}[self.state]
        sign = {"todo": "&#9675;", "kept": "&#10003;", "passed": "&#10003;", "wrong": "&#10007;"}[self.state]
        rest = "".join(f"<div>{html.escape(line)}</div>" for line in repr(self).splitlines()[1:])
        return (
            f'<div role="status" style="border-left:4px solid rgb({colour});background:rgba({colour},.12);'
            f'padding:.4em .9em">{sign} <b>{html.escape(self.line)}</b>{rest}</div>'
        )


STATES: dict[str, str] = {}  # name -> state, of what this notebook has met
HINTS_SEEN: dict[str, int] = {}
TAKEN: dict[str, Any] = {}
"""What :func:`exercise` gave back, by name."""
OPENED: list[Path] = []
"""The passport that this notebook asked for, if it did."""
KEPT: dict[str, Callable[[], Any]] = {}
"""What passed here, or was found in the passport by ``own_parts.take_up``: each gives the part, checked, or None."""


def exercise(name: str) -> Callable[[Any], Any]:
    """Decorate a stub or an attempt; gives back what later cells are to use. Raises UserError for an unknown name.

    In a notebook the name stands for the course's own from the first moment, so that it does so too if the cell ends in
    an error before the attempt is there.
    """
    anchor = Anchor.of_frame(sys._getframe(1))
    if not isinstance(name, str):
        return _without_a_name(name)
    entry, mode = find(name), _mode()
    _bind(entry, entry.reference, "todo", anchor)

    def judge(attempt: Any) -> Any:
        verdict, result = Verdict(name, "todo"), entry.reference
        try:
            if mode != "reference":
                verdict, result = _judged(entry, attempt, anchor)
        except KeyboardInterrupt:
            verdict = Verdict(name, "wrong", "the check was interrupted")
        taken = result if verdict.state in ("passed", "kept") else entry.reference
        _bind(entry, taken, verdict.state, anchor)
        _show(verdict)
        if mode == "strict" and verdict.state != "passed":
            raise AssertionError(repr(verdict))
        if verdict.state == "passed" and OPENED and not mode:  # for a stub that is run again
            KEPT[name] = lambda: attempt
        if verdict.state == "passed" and verdict.source and (note := passport.keep(name, verdict.source)):
            print(note)
        return result

    return judge


def _mode() -> str:
    mode = os.environ.get("COURSE_EXERCISES", "")
    if mode not in ("", "strict", "reference"):
        raise UserError(f"COURSE_EXERCISES must be empty, strict or reference, not {mode!r}")
    return mode


def from_passport(entry: Exercise) -> tuple[Verdict, Any]:
    """What a stub stands for: the learner's part of an earlier notebook, else the course's own."""
    kept = KEPT[entry.name]() if entry.name in KEPT else None
    if kept is None:
        return Verdict(entry.name, "todo"), entry.reference
    return Verdict(entry.name, "kept"), kept


def _bind(entry: Exercise, value: Any, state: str, anchor: Anchor | None) -> None:
    STATES[entry.name], TAKEN[entry.name] = state, value
    if anchor is not None:
        anchor.names[entry.name] = value


def _without_a_name(attempt: Any) -> Any:
    """``@exercise`` without brackets: it is told, and the course's own is used."""
    load_lessons()
    name = getattr(attempt, "__name__", "")
    if name not in REGISTRY:
        raise UserError(f'write the name of the exercise behind it: @exercise("{next(iter(REGISTRY))}")')
    verdict = Verdict(name, "wrong", f'The name is missing: write @exercise("{name}") above it.')
    _bind(REGISTRY[name], REGISTRY[name].reference, "wrong", None)
    _show(verdict)
    if _mode() == "strict":
        raise AssertionError(repr(verdict))
    return REGISTRY[name].reference


def _judged(entry: Exercise, attempt: Any, anchor: Anchor | None) -> tuple[Verdict, Any]:
    """The verdict on an attempt, and what the name that it was given is to stand for."""
    found = attempts.find(attempt, entry.name, anchor, entry.reference)
    if found.defined not in ("", entry.name):
        text = f"This cell defines `{found.defined}`, and the exercise is `{entry.name}`: name it so."
        other = REGISTRY.get(found.defined)
        return Verdict(entry.name, "wrong", text), other.reference if other else attempt
    if attempt is entry.reference or attempts.waits(found, entry.methods):
        return from_passport(entry)
    verdict = check(entry, attempt, anchor, found)
    if verdict.state == "todo":
        return from_passport(entry)
    return verdict, attempt if verdict.state == "passed" else entry.reference


def check(entry: Exercise, attempt: Any, anchor: Anchor | None = None, found: Found | None = None) -> Verdict:
    """Run all checks on an attempt, and once more on its source in a clean namespace, as the passport will have it."""
    checks = checks_of(entry.checks, entry.reference)  # expected values, before anything of the learner's runs
    found = found or attempts.find(attempt, entry.name, anchor, entry.reference)
    if found.copied:
        text = f"It calls the course's own {entry.name}, as `{found.copied}`; write it yourself."
        return Verdict(entry.name, "wrong", text)
    with _known_as(entry.name, attempt, anchor or Anchor.of_object(attempt)):
        outcome = judging.hold(entry.name, attempt, checks, entry.uses, reference=entry.reference)
    if outcome.wrong:
        if attempts.has_gaps_alone(found):
            return Verdict(entry.name, "todo")
        return Verdict(entry.name, "wrong", " ".join([_sentence(outcome.wrong), attempts.leftover(found)]).strip())
    source, missing = found.source or "", found.missing
    if source:
        again = once_more(entry, source)[0]
        missing = "" if again.state == "passed" else f"by itself it does not work: {again.message}"
    if missing:
        source = ""
        outcome.remarks.append(
            f"It works in this notebook; for your passport it cannot be kept, as {missing.rstrip('.')}. Define what it "
            "uses in its cell, or inside of it."
        )
    return Verdict(entry.name, "passed", "\n".join(outcome.remarks), source)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


class _known_as:
    """Inside, the name of an exercise stands for the attempt, as it will afterwards."""

    def __init__(self, name: str, attempt: Any, anchor: Anchor | None):
        self.name, self.attempt, self.names = name, attempt, anchor.names if anchor else {}

    def __enter__(self) -> None:
        self.known, self.before = self.name in self.names, self.names.get(self.name)
        self.names[self.name] = self.attempt

    def __exit__(self, *_: object) -> None:
        if self.known:
            self.names[self.name] = self.before
        else:
            del self.names[self.name]


def rebuild(entry: Exercise, source: str) -> Any:
    """An attempt made anew from its source, knowing only torch, numpy, and the exercises that it may use."""
    return attempts.rebuild(entry.name, source, {name: find(name).reference for name in entry.uses})


def once_more(entry: Exercise, source: str) -> tuple[Verdict, Any]:
    """A source from the passport, made anew and checked: the verdict, and the piece (None if it cannot be made)."""
    piece, wrong = judging.guarded(lambda: rebuild(entry, source))
    if wrong:
        return Verdict(entry.name, "wrong", _sentence(wrong)), None
    checks = checks_of(entry.checks, entry.reference)
    outcome = judging.hold(entry.name, piece, checks, entry.uses, reference=entry.reference)
    return Verdict(entry.name, "wrong" if outcome.wrong else "passed", outcome.wrong, source), piece


def is_stub(attempt: Any, methods: Iterable[str] = ()) -> bool:
    """Whether something is still to be written: it does nothing else than wait.

    For a class, ``methods`` names those that are to be written; by default all of its own but ``__init__``.
    """
    return attempts.waits(attempts.find(attempt, getattr(attempt, "__name__", "")), methods)


# ------------------------------------------------------------------------------------------------- help


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last, all of them."""
    entry = _asked(name, "hint")
    seen = HINTS_SEEN.get(entry.name, 0)
    if seen >= len(entry.hints):
        print(f"All {len(entry.hints)} hints for {entry.name}:", *entry.hints, sep="\n* ")
        return
    HINTS_SEEN[entry.name] = seen + 1
    print(f"Hint {seen + 1} of {len(entry.hints)}: {entry.hints[seen]}")


def show_solution(name: str) -> Any:
    """The reference's source with all that it needs, folded."""
    entry = _asked(name, "show_solution")
    return Solution(entry.name, reference_source(entry))


@dataclass
class Solution:
    """A folded piece of source."""

    name: str
    source: str

    def __repr__(self) -> str:
        return self.source

    def _repr_html_(self) -> str:
        body = html.escape(self.source)
        return f"<details><summary>solution of {html.escape(self.name)}</summary><pre>{body}</pre></details>"


class _Solution(attempts.Slice):
    """What a reference needs: helpers of its own module as source, other exercises and modules by import."""

    def _define(self, name: str, value: Any) -> None:
        home = self.place.names["__name__"]
        if getattr(value, "__module__", None) != home or getattr(value, "__name__", "") in REGISTRY:
            super()._define(name, value)
            return
        source = textwrap.dedent(inspect.getsource(value))
        self.need(source, {name})
        self.texts.append(f"{source}\n")

    def _before(self) -> Iterator[tuple[str, list[ast.stmt]]]:
        yield self.text, ast.parse(self.text).body  # constants and names of types, wherever they stand in the module


def reference_source(entry: Exercise, above: str = "") -> str:
    """The reference as a cell could hold it: imports, helpers of its module, and itself, below the line ``above``."""
    body = textwrap.dedent(inspect.getsource(entry.reference))
    module = inspect.getmodule(entry.reference)
    place = Anchor(str(inspect.getsourcefile(entry.reference)), 0, vars(module))
    parts = _Solution(place, inspect.getsource(module), None, {entry.reference.__name__}, annotations=True)
    parts.need(body)
    imports = "\n".join(
        sorted(parts.imports, key=lambda line: ("dreamer_helpers" in line, line.startswith("from"), line))
    )
    texts = [*([f"{imports}\n"] if imports else []), *(text.rstrip() + "\n" for text in parts.texts)]
    return "\n\n".join([*texts, f"{above}\n{body}" if above else body])


def reset(name: str) -> None:
    """Forget that an exercise was solved, here and in the passport."""
    entry = _asked(name, "reset")
    for memory in (STATES, HINTS_SEEN, TAKEN, KEPT):
        memory.pop(entry.name, None)
    print(passport.forget(entry.name) or f"exercise {entry.name}: forgotten; write it again and run its cell")


# ---------------------------------------------------------------------------------------- the scoreboard


OURS = "the course's"


@dataclass
class Board:
    """Whose code runs, for each of some exercises, and in the whole course."""

    rows: list[tuple[str, str]]
    whole: str = ""

    def __repr__(self) -> str:
        mine = sum(whose != OURS for _, whose in self.rows)
        lines = [f"{name:<24}{whose}" for name, whose in self.rows]
        return "\n".join([f"{mine} of {len(self.rows)} parts are yours", *lines, *[self.whole][: bool(self.whole)]])


def scoreboard(lesson: str = "") -> Board:
    """Whose code runs in a lesson, such as "01", and how many parts of the whole course are yours; "" shows them all.

    Raises UserError for a lesson without exercises.
    """
    load_lessons()
    entries = [entry for entry in REGISTRY.values() if lesson in ("", entry.lesson)]
    if not entries:
        raise UserError(f"no lesson {lesson!r} with exercises; scoreboard() shows those of all lessons")
    for entry in entries:
        if not here(entry.name) and whose(entry) != OURS:
            KEPT[entry.name]()  # checked, and no more there if it does not pass
    return Board([(entry.name, whose(entry)) for entry in entries], _whole() if lesson else "")


def whose(entry: Exercise) -> str:
    """Whose part runs in this notebook: an attempt that failed leaves the course's."""
    if here(entry.name):
        return "yours"
    kept = entry.name in KEPT and STATES.get(entry.name) != "wrong"
    return entry.yours if kept else OURS


def here(name: str) -> bool:
    """Whether an attempt passed in this notebook."""
    return STATES.get(name) == "passed"


def _whole() -> str:
    states = [whose(entry) for entry in REGISTRY.values()]
    mine, kept = sum(state != OURS for state in states), sum(state not in (OURS, "yours") for state in states)
    more = f", {kept} of them from your passport" if kept else ""
    return f"in the whole course {mine} of {len(states)} parts are yours{more}{closed()}"


def closed() -> str:
    return "" if OPENED or passport.by_machine() else "; course.setup(passport=True) looks into your passport"


def _show(verdict: Verdict) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(verdict)
        return
    display(verdict) if get_ipython() else print(verdict)
