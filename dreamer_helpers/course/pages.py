r"""Lessons as HTML pages that need no network: formulas as MathML, drawings in the file, stills in place of widgets.

Jupyter finds these functions by their names in ``etc/jupyter/jupyter_config.json`` of the environment, which
``tools/lab.py`` writes: the plain command ``jupyter nbconvert --to html`` uses them in any folder, and so does the
export in JupyterLab's menu.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import pass_context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

VIEW = "application/vnd.jupyter.widget-view+json"
FORMULA = re.compile(r"(?<![\\$])\$([^$\n]+?)\$")


def mathml(latex: str, display: str = "inline") -> str | None:
    """A formula as a ``<math>`` element; None if it cannot be read, or without the package latex2mathml."""
    try:
        from latex2mathml.converter import convert

        return convert(latex.strip(), display=display)
    except Exception:  # of many kinds; a page with a raw formula is better than no page
        return None


class PageRenderer(IPythonRenderer):
    """nbconvert's renderer of text cells, with formulas that the browser sets by itself."""

    def block_math(self, body: str) -> str:
        """A formula on lines of its own."""
        return mathml(body, "block") or super().block_math(body)

    def inline_math(self, body: str) -> str:
        """A formula in a sentence."""
        return mathml(body) or super().inline_math(body)

    def block_html(self, html: str) -> str:
        """HTML in the text, such as ``<details>``: Markdown looks for no formulas in it."""
        return super().block_html(FORMULA.sub(lambda found: mathml(found[1]) or found[0], html))


@pass_context
def markdown2html(context: Any, source: str) -> str:
    """A text cell as HTML: nbconvert's own filter, but for formulas, and with pictures in the file."""
    renderer = PageRenderer(
        escape=False, embed_images=True, attachments=context.get("cell", {}).get("attachments", {}),
        path=context.get("resources", {}).get("metadata", {}).get("path", ""),
    )  # fmt: skip
    return MarkdownWithMath(renderer=renderer).render(source)


def without_widgets(nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
    """A notebook whose widgets are their stills: live ones would be fetched from the network."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
    return nb, resources
