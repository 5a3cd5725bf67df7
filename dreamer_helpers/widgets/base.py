"""The output that every widget of the course leaves: itself, a picture for pages without a kernel, and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import ipywidgets as widgets
import traitlets
from IPython.display import display

from dreamer_helpers.video import Shown

VIEW = "application/vnd.jupyter.widget-view+json"
LABEL = "A still; in a running notebook it moves."


class NamedImage(widgets.Image):
    """An image with words for screen readers: ``tooltip``, its title in the page (with ipywidgets 8 or newer).

    It has an empty ``description``, as the page looks at the length of that before it sets a title.
    """

    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)


NAMES = """
export default { render({ el }) {
    // a slider has its description beside it, but the page does not tie the two together; views come one by one
    let left = 20;
    const timer = setInterval(() => {
        for (const label of el.closest('.dreamer-described')?.querySelectorAll('label') ?? []) {
            const slider = label.parentElement.querySelector('[role="slider"]');
            if (!label.textContent) continue;
            if (!slider) label.parentElement.setAttribute('role', 'group');
            (slider ?? label.parentElement).setAttribute('aria-label', label.textContent);
        }
        if (--left === 0) clearInterval(timer);
    }, 500);
    return () => clearInterval(timer);
} };
"""


def names() -> list[widgets.Widget]:
    """What gives controls the names that stand beside them, for screen readers; nothing without anywidget."""
    try:
        import anywidget
    except ImportError:
        return []

    class Names(anywidget.AnyWidget):
        _esm = NAMES

    return [Names(layout=widgets.Layout(display="none"))]


class Described(widgets.VBox):
    """A box of widgets with a still picture for pages without a kernel, and a description in words."""

    alt = ""
    made_of: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    def __init__(self, children: Sequence[widgets.Widget]):
        super().__init__([*children, *names()])
        self.add_class("dreamer-described")

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        """A widget that remembers what it was made of, so that :meth:`copy` works for every subclass."""
        widget = super().__new__(cls, *positional, **named)
        widget.made_of = positional, named
        return widget

    def copy(self) -> Self:
        """Another one of the same kind in the same state: what is done to the copy does not touch this one."""
        positional, named = self.made_of
        return type(self)(*positional, **named)

    def still(self) -> bytes:
        """A PNG of the widget as it is now."""
        raise NotImplementedError

    def snapshot(self) -> Shown:
        """The widget as it is now, as a picture with its words: what stands where the widget cannot live."""
        return Shown(self.still(), self.alt, f"{LABEL} {self.alt}")

    def bundle(self) -> dict[str, Any]:
        """The output of a cell that shows the widget, by MIME type."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, **self.snapshot()._repr_mimebundle_()}

    def _ipython_display_(
        self, **_: object
    ) -> None:  # ipywidgets 7 and 8 show themselves in different ways: this is both
        display(self.bundle(), raw=True)
