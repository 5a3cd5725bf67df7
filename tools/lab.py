"""Open the course in JupyterLab, on the learner's own copies of the lessons.

    python tools/lab.py open [LESSON]      python tools/lab.py fresh LESSON      python tools/lab.py prepare

Copies lie in ``my_course/``, with outputs cleared, so that nothing spoils "predict, then run". They are made once and
never overwritten. ``fresh`` makes one anew and keeps the old one beside it. ``prepare`` sets up Jupyter in the course's
own environment, which ``open`` does too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "notebooks"
COPIES = ROOT / "my_course"


def find(lesson: str, lessons: Path = LESSONS) -> Path:
    """The notebook whose number (or name) begins with ``lesson``. Exits with one line if there is none, or several."""
    found = sorted(lessons.glob(f"{lesson}*.ipynb"))
    if len(found) != 1:
        there = ", ".join(path.stem for path in sorted(lessons.glob("*.ipynb")))
        sys.exit(f"error: {'no' if not found else 'more than one'} lesson begins with {lesson!r}; there are {there}")
    return found[0]


def copy(notebook: Path, copies: Path = COPIES) -> Path:
    """The learner's copy of a notebook, made if it is not there yet."""
    target = copies / notebook.name
    if not target.exists():
        nb = nbformat.read(notebook, as_version=4)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        copies.mkdir(exist_ok=True)
        nbformat.write(nb, target)
    return target


def fresh(notebook: Path, copies: Path = COPIES) -> Path:
    """A new copy of a notebook; an old one is renamed, not lost. Returns the new copy."""
    old = copies / notebook.name
    if old.exists():
        old.rename(old.with_name(f"{old.stem}.{time.strftime('%Y-%m-%d-%H%M%S')}.ipynb"))
    return copy(notebook, copies)


def link_figures(lessons: Path = LESSONS, copies: Path = COPIES) -> None:
    """Make the lessons' drawn pictures visible to the copies: by a link, or where Windows forbids that by copying."""
    source, target = lessons / "figures", copies / "figures"
    if not source.is_dir() or target.is_symlink():
        return
    try:
        target.symlink_to(os.path.relpath(source, copies), target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, dirs_exist_ok=True)


def without_news(prefix: Path = Path(sys.prefix)) -> None:
    """Let JupyterLab not ask at its first start whether it may fetch news; a learner's own setting wins over this."""
    path = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if sys.prefix == sys.base_prefix or path.exists():  # only in an environment of the course's own
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({NEWS: {"fetchNews": "false", "checkForUpdates": False}}))


def with_offline_pages(prefix: Path = Path(sys.prefix)) -> None:
    """Let exported HTML need no network (dreamer_helpers/course/pages.py); a configuration that is there stays."""
    path = prefix / "etc" / "jupyter" / "jupyter_config.json"
    if sys.prefix == sys.base_prefix or path.exists():  # only in an environment of the course's own
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    functions = {"filters": {"markdown2html": f"{PAGES}.markdown2html"}, "preprocessors": [f"{PAGES}.without_widgets"]}
    scripts = {"mathjax_url": "", "require_js_url": ""}  # the usual ones are fetched from the network
    path.write_text(json.dumps({"HTMLExporter": functions | scripts}, indent=1))


PAGES = "dreamer_helpers.course.pages"
NEWS = "@jupyterlab/apputils-extension:notification"


def main(arguments: list[str]) -> int:
    """Do what the command line says; returns the exit status."""
    match arguments:
        case ["fresh", lesson]:
            print(f"a fresh copy is at {fresh(find(lesson)).relative_to(ROOT)}")
            return 0
        case ["prepare"]:
            without_news()
            with_offline_pages()
            return 0
        case ["open", *lesson] if len(lesson) <= 1:
            for notebook in sorted(LESSONS.glob("*.ipynb")):
                copy(notebook)
            link_figures()
            without_news()
            with_offline_pages()
            # as the first page, not as a file to open, so that the address that JupyterLab prints leads there too
            first = [f"--LabApp.default_url=/lab/tree/{find(lesson[0]).name}"] if lesson else []
            root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
            # on loopback, with the random token that JupyterLab makes and prints
            command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", *root, *first]
            return subprocess.call(command, cwd=COPIES)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
