"""The lessons: what is committed fits the sources, runs again, and the comparison of results bites."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from traitlets.utils.importstring import import_item

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build_notebooks  # noqa: E402
import lab  # noqa: E402

SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.py"))
COMPARED = nbformat.NotebookNode(tags=["nbval-check-output"])


def rerun(notebook: Path, exercises: str = "") -> subprocess.CompletedProcess[str]:
    """Re-execute a notebook with the small budget; cells tagged ``nbval-check-output`` are compared."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-cell-timeout=300",
        f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}", "--nbval-current-env",
        f"--rootdir={notebook.parent}", "-c", os.devnull, str(notebook),
    ]  # fmt: skip
    env = {**os.environ, "COURSE_BUDGET": "ci", "COURSE_EXERCISES": exercises}
    with tempfile.TemporaryDirectory() as folder:
        env["COURSE_PASSPORT"] = str(Path(folder) / "passport.json")
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def executed(source: Path) -> Any:
    """A lesson to execute, marked ``long`` if the first cell of its text is tagged so."""
    tags = build_notebooks.convert(source).cells[0].metadata.get("tags", [])
    return pytest.param(source, id=source.stem, marks=[pytest.mark.long] if "long" in tags else [])


def test_there_are_lessons() -> None:
    assert SOURCES
    assert {path.stem for path in SOURCES} == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_fits_its_source(source: Path) -> None:
    assert build_notebooks.faults(ROOT / "notebooks" / f"{source.stem}.ipynb", source) == []


def test_readme_has_the_table_of_lessons() -> None:
    assert build_notebooks.table_faults(SOURCES) == []


def test_the_table_follows_from_the_first_cells(tmp_path: Path) -> None:
    source = tmp_path / "77_small.py"
    rows = [f"| {row} | so much |" for row in build_notebooks.ROWS]
    source.write_text("\n# ".join(["# %% [markdown]\n# # 77 Small: one cell", *rows]))
    marks = f"above\n{build_notebooks.BEGIN}\nold\n{build_notebooks.END}\nbelow"
    page = build_notebooks.with_table(marks, [source])
    assert "| 77 | [Small: one cell](notebooks/77_small.ipynb) | so much |" in page
    assert page.startswith("above\n") and page.endswith("\nbelow") and "old" not in page
    assert build_notebooks.with_table(page, [source]) == page
    assert build_notebooks.table_faults([source]) == [
        "README.md: its table of lessons is out of date; run make notebooks"
    ]
    source.write_text("# %% [markdown]\n# # Small")
    (fault,) = build_notebooks.table_faults([source])
    assert fault.startswith("77_small.py: its first cell lacks You will be able to, ")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_makes_claims(source: Path) -> None:
    """Comparing nothing would pass: at least one cell of each lesson is compared."""
    nb = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
    assert any("nbval-check-output" in cell.metadata.get("tags", []) for cell in nb.cells)


@pytest.mark.slow
@pytest.mark.parametrize("source", [executed(source) for source in SOURCES])
def test_notebook_runs_again(source: Path) -> None:
    result = rerun(ROOT / "notebooks" / f"{source.stem}.ipynb")
    assert result.returncode == 0, result.stdout[-5000:]


WITH_EXERCISES = [source for source in SOURCES if "\n@exercise(" in source.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("source", [executed(source) for source in WITH_EXERCISES])
def test_notebook_runs_with_the_references_written_into_the_stubs(source: Path, tmp_path: Path) -> None:
    """Every attempt must pass, and what is compared must come out as with the stubs."""
    stored = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)
    nb = build_notebooks.answered(stored)
    for cell, old in zip(nb.cells, stored.cells, strict=True):
        if "nbval-check-output" in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = old.outputs, old.execution_count
    target = tmp_path / f"{source.stem}.ipynb"
    nbformat.write(nb, target)
    result = rerun(target, "strict")
    assert result.returncode == 0, result.stdout[-5000:]


@pytest.mark.slow
def test_strict_refuses_stubs() -> None:
    result = rerun(ROOT / "notebooks" / f"{WITH_EXERCISES[0].stem}.ipynb", "strict")
    assert result.returncode == 1
    assert "not attempted yet" in result.stdout


def small_notebook(folder: Path, text: str, stored: str | None) -> Path:
    """A notebook of one compared cell with the given stored output, written as ours are."""
    source = folder / "00_small.py"
    source.write_text(f'# %% tags=["nbval-check-output"]\n{text}\n')
    nb = build_notebooks.convert(source)
    nb.cells[0].execution_count = 1
    if stored is not None:
        nb.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)]
    target = folder / "00_small.ipynb"
    nbformat.write(nb, target)
    return target


@pytest.mark.slow
def test_the_comparison_bites(tmp_path: Path) -> None:
    assert rerun(small_notebook(tmp_path, "print(40 + 2)", "42\n")).returncode == 0
    changed = rerun(small_notebook(tmp_path, "print(40 + 2)", "43\n"))
    assert changed.returncode == 1
    assert "42" in changed.stdout


def test_a_compared_cell_without_stored_output_is_a_fault(tmp_path: Path) -> None:
    """nbval lets it pass; the builder's check does not."""
    notebook = small_notebook(tmp_path, "print(40 + 2)", None)
    (fault,) = build_notebooks.faults(notebook, tmp_path / "00_small.py")
    assert "no stored output" in fault


def test_faults_are_found(tmp_path: Path) -> None:
    notebook, source = small_notebook(tmp_path, "1", "1\n"), tmp_path / "00_small.py"
    assert build_notebooks.faults(notebook, source) == []
    source.write_text("# %%\n2\n")
    assert "differ from its source" in build_notebooks.faults(notebook, source)[0]
    nb = nbformat.read(notebook, as_version=4)
    nb.metadata["widgets"] = {}
    nb.cells[0].execution_count = None
    nb.cells[0].outputs = [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]
    nbformat.write(nb, notebook)
    found = "\n".join(build_notebooks.faults(notebook, source))
    for words in ("widget state", "never executed", "stores an error"):
        assert words in found
    assert build_notebooks.faults(tmp_path / "absent.ipynb", source) == ["absent.ipynb is missing; run make notebooks"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"image/png": "", "text/plain": "words for readers of the source"}, "alternative text"),
        ({"text/html": '<figure><img src="data:image/png;base64,"></figure>'}, "alternative text"),
        ({"text/html": '<figure><img alt="a plot" src="data:image/png;base64,"></figure>'}, "alternative text"),
        ({build_notebooks.VIEW: {"model_id": "1"}, "text/plain": "a slider"}, "without a kernel"),
        ({"text/html": '<figure><img alt="a rising line" src="data:image/png;base64,"></figure>'}, None),
    ],
    ids=["bare", "no alt", "two words", "widget", "right"],
)
def test_a_picture_without_words_is_a_fault(tmp_path: Path, data: dict, words: str | None) -> None:
    notebook, source = small_notebook(tmp_path, "1", "1\n"), tmp_path / "00_small.py"
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].outputs = [nbformat.v4.new_output("display_data", data=data)]
    nbformat.write(nb, notebook)
    found = build_notebooks.faults(notebook, source)
    assert words in found[0] if words else found == []
    nbformat.write(build_notebooks.strip(nb), notebook)
    assert "without a kernel" not in "".join(build_notebooks.faults(notebook, source))


@pytest.mark.parametrize("own", [True, False], ids=["own environment", "somebody's"])
def test_exported_pages_need_no_network_in_the_course_s_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    monkeypatch.setattr(sys, "base_prefix", "elsewhere" if own else sys.prefix)
    for _ in range(2):
        lab.with_offline_pages(tmp_path)
    written = list(tmp_path.rglob("*.json"))
    assert [path.relative_to(tmp_path) for path in written] == [Path("etc/jupyter/jupyter_config.json")] * own
    for path in written:
        config = json.loads(path.read_text())["HTMLExporter"]
        for name in [*config["filters"].values(), *config["preprocessors"]]:
            assert callable(import_item(name))
        path.write_text("{}")
        lab.with_offline_pages(tmp_path)
        assert path.read_text() == "{}"


def test_learners_copies(tmp_path: Path) -> None:
    """Copies have no outputs, are never overwritten, and a fresh one keeps the old."""
    notebook, copies = small_notebook(tmp_path, "1", "1\n"), tmp_path / "my_course"
    target = lab.copy(notebook, copies)
    assert nbformat.read(target, as_version=4).cells[0].outputs == []
    target.write_text("my work")
    assert lab.copy(notebook, copies).read_text() == "my work"
    assert lab.fresh(notebook, copies).read_text() != "my work"
    assert [path.read_text() for path in copies.glob("00_small.*.ipynb")] == ["my work"]


@pytest.mark.parametrize("links", [True, False], ids=["by link", "by copy"])
def test_copies_see_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise OSError("A required privilege is not held by the client")

    lessons, copies = tmp_path / "notebooks", tmp_path / "my_course"
    (lessons / "figures").mkdir(parents=True)
    copies.mkdir()
    if not links:
        monkeypatch.setattr(Path, "symlink_to", forbidden)
    for name in ("first.svg", "second.svg"):  # the second comes with a later version of the course
        (lessons / "figures" / name).write_text(name)
        lab.link_figures(lessons, copies)
        assert (copies / "figures" / name).read_text() == name


def test_unknown_lesson_is_one_line(tmp_path: Path) -> None:
    small_notebook(tmp_path, "1", "1\n")
    with pytest.raises(SystemExit, match="no lesson begins with '77'"):
        lab.find("77", tmp_path)


def test_a_named_lesson_is_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those who follow the address that JupyterLab prints."""
    commands: list[list[str]] = []
    for name in ("copy", "link_figures", "without_news", "with_offline_pages"):
        monkeypatch.setattr(lab, name, lambda *_: None)
    monkeypatch.setattr(lab.subprocess, "call", lambda command, cwd: commands.append(command) or 0)
    assert lab.main(["open", "09"]) == lab.main(["open"]) == 0
    assert "--LabApp.default_url=/lab/tree/09_train.ipynb" in commands[0]
    assert not any("default_url" in part for part in commands[1])
