"""Begin a lesson: its text, its folder and its test file, with one exercise and one explorer that work already.

    python tools/new_lesson.py NN name dreamer_helpers.module.function

makes ``notebooks/source/NN_name.py``, ``dreamer_helpers/course/lesson_NN/`` and ``tests/lessons/test_lesson_NN.py``.
The function is what learners will write. What is to be replaced in the text is in italics; tests say what is missing.
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from string import Template

from dreamer_helpers.course.exercises import REGISTRY, load_lessons

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "tools" / "template"


def places(number: str, name: str) -> dict[str, Path]:
    """Where each template goes, by its name."""
    folder = ROOT / "dreamer_helpers" / "course" / f"lesson_{number}"
    return {
        "text": ROOT / "notebooks" / "source" / f"{number}_{name}.py",
        "exercises": folder / "exercises.py",
        "widgets": folder / "widgets.py",
        "test": ROOT / "tests" / "lessons" / f"test_lesson_{number}.py",
    }


def words(number: str, name: str, reference: str) -> dict[str, str]:
    """What stands in the templates' gaps. Exits with one line if the reference cannot be an exercise."""
    module, _, exercise = reference.rpartition(".")
    load_lessons()
    if exercise in REGISTRY:
        sys.exit(f"error: {exercise} is an exercise of lesson {REGISTRY[exercise].lesson} already")
    try:
        signature = inspect.signature(getattr(import_module(module), exercise))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        sys.exit(f"error: {reference!r} is not a function of the package: {error}")
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    needed = sum(parameter.default is inspect.Parameter.empty for parameter in plain)
    title = name.replace("_", " ").capitalize()
    return {
        "number": number, "title": title, "module": module, "exercise": exercise,
        "explorer": f"{name.title().replace('_', '')}Explorer", "parameters": str(inspect.Signature(plain)),
        "arguments": ", ".join(["torch.tensor([0.0, 1.0, -2.0])"] * needed),
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    """Write the lesson; returns the exit status."""
    if len(arguments) != 3 or not re.fullmatch(r"\d\d [a-z]\w*", " ".join(arguments[:2])):
        print(__doc__, file=sys.stderr)
        return 2
    number, name, reference = arguments
    targets = places(number, name)
    taken = [
        *(ROOT / "notebooks" / "source").glob(f"{number}_*"),
        *(path for path in targets.values() if path.exists()),
    ]
    if taken:
        sys.exit(f"error: there is a lesson {number} already: {taken[0].relative_to(ROOT)}")
    gaps = words(number, name, reference)
    for template, path in targets.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(Template((TEMPLATES / f"{template}.txt").read_text()).substitute(gaps))
        print(path.relative_to(ROOT))
    targets["exercises"].with_name("__init__.py").write_text(f'"""Lesson {number}: its exercises and its widgets."""\n')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
