"""Exercises in notebooks: a stub is filled in, checked at once, and used from there on.

    @exercise("symlog")
    def symlog(x):
        ...

A stub that was not touched is quietly replaced by the reference, which is the package's own object; an attempt that
passes every check is used; one that does not says what is wrong, and the reference stands in, so that later cells
run. ``hint``, ``show_solution`` and ``reset`` help. The passport keeps what passed, and a stub takes it from there in
later notebooks: see ``board.py``, which also says whose code runs. The variable COURSE_EXERCISES is empty for learners;
``strict`` raises unless every attempt passes, ``reference`` uses the references throughout.
"""

from __future__ import annotations

import ast
import builtins
import html
import inspect
import linecache
import os
import re
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dreamer_helpers.course import passport
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
    checks: tuple[Callable[[Any], None], ...]
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


# ------------------------------------------------------------------------------------------------- attempts


@dataclass
class Verdict:
    """What became of an attempt: ``todo``, ``kept``, ``passed`` or ``wrong``. Shows itself as text and as HTML."""

    name: str
    state: str
    message: str = ""

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
        if self.state != "wrong":
            return self.line
        return (
            f"{self.line}\n{self.message}\nhint({self.name!r}) gives a hint, show_solution({self.name!r}) the answer."
        )

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
KEPT: dict[str, Callable[[], Any]] = {}
"""What ``board.take_up`` found in the learner's passport: each gives the part, checked once more, or None."""


def exercise(name: str) -> Callable[[Any], Any]:
    """Decorate a stub or an attempt; gives back what later cells are to use. Raises UserError for an unknown name."""
    entry, mode = find(name), os.environ.get("COURSE_EXERCISES", "")
    if mode not in ("", "strict", "reference"):
        raise UserError(f"COURSE_EXERCISES must be empty, strict or reference, not {mode!r}")

    def judge(attempt: Any) -> Any:
        taken = entry.reference
        if mode == "reference":
            verdict = Verdict(name, "todo")
        elif is_stub(attempt, entry.methods):
            verdict, taken = from_passport(entry)
        else:
            verdict = check(entry, attempt)
            taken = attempt if verdict.state == "passed" else entry.reference
        STATES[name], TAKEN[name] = verdict.state, taken
        _show(verdict)
        if mode == "strict" and verdict.state != "passed":
            raise AssertionError(repr(verdict))
        if verdict.state == "passed" and (note := passport.keep(name, _source(attempt) or "")):
            print(note)
        return taken

    return judge


def from_passport(entry: Exercise) -> tuple[Verdict, Any]:
    """What a stub stands for: the learner's part of an earlier notebook, else the course's own."""
    kept = KEPT[entry.name]() if entry.name in KEPT else None
    if kept is None:
        return Verdict(entry.name, "todo"), entry.reference
    return Verdict(entry.name, "kept"), kept


def check(entry: Exercise, attempt: Any) -> Verdict:
    """Run all checks on an attempt, and once more on its source in a clean namespace."""
    verdict = _run(entry, attempt)
    source = _source(attempt)
    if verdict.state != "passed" or source is None:
        return verdict
    try:
        alone = rebuild(entry, source)
    except Exception as error:
        return Verdict(entry.name, "wrong", f"It works here, but not by itself: {_describe(error)}.")
    again = _run(entry, alone)
    if again.state != "passed":
        again.message = f"It works here, but not by itself. {again.message}"
        if missing := re.search(r"name '(\w+)' is not defined", again.message):
            again.message += f" Define or import {missing[1]} inside of it."
    return again


def _run(entry: Exercise, attempt: Any) -> Verdict:
    for one in entry.checks:
        try:
            one(attempt)
        except AssertionError as error:
            return Verdict(entry.name, "wrong", str(error))
        except Exception as error:  # whatever a learner's code may raise
            return Verdict(entry.name, "wrong", f"It raised an error: {_describe(error, attempt)}.")
    return Verdict(entry.name, "passed")


def _describe(error: Exception, attempt: Any = None) -> str:
    text = f"{type(error).__name__}: {error}".rstrip(". ")
    names = {getattr(attempt, "__name__", "")} | set(vars(attempt) if inspect.isclass(attempt) else ())
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.name in names and frame.line:
            return f"{text}, in the line `{frame.line}`"
    return text


def rebuild(entry: Exercise, source: str) -> Any:
    """An attempt made anew from its source, knowing only torch, numpy, the module that its reference is from, and the
    exercises that it may use."""
    import math

    import numpy as np
    import torch
    import torch.nn.functional as F

    package = vars(inspect.getmodule(entry.reference)).items()
    space: dict[str, Any] = {name: value for name, value in package if name not in (entry.name, "__name__")}
    space |= {"__name__": "learner", "torch": torch, "np": np, "math": math, "F": F, "nn": torch.nn}
    space |= {"Tensor": torch.Tensor, "exercise": lambda _: lambda attempt: attempt, "__builtins__": builtins}
    space |= {name: find(name).reference for name in entry.uses}
    file = f"<passport {entry.name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    exec(compile("from __future__ import annotations\n" + source, file, "exec"), space)
    return space[ast.parse(source).body[0].name]  # type: ignore[attr-defined]


def once_more(entry: Exercise, source: str) -> tuple[Verdict, Any]:
    """A source from the passport, made anew and checked: the verdict, and the piece (None if it cannot be made)."""
    try:
        piece = rebuild(entry, source)
    except Exception as error:  # whatever a learner's code may raise
        return Verdict(entry.name, "wrong", f"It raised an error: {_describe(error)}."), None
    return _run(entry, piece), piece


# ------------------------------------------------------------------------------------------------- stubs


def is_stub(attempt: Any, methods: Iterable[str] = ()) -> bool:
    """Whether something is still to be written: ``...`` as a statement or value, or NotImplementedError raised.

    For a class, ``methods`` names those that are to be written; by default any of its own.
    """
    source = _source(attempt)
    if source is None:
        raise UserError("the source of this attempt cannot be found; run its cell again")
    (node,) = ast.parse(source).body
    if isinstance(node, ast.ClassDef):
        wanted = set(methods)
        found = [f for f in node.body if isinstance(f, ast.FunctionDef) and (not wanted or f.name in wanted)]
        return not found or any(_has_hole(function) for function in found)
    return _has_hole(node)


def _has_hole(function: ast.AST) -> bool:
    return any(_is_hole(node) for node in ast.walk(function)) or _is_empty(function)


def _is_hole(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    value = (
        getattr(node, "value", None) if isinstance(node, (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)) else None
    )
    return isinstance(value, ast.Constant) and value.value is Ellipsis


def _is_empty(function: ast.AST) -> bool:
    """Nothing but a docstring and ``pass``."""
    body = getattr(function, "body", [])
    return all(isinstance(n, ast.Pass) or (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)) for n in body)


def _source(attempt: Any) -> str | None:
    """The source of a function or class from a cell or a file, without decorators; None if it is nowhere."""
    text = _class_source(attempt) if inspect.isclass(attempt) else None
    if text is None:
        try:
            text = inspect.getsource(inspect.unwrap(attempt))
        except (OSError, TypeError):
            return None
    tree = ast.parse(textwrap.dedent(text))
    node = tree.body[0]
    lines = textwrap.dedent(text).splitlines()[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines) + "\n"


def _class_source(attempt: type) -> str | None:
    """A class defined in a cell: before Python 3.13, inspect does not find it, so one of its methods leads there."""
    for function in vars(attempt).values():
        if not inspect.isfunction(function):
            continue
        text = "".join(linecache.getlines(function.__code__.co_filename))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == attempt.__name__:
                line = function.__code__.co_firstlineno
                if node.lineno <= line <= (node.end_lineno or 0):
                    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    return None


# ------------------------------------------------------------------------------------------------- help


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last, all of them."""
    entry = find(name)
    seen = HINTS_SEEN.get(name, 0)
    if seen >= len(entry.hints):
        print(f"All {len(entry.hints)} hints for {name}:", *entry.hints, sep="\n* ")
        return
    HINTS_SEEN[name] = seen + 1
    print(f"Hint {seen + 1} of {len(entry.hints)}: {entry.hints[seen]}")


def show_solution(name: str) -> Any:
    """The reference's source, folded."""
    return Solution(name, reference_source(find(name)))


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


def reference_source(entry: Exercise) -> str:
    """The reference as a cell could hold it: its source, after imports of what it takes from its own module."""
    source = textwrap.dedent(inspect.getsource(entry.reference))
    module = inspect.getmodule(entry.reference)
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    own = [n for n in sorted(used) if getattr(vars(module).get(n), "__module__", None) == module.__name__]
    lines = [f"from {module.__name__} import {n}" for n in own if n != entry.reference.__name__]
    if "Tensor" in used:
        lines.append("from torch import Tensor")
    return "\n".join([*lines, "", "", source] if lines else [source])


def reset(name: str) -> None:
    """Forget that an exercise was solved, here and in the passport."""
    entry = find(name)
    for memory in (STATES, HINTS_SEEN, TAKEN, KEPT):
        memory.pop(entry.name, None)
    print(passport.forget(entry.name) or f"exercise {name}: forgotten; write it again and run its cell")


def _show(verdict: Verdict) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(verdict)
        return
    display(verdict) if get_ipython() else print(verdict)
