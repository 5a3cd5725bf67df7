"""A lesson is a text, a folder of the package and a test file: made from the template, it is found everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_notebooks  # noqa: E402
import new_lesson  # noqa: E402

COPIED = ("dreamer_helpers", "notebooks", "tests", "tools")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "golden", "benchmarks", ".ipynb_checkpoints")
REFERENCE = '''"""What lesson 88 builds."""

import torch


def halve(x: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Half of x, so many times."""
    return x / 2**times
'''
FOUND = """
import sys
sys.path.insert(0, "tools")
import lab
from dreamer_helpers.course import lesson_modules, setup
from dreamer_helpers.course.exercises import scoreboard
from dreamer_helpers.course.exercises import find
setup(passport=True)
print(find("halve").lesson, scoreboard("88"), lesson_modules("widgets")["88"].HalvingExplorer.__name__)
print(lab.find("88").name)
"""
RIGHT, MISTAKES = '"halve": [],', '"halve": {},'
ANSWER = '"halve": ["def halve(x, times=1):\\n    return x * 0.5**times"],'
WRONG = '"halve": {body: "halve|None" for body in ("return x", "x / 2", "return -x", "return 2 * x", "return x // 2")},'


class Clone:
    """A copy of what a lesson touches or is found by, in a folder of its own."""

    def __init__(self, root: Path):
        self.root = root
        for name in COPIED:
            shutil.copytree(ROOT / name, root / name, ignore=LEFT_OUT)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, root)
        (root / "dreamer_helpers" / "halves.py").write_text(REFERENCE)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, with the copy's package."""
        env = {**os.environ, "PYTHONPATH": str(self.root), "COURSE_BUDGET": "ci", "COURSE_PASSPORT": ""}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)

    def tests(self, *names: str) -> subprocess.CompletedProcess[str]:
        """Those of the quick tests of these files that concern the new lesson, or the list of lessons."""
        concerned = "88 or halv or table or there_are or registry or folder"
        options = ("-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", concerned)
        return self.python("-m", "pytest", *options, *(f"tests/{name}.py" for name in names))


def files(root: Path) -> set[Path]:
    """All files of the copy, but what Python leaves behind."""
    return {path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.slow
def test_a_lesson_is_made_found_everywhere_and_taken_away(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    readme, before = clone.root / "README.md", files(clone.root)
    page = readme.read_text()
    done = clone.python("tools/new_lesson.py", "88", "halving", "dreamer_helpers.halves.halve")
    assert done.returncode == 0, done.stderr
    made = files(clone.root) - before
    folder, test = clone.root / "dreamer_helpers/course/lesson_88", clone.root / "tests/lessons/test_lesson_88.py"
    source, notebook = clone.root / "notebooks/source/88_halving.py", clone.root / "notebooks/88_halving.ipynb"
    assert made == {source, test, folder / "__init__.py", folder / "exercises.py", folder / "widgets.py"}
    for check in (("check",), ("format", "--check")):  # the template is formatted as the project is
        linted = clone.python("-m", "ruff", *check, "--no-cache", *map(str, sorted(made)))
        assert linted.returncode == 0, linted.stdout

    assert clone.python("tools/build_notebooks.py", "88").returncode == 0
    assert "| 88 | [Halving: " in readme.read_text()
    found = clone.python("-c", FOUND)
    board = r"0 of 1 parts are yours\nhalve {19}the course's\nin the whole course 0 of \d+ parts are yours"
    assert re.fullmatch(rf"88 {board} HalvingExplorer\n88_halving.ipynb\n", found.stdout), found.stderr

    first = clone.tests("test_exercises")  # what only an author can write is asked for
    assert "RIGHT lacks another right answer for halve" in first.stdout
    assert first.stdout.count("\nFAILED") == 1, first.stdout
    text = test.read_text()
    assert RIGHT in text and MISTAKES in text
    test.write_text(text.replace(RIGHT, ANSWER).replace(MISTAKES, WRONG))
    second = clone.tests("lessons/test_lesson_88", "test_exercises", "test_explorers", "test_lessons", "test_notebooks")
    assert second.returncode == 0, second.stdout
    assert " skipped" not in second.stdout

    shutil.rmtree(folder)
    for path in (source, notebook, test):
        path.unlink()
    assert build_notebooks.with_table(readme.read_text(), sorted(source.parent.glob("*.py"))) == page
    assert files(clone.root) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1", "x", "y"], "python tools/new_lesson.py NN name"),
        (
            ["01", "again", "dreamer_helpers.symlog.symlog"],
            "there is a lesson 01 already: notebooks/source/01",
        ),
        (["88", "again", "dreamer_helpers.symlog.symlog"], "symlog is an exercise of lesson 01 already"),
        (["88", "new", "dreamer_helpers.nowhere.f"], "'dreamer_helpers.nowhere.f' is not a function of the package"),
        (["88", "new", "f"], "'f' is not a function of the package"),
    ],
)
def test_what_cannot_become_a_lesson_is_told(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert new_lesson.main(arguments) == 2
        said = capsys.readouterr().err
    except SystemExit as error:
        said = str(error)
    assert words in said
    assert not list((ROOT / "notebooks" / "source").glob("88_*"))
