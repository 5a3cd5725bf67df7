"""What every lesson has: its parts, words for pictures, links that lead somewhere, cells of a size one can read."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
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
    first, *_ = cells(path, "markdown")
    for row in ("You will be able to", "You need", "Reading", "Computing", "Exercises"):
        assert re.search(rf"^\| {row} \| .{{3,}} \|$", first.source, re.MULTILINE), f"the first cell lacks {row!r}"
    assert "CPU cores" in first.source and "Colab" in first.source
    setup, *_ = cells(path, "code")
    assert "dreamer_helpers" in setup.source, "the first code cell finds the package"
    assert len(setup.source.splitlines()) <= 20


@full_lessons
def test_it_ends_with_what_was_built_and_three_questions(path: Path) -> None:
    ending = text(path).split("## What you have built")[1]
    assert len(re.findall(r"<details>", ending)) == 3, "three questions, answers folded away"
    assert re.search(r"[Pp]aper", ending), "the paper's sections"
    assert re.search(r"[Nn]ext|[Ll]esson", ending), "the next lesson"


@full_lessons
def test_it_has_puzzles_predictions_and_readable_cells(path: Path) -> None:
    code = cells(path, "code")
    lines = [len(cell.source.splitlines()) for cell in code]
    assert 25 <= len(code) <= 40
    assert max(lines) <= 35
    exercises = sum("@exercise(" in cell.source for cell in code)
    words = len(re.findall(r"\b[\w'-]+\b", text(path)))
    assert (2000 if exercises else 1500) <= words <= 3500, words
    assert re.search(r"[Pp]redict|guess", text(path)), "somewhere one predicts before one runs"
    assert exercises == 0 or (3 <= exercises <= 6 and "## Go further" in text(path))


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
    for name in re.findall(r"^@exercise\(\"(\w+)\"", source, re.MULTILINE):
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
