"""Build the committed notebooks from their sources, and check that they fit together.

    python tools/build_notebooks.py [LESSON]         python tools/build_notebooks.py --check | --table | --answers

A source is a Python file in jupytext's percent format, ``notebooks/source/NN_name.py``. Building means: convert,
execute from top to bottom, strip what changes from run to run, write ``notebooks/NN_name.ipynb``, and make the README's
table of lessons anew from their first cells; ``--table`` does this last alone. ``--check`` finds what does not fit.
``--answers`` writes the teacher's set to ``answers/``: the same notebooks, not run, with the reference in every stub.
"""

from __future__ import annotations

import copy
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from dreamer_helpers.course.exercises import find, reference_source

ROOT = Path(__file__).resolve().parent.parent
LESSONS, ANSWERS = ROOT / "notebooks", ROOT / "answers"
README = ROOT / "README.md"
BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
ROWS = ("You will be able to", "You need", "Reading", "Computing", "Exercises")
"""What the table in the first cell of every lesson says."""
MAX_BYTES = 1_000_000
VIEW = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def convert(source: Path) -> NotebookNode:
    """A source as a notebook that has not been run; cell ids follow from the position, so they do not change."""
    nb = jupytext.read(source)
    for number, cell in enumerate(nb.cells):
        cell["id"] = f"cell-{number:03}"
        cell.metadata = NotebookNode({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def build(source: Path, lessons: Path = LESSONS) -> Path:
    """Convert, execute and write one lesson, without anybody's passport; its path. A cell that fails raises."""
    nb = convert(source)
    client = NotebookClient(nb, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(lessons)}})
    with tempfile.TemporaryDirectory() as folder:
        client.execute(env={**os.environ, "COURSE_PASSPORT": str(Path(folder) / "passport.json")})
    target = lessons / f"{source.stem}.ipynb"
    nbformat.write(strip(nb), target)
    return target


def strip(nb: NotebookNode) -> NotebookNode:
    """Remove what changes from run to run: widget state, timestamps, versions. GitHub trips over widget state.

    Views of widgets go too: without a kernel they say "model not found" where their still picture could be.
    """
    nb.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            output.get("data", {}).pop(VIEW, None)
            if output.output_type == "stream" and output.name == "stderr":
                output.text = "".join(line for line in output.text.splitlines(True) if "\r" not in line)
    return nb


def answered(nb: NotebookNode) -> NotebookNode:
    """A copy of a notebook in which every exercise holds its reference."""
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        if cell.cell_type == "code" and (found := re.search(r'^@exercise\("(\w+)"\)$', cell.source, re.MULTILINE)):
            lines = ["from __future__ import annotations", reference_source(find(found[1]), found[0])]
            cell.source = "\n".join(lines).rstrip()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nb


def faults(notebook: Path, source: Path) -> list[str]:
    """What is wrong with a committed notebook, a line each; an empty list if nothing is."""
    if not notebook.exists():
        return [f"{notebook.name} is missing; run make notebooks"]
    nb, wanted = nbformat.read(notebook, as_version=4), convert(source)
    found = []
    if [(c.cell_type, c.source) for c in nb.cells] != [(c.cell_type, c.source) for c in wanted.cells]:
        found.append("its cells differ from its source; run make notebooks")
    if "widgets" in nb.metadata:
        found.append("it holds widget state, which GitHub cannot show")
    if notebook.stat().st_size > MAX_BYTES:
        found.append(f"it has {notebook.stat().st_size} bytes, more than {MAX_BYTES}")
    for number, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            found += [f"cell {number}: {fault}" for fault in _cell_faults(cell)]
    return [f"{notebook.name}: {fault}" for fault in found]


def _cell_faults(cell: NotebookNode) -> list[str]:
    found = []
    if cell.execution_count is None:
        found.append("was never executed")
    if "nbval-check-output" in cell.metadata.get("tags", []) and not cell.outputs:
        found.append("is compared but has no stored output, so the comparison would pass whatever it prints")
    for output in cell.outputs:
        if output.output_type == "error":
            found.append(f"stores an error: {output.ename}")
        data = output.get("data", {})
        if VIEW in data:
            found.append("stores the view of a widget, which shows nothing without a kernel")
        pictures = re.findall(r"<img\b[^>]*>", data.get("text/html", ""))
        if any(kind.startswith("image/") for kind in data) or not all(map(_has_words, pictures)):
            found.append("shows an image without alternative text; plots.Picture gives it one")
    return found


def _has_words(picture: str) -> bool:
    """Whether an img element has an alternative text of three words at least."""
    alt = re.search(r'\balt="([^"]*)"', picture)
    return alt is not None and len(alt[1].split()) >= 3


def front(source: Path) -> dict[str, str]:
    """What the first cell of a lesson says: its ``number``, its ``title``, and the :data:`ROWS` of its table.

    Raises ValueError if something is missing.
    """
    cell = convert(source).cells[0].source
    heading, rows = (
        re.match(r"# (\d\d) (.+)", cell),
        dict(re.findall(r"^\| ([^|]+) \| (.{3,}) \|$", cell, re.MULTILINE)),
    )
    if missing := [row for row in ROWS if row not in rows] + ["# NN Title"] * (heading is None):
        raise ValueError(f"{source.name}: its first cell lacks {', '.join(missing)}")
    return {"number": heading[1], "title": heading[2], **{row: rows[row] for row in ROWS}}


def with_table(readme: str, sources: list[Path]) -> str:
    """The README with the table of these lessons between its two marks. Raises ValueError as :func:`front` does."""
    lines = [
        "| | lesson | you will be able to | reading | computing, on two CPU cores | exercises |",
        "| --- " * 6 + "|",
    ]
    for source in sources:
        says = front(source)
        link = f"[{says['title']}](notebooks/{source.stem}.ipynb)"
        computing = says["Computing"].split(" on two CPU cores")[0]
        cells = (says["number"], link, says["You will be able to"], says["Reading"], computing, says["Exercises"])
        lines.append(f"| {' | '.join(cells)} |")
    before, _, rest = readme.partition(BEGIN)
    return "\n".join([before + BEGIN, *lines, END]) + rest.partition(END)[2]


def table_faults(sources: list[Path]) -> list[str]:
    """What is wrong with the README's table of lessons, a line each."""
    try:
        fits = README.read_text() == with_table(README.read_text(), sources)
    except ValueError as error:
        return [str(error)]
    return [] if fits else ["README.md: its table of lessons is out of date; run make notebooks"]


def main(arguments: list[str]) -> int:
    """Build all lessons, or the one named, or check all; returns the exit status."""
    sources = sorted((LESSONS / "source").glob("*.py"))
    if arguments == ["--check"]:
        found = [fault for source in sources for fault in faults(LESSONS / f"{source.stem}.ipynb", source)]
        found += table_faults(sources)
        print("\n".join(found) or f"{len(sources)} notebooks fit their sources")
        return bool(found)
    if arguments == ["--answers"]:
        ANSWERS.mkdir(exist_ok=True)
        for source in sources:
            nbformat.write(answered(convert(source)), ANSWERS / f"{source.stem}.ipynb")
        print(f"{len(sources)} notebooks with answers are in {ANSWERS.relative_to(ROOT)}")
        return 0
    table_only = arguments == ["--table"]
    chosen = [s for s in sources if not table_only and (not arguments or s.stem.startswith(arguments[0]))]
    if not chosen and not table_only:
        print(f"error: no source begins with {arguments[0]!r}", file=sys.stderr)
        return 2
    for source in chosen:
        print(f"building {build(source).relative_to(ROOT)}")
    README.write_text(with_table(README.read_text(), sources))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
