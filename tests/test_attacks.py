"""Attempts by somebody who did not write the checks: no wrong one is taken, no right one is turned down.

Each file ``attacks/lesson_NN.json`` holds attempts on the exercises of a lesson, by name and by label: ``wrong`` ones
(the body of the function, below the parameters in ``signatures``, or a whole cell) and ``correct`` ones (a ``cell``,
and a ``setup``, the cell before it, or null). They are run in the cells of an IPython shell, as a notebook does it. A
wrong attempt whose label begins with "endless" is stopped by the check after its time, and runs with the slow tests.
"""

from __future__ import annotations

import _thread
import json
import os
import random
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from traitlets.config import Config

from dreamer_helpers.course import exercises
from dreamer_helpers.course.passport import Passport
from helpers import restart

ATTACKS = Path(__file__).parent / "attacks"
AT_LEAST = {"wrong": 10, "correct": 6}
PATIENCE = 60.0
"""Seconds after which an attempt that the check does not stop is interrupted here."""
PRELUDE = """
import math
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from dreamer_helpers import course
from dreamer_helpers.course.exercises import exercise, hint, reset, scoreboard, show_solution
from dreamer_helpers.symlog import symexp, symlog, two_hot_encoding
"""
"""What the first cells of the lessons bring, and the parts that lesson 02 builds upon."""

exercises.load_lessons()
NAMES = list(exercises.REGISTRY)


class Attempt(NamedTuple):
    """One attempt: its cell, and the cell before it ("" for none)."""

    label: str
    cell: str
    setup: str = ""

    @property
    def endless(self) -> bool:
        return self.label.startswith("endless")


def attacks(lesson: str) -> dict[str, dict[str, Any]]:
    """The file of a lesson; empty if there is none."""
    path = ATTACKS / f"lesson_{lesson}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def attempts_on(name: str, kind: str) -> list[Attempt]:
    """The attempts of a kind, ``wrong`` or ``correct``, on an exercise."""
    file = attacks(exercises.REGISTRY[name].lesson)
    found = file.get(kind, {}).get(name, {})
    if kind == "correct":
        return [Attempt(label, entry["cell"], entry["setup"] or "") for label, entry in found.items()]
    return [Attempt(label, cell_of(name, body, file["signatures"][name])) for label, body in found.items()]


def cell_of(name: str, body: str, parameters: str) -> str:
    """The cell of an attempt, of which a file holds the body alone or all."""
    if "exercise(" in body:
        return body
    return f'@exercise("{name}")\ndef {name}({parameters}):\n{textwrap.indent(body, "    ")}\n'


# ------------------------------------------------------------------------------------ what belongs to everybody


PLACES: tuple[ModuleType | type, ...] = (torch, torch.Tensor, nn.functional, torch.testing, nn.Module)
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the tracking of gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the random numbers of torch": (lambda: tuple(torch.get_rng_state().tolist()), lambda state: torch.set_rng_state(
        torch.tensor(state, dtype=torch.uint8))),
    "the random numbers of numpy": (lambda: repr(np.random.get_state()), lambda state: None),
    "the random numbers of Python": (random.getstate, random.setstate),
    "the filters of warnings": (lambda: list(warnings.filters), lambda filters: None),
}  # fmt: skip


def by_torch_itself(name: str, value: Any) -> bool:
    """Whether torch put it there: a part that loads itself when it is needed, or a wrapper around what was there."""
    torchs = str(getattr(value, "__module__", "")).startswith("torch")
    return isinstance(value, ModuleType) or (torchs and getattr(value, "__name__", "") == name)


class World:
    """The settings and the functions of torch as they are now; ``put_back`` names what has changed since."""

    def __init__(self) -> None:
        self.settings = {name: read() for name, (read, _) in SETTINGS.items()}
        self.places = {place: dict(vars(place)) for place in PLACES}

    def put_back(self) -> list[str]:
        changed = []
        for name, (read, write) in SETTINGS.items():
            if read() != self.settings[name]:
                changed.append(name)
                write(self.settings[name])
        for place, before in self.places.items():
            for name, value in list(vars(place).items()):
                if value is before.get(name) or name.startswith("__") or by_torch_itself(name, value):
                    continue
                changed.append(f"{place.__name__}.{name}")
                setattr(place, name, before[name]) if name in before else delattr(place, name)
        return changed


# ------------------------------------------------------------------------------------------------ the notebook


def passport_file() -> Path:
    return Path(os.environ["COURSE_PASSPORT"])


@contextmanager
def patience() -> Iterator[list[bool]]:
    """Interrupt what runs inside after :data:`PATIENCE`; the list is then no longer empty."""
    stopped: list[bool] = []

    def stop() -> None:
        stopped.append(True)
        _thread.interrupt_main()

    timer = threading.Timer(PATIENCE, stop)
    timer.start()
    try:
        yield stopped
    finally:
        timer.cancel()


class Outcome(NamedTuple):
    """What became of an attempt: whether its name stands for it, what was said, and what it left changed."""

    taken: bool
    said: str
    faults: list[str]


class Kernel:
    """An IPython shell that has run the first cells of a lesson; what it shows and prints is kept."""

    def __init__(self) -> None:
        InteractiveShell.clear_instance()
        quiet = Config()
        quiet.HistoryManager.enabled = False
        self.shell = InteractiveShell.instance(config=quiet)
        self.shell.display_pub = self.shown = CapturingDisplayPublisher()
        self.run(PRELUDE)
        self.names = dict(self.shell.user_ns)

    def run(self, code: str) -> tuple[BaseException | None, str]:
        """The error in which a cell ends, if any, and all that it said."""
        self.shown.outputs.clear()
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                result = self.shell.run_cell(code, store_history=True)
                error = result.error_before_exec or result.error_in_exec
            except BaseException as raised:  # an attempt may raise anything
                error = raised
        shown = [str(output["data"].get("text/plain", "")) for output in self.shown.outputs]
        return error, "\n".join([*shown, printed.getvalue()]).strip()

    def attempt(self, name: str, attempt: Attempt) -> Outcome:
        """Run an attempt in a notebook that knows nothing of the others."""
        restart()
        passport_file().unlink(missing_ok=True)
        self.shell.user_ns.clear()
        self.shell.user_ns.update(self.names)
        self.run(attempt.setup)
        self.shell.user_ns.pop(name, None)
        world = World()
        with patience() as stopped:
            error, said = self.run(attempt.cell)
        faults = [f"it changed {what}" for what in world.put_back()]
        bound, own = self.shell.user_ns.get(name), exercises.REGISTRY[name].reference
        taken = error is None and bound is not None and bound is not own
        wanting = {
            f"it was not stopped within {PATIENCE:.0f} s": bool(stopped),
            "nothing was said": not said,
            "its name does not stand for the course's own": not taken and bound is not own,
            "it is not in the passport, and nobody says why": taken
            and "passport" not in said
            and name not in Passport.load().own(),
        }
        return Outcome(taken, said, faults + [fault for fault, there in wanting.items() if there])


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A notebook with a passport of its own; what it and the shell change is as it was afterwards."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / "passport.json"))
    monkeypatch.delenv("COURSE_EXERCISES", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    yield Kernel()
    InteractiveShell.clear_instance()
    restart()


def misjudged(kernel: Kernel, name: str, attempts: list[Attempt], right: bool) -> list[str]:
    """A line for each attempt on which the verdict is not what it should be, or which left something changed."""
    lines = []
    for attempt in attempts:
        taken, said, faults = kernel.attempt(name, attempt)
        if taken != right:
            faults = ["taken" if taken else "turned down", *faults]
        if faults:
            lines.append(f"{attempt.label}: {'; '.join(faults)}. Said: {said}")
    return lines


@pytest.mark.parametrize("name", NAMES)
def test_no_wrong_attempt_is_taken(name: str, kernel: Kernel) -> None:
    wrong = [attempt for attempt in attempts_on(name, "wrong") if not attempt.endless]
    lines = misjudged(kernel, name, wrong, right=False)
    assert not lines, "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_attempt_without_end_is_stopped(name: str, kernel: Kernel) -> None:
    endless = [attempt for attempt in attempts_on(name, "wrong") if attempt.endless]
    lines = misjudged(kernel, name, endless, right=False)
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_no_right_attempt_is_turned_down(name: str, kernel: Kernel) -> None:
    lines = misjudged(kernel, name, attempts_on(name, "correct"), right=True)
    assert not lines, "\n".join(lines)


def test_every_exercise_is_attacked() -> None:
    missing = []
    for name in NAMES:
        count = {kind: len(attempts_on(name, kind)) for kind in AT_LEAST}
        if any(count[kind] < least for kind, least in AT_LEAST.items()):
            missing.append(f"{name}: {count['wrong']} wrong and {count['correct']} right ones")
    assert not missing, (
        "attempts are missing in tests/attacks/lesson_NN.json; each exercise needs ten wrong ones and six right ones, "
        "by somebody who did not write its checks:\n" + "\n".join(missing)
    )


def test_every_file_of_attacks_is_of_a_lesson_and_its_exercises() -> None:
    for path in ATTACKS.glob("*"):
        lesson = path.stem.removeprefix("lesson_")
        own = {name for name, entry in exercises.REGISTRY.items() if entry.lesson == lesson}
        file = attacks(lesson)
        assert file and set(file) == {"signatures", *AT_LEAST}, f"{path.name} is not read by any test"
        for kind, attempts in file.items():
            assert set(attempts) <= own, f"{path.name}, {kind}: no exercise {set(attempts) - own} in lesson {lesson}"


def test_the_runner_tells_right_from_wrong(kernel: Kernel) -> None:
    """The course's own passes when it is written by the learner, and a world that was changed is noticed."""
    name = NAMES[0]
    stub = Attempt("stub", f'@exercise("{name}")\ndef {name}(*args):\n    ...\n')
    assert not kernel.attempt(name, stub).taken
    solution = exercises.reference_source(exercises.REGISTRY[name], above=f'@exercise("{name}")')
    leaves = "torch.set_default_dtype(torch.float64)\ntorch.relu = torch.abs\ntorch.Tensor.twice = torch.add\n"
    outcome = kernel.attempt(name, Attempt("solution", f"{solution}\n{leaves}"))
    assert outcome.taken, outcome.said
    changed = {"the default dtype", "torch.relu", "Tensor.twice"}
    assert set(outcome.faults) == {f"it changed {what}" for what in changed}
    assert (
        torch.get_default_dtype() == torch.float32
        and torch.relu is not torch.abs
        and not hasattr(torch.Tensor, "twice")
    )
    broken = kernel.attempt(name, Attempt("no Python", f'@exercise("{name}")\ndef {name}(:\n'))
    assert not broken.taken and "does not stand for" in broken.faults[0]
