"""What the notebooks need to be a course: budgets, claims, and one call that prepares the machine.

Each lesson has a folder here, ``lesson_NN``, with what only that lesson needs: ``exercises.py``, ``widgets.py``, and
``data.py``, which makes the files that it ships. Each of the three may be absent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from dreamer_helpers.course.lessons import lesson_modules as lesson_modules
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


def setup(seed: int = 0, threads: int = 1, passport: bool = False) -> str:
    """Prepare the machine for a lesson: seeds, threads, the course's worlds. Returns one line that says on what.

    With ``passport`` the learner's parts of earlier lessons are used from here on, and another line names them: a stub
    that was not touched takes them, and :func:`part` gives them.
    """
    import torch

    import dreamer_helpers.envs  # noqa: F401  (registers the worlds)
    from dreamer_helpers import __version__, device

    device.seed_everything(seed)
    device.set_threads(threads)
    chosen = device.select_device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else {"mps": "Apple GPU"}.get(chosen.type, "CPU")
    line = f"dreamer_helpers {__version__} with torch {torch.__version__.split('+')[0]} on {name}"
    if not passport:
        return line
    from dreamer_helpers.course import own_parts

    return f"{line}\n{own_parts.take_up()}"


def part(name: str) -> Any:
    """The part of this name that is in use, the learner's or the course's own; prints whose it is.

    ``symlog = course.part("symlog")`` in a later lesson goes on with what was built in lesson 01. Raises UserError for
    another name.
    """
    from dreamer_helpers.course import own_parts

    return own_parts.part(name)


def trust(*names: str) -> Any:
    """Take parts into the passport that came from elsewhere: the first call shows their source, the second takes them.

    Without names: all of which there is none of one's own. Raises UserError for a name of which nothing waits.
    """
    from dreamer_helpers.course import own_parts

    return own_parts.trust(*names)
