"""Exported pages: formulas become elements of the page, wherever they stand in a text; widgets become their stills."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from dreamer_helpers.course import pages

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def exported(*cells: NotebookNode, **metadata: object) -> str:
    """The page of a notebook of these cells."""
    settings = {"filters": {"markdown2html": pages.markdown2html}, "preprocessors": [pages.without_widgets]}
    nb = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    resources = {"metadata": {"path": str(NOTEBOOKS), "name": "small"}}
    return HTMLExporter(mathjax_url="", require_js_url="", **settings).from_notebook_node(nb, resources)[0]


@pytest.mark.parametrize(
    ("text", "display"),
    [
        ("at $x_1$ and", "inline"), ("$$x_1$$", "block"), ("1. **like** $x_1$", "inline"),
        ("| a | b |\n| --- | --- |\n| $x_1$ | c |", "inline"), ("before\n\n$$\nx_1\n$$\n\nafter", "block"),
        ("<details><summary>How is $x_1$?</summary>\n\nSo.\n</details>", "inline"),
        ("<details><summary>How?</summary>\n\nSo is $x_1$.\n</details>", "inline"),
    ],
    ids=["sentence", "line", "list", "table", "lines", "summary", "details"],
)  # fmt: skip
def test_a_formula_is_an_element_of_the_page(text: str, display: str) -> None:
    page = exported(nbformat.v4.new_markdown_cell(text))
    assert page.count("<math") == 1
    assert f'display="{display}"' in page
    assert "<msub><mi>x</mi><mn>1</mn></msub>" in page
    assert "$" not in page.split("<main>")[1]


def test_code_keeps_its_dollars() -> None:
    page = exported(nbformat.v4.new_markdown_cell("`$a$`\n\n```\n$b$\n```"), nbformat.v4.new_code_cell("'$c$'"))
    assert "<math" not in page
    for code in ("$a$", "$b$", "$c$"):
        assert code in page


@pytest.mark.parametrize("reason", ["formula", "package"])
def test_what_cannot_be_set_stays_as_it_is(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason == "package":
        monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    formula = r"\left( a" if reason == "formula" else "a + b"
    for text in ("so ${}$ is", "<p>${}$</p>", "$${}$$"):
        page = exported(nbformat.v4.new_markdown_cell(text.replace("{}", formula)))
        assert f"${formula}$" in page


def test_pictures_are_in_the_page_and_widgets_are_their_stills() -> None:
    view = {pages.VIEW: {"model_id": "1", "version_major": 2, "version_minor": 0}, "text/html": "<p>the still</p>"}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data=view)])
    state = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}, "version_major": 2, "version_minor": 0}}
    page = exported(nbformat.v4.new_markdown_cell("![worlds](figures/worlds.png)"), cell, widgets=state)
    assert "<p>the still</p>" in page
    assert "widget-view" not in page and "unpkg" not in page
    assert 'alt="worlds" src="data:image/png;base64,' in page
    assert "figures/worlds.png" not in page
