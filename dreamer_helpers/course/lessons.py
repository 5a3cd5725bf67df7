"""The lessons that there are: each has a folder here, and each kind of module in it is found by its name."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType


def lesson_modules(kind: str) -> dict[str, ModuleType]:
    """Import the module ``kind`` (such as ``exercises``) of every lesson that has it: by number ("01"), in order."""
    folders = Path(__file__).parent.glob("lesson_[0-9][0-9]")
    numbers = sorted(folder.name.removeprefix("lesson_") for folder in folders)
    paths = {number: f"{__package__}.lesson_{number}.{kind}" for number in numbers}
    return {number: import_module(path) for number, path in paths.items() if find_spec(path)}
