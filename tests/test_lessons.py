"""What every lesson has: its parts, words for pictures, links that lead somewhere, cells of a size one can read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest

from dreamer_helpers.course import exercises, lesson_modules

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_notebooks  # noqa: E402

exercises.load_lessons()
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("tests/*/README.md")]
FULL = [path for path in LESSONS if path.stem[:2] not in ("00", "10")]  # a taste, and one large exercise

lessons = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
full_lessons = pytest.mark.parametrize("path", FULL, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def text(path: Path) -> str:
    """All markdown of a notebook, or of a page."""
    if path.suffix == ".md":
        return path.read_text()
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


@lessons
def test_it_begins_with_what_one_needs_to_know(path: Path) -> None:
    said = build_notebooks.front(ROOT / "notebooks" / "source" / f"{path.stem}.py")
    assert said["number"] == path.stem[:2]
    assert "CPU cores" in said["Computing"] and "Colab" in said["Computing"]
    assert "dreamer_helpers" in cells(path, "code")[0].source, "the first code cell finds the package"


@lessons
def test_its_exercises_are_those_of_the_registry(path: Path) -> None:
    """As many as the first cell says, and each that its folder registers."""
    names = asked_in(path)
    said = build_notebooks.front(ROOT / "notebooks" / "source" / f"{path.stem}.py")["Exercises"]
    number = int(re.match(r"\d+", said)[0]) if said[0].isdigit() else 0
    assert len(names) == number, f"the first cell says {said!r}; there are {names}"
    own = {entry.name for entry in exercises.REGISTRY.values() if entry.lesson == path.stem[:2]}
    assert own <= set(names) <= set(exercises.REGISTRY)


def asked_in(path: Path) -> list[str]:
    """The names of a notebook's exercises."""
    source = "\n".join(cell.source for cell in cells(path, "code"))
    return re.findall(r"^@exercise\(\"(\w+)\"", source, re.MULTILINE)


def test_no_folder_is_without_a_text() -> None:
    folders = {number for kind in ("exercises", "widgets", "data") for number in lesson_modules(kind)}
    assert folders <= {path.stem[:2] for path in LESSONS}


@full_lessons
def test_it_ends_with_what_was_built_and_three_questions(path: Path) -> None:
    ending = text(path).split("## What you have built")[1]
    assert len(re.findall(r"<details>", ending)) == 3, "three questions, answers folded away"
    assert re.search(r"[Pp]aper", ending), "the paper's sections"
    assert re.search(r"[Nn]ext|[Ll]esson", ending), "the next lesson"


@full_lessons
def test_it_asks_for_predictions_and_leads_further(path: Path) -> None:
    assert re.search(r"[Pp]redict|guess", text(path)), "somewhere one predicts before one runs"
    assert not asked_in(path) or "## Go further" in text(path)


@lessons
def test_every_cell_fits_a_screen(path: Path) -> None:
    lines = [len(cell.source.splitlines()) for cell in cells(path, "code")]
    assert max(lines) <= 35


@lessons
def test_little_is_left_out_of_the_comparison(path: Path) -> None:
    left_out = [
        cell
        for cell in cells(path, "code")
        if {"nbval-skip", "nbval-ignore-output"} & set(cell.metadata.get("tags", []))
    ]
    assert len(left_out) <= 0.2 * len(cells(path, "code"))


@lessons
def test_every_exercise_has_a_way_to_its_hint(path: Path) -> None:
    source = "\n".join(cell.source for cell in cells(path, "code"))
    for name in asked_in(path):
        assert re.search(rf"(hint|show_solution)\(\"{name}\"", source + text(path)), (
            f"nothing leads to a hint for {name}"
        )


@pytest.mark.parametrize("path", [*LESSONS, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_and_pictures_have_words(path: Path) -> None:
    content = re.sub(r"```.*?```", "", text(path), flags=re.DOTALL)
    for words, target in re.findall(r"!\[(.*?)\]\((.+?)\)", content, re.DOTALL):
        assert len(words) > 20, f"{target} has no words for those who cannot see it"
    for target in re.findall(r"\]\(([^)\s]+)\)", content):
        if re.match(r"https?:|mailto:|#|attachment:", target):
            continue
        assert (path.parent / target.split("#")[0]).exists(), f"{target} is not there"
