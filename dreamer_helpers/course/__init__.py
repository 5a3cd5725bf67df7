"""What the notebooks need to be a course: budgets, claims, and one call that prepares the machine.

Each lesson has a folder here, ``lesson_NN``, with what only that lesson needs: ``exercises.py``, ``widgets.py``, and
``data.py``, which makes the files that it ships. Each of the three may be absent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from dreamer_helpers.errors import UserError

T = TypeVar("T")


def budget(full: T, ci: T) -> T:
    """``full``, or ``ci`` where the variable COURSE_BUDGET is ``ci``: continuous integration trains shorter.

    Raises UserError for another value of the variable.
    """
    chosen = os.environ.get("COURSE_BUDGET", "full")
    if chosen not in ("full", "ci"):
        raise UserError(f"COURSE_BUDGET must be full or ci, not {chosen!r}")
    return full if chosen == "full" else ci


def lesson_modules(kind: str) -> dict[str, ModuleType]:
    """Import the module ``kind`` (such as ``exercises``) of every lesson that has it: by number ("01"), in order."""
    folders = [folder for place in __path__ for folder in Path(place).glob("lesson_[0-9][0-9]")]
    numbers = sorted(folder.name.removeprefix("lesson_") for folder in folders)
    paths = {number: f"{__name__}.lesson_{number}.{kind}" for number in numbers}
    return {number: import_module(path) for number, path in paths.items() if find_spec(path)}


class ClaimError(AssertionError):
    """A claim of a lesson does not hold on this machine."""


def claims(statements: Mapping[str, object]) -> None:
    """Print each statement with yes or no; raise :class:`ClaimError` if one does not hold.

    What is printed depends on nothing but the statements, so re-executing a lesson compares it. Statements are
    rounded and thresholded by whoever writes them.
    """
    for text, holds in statements.items():
        print("yes  " if holds else "NO   ", text, sep="")
    failed = [text for text, holds in statements.items() if not holds]
    if failed:
        raise ClaimError(f"{len(failed)} of {len(statements)} claims do not hold: {'; '.join(failed)}")


def setup(seed: int = 0, threads: int = 1) -> str:
    """Prepare the machine for a lesson: seeds, threads, the course's worlds. Returns one line that says on what."""
    import torch

    import dreamer_helpers.envs  # noqa: F401  (registers the worlds)
    from dreamer_helpers import __version__, device

    device.seed_everything(seed)
    device.set_threads(threads)
    chosen = device.select_device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else {"mps": "Apple GPU"}.get(chosen.type, "CPU")
    return f"dreamer_helpers {__version__} with torch {torch.__version__.split('+')[0]} on {name}"
