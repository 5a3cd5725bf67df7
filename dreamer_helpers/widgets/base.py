"""The output that every widget of the course leaves: itself, a picture for pages without a kernel, and words."""

from __future__ import annotations

import base64
from typing import Any, Self

import ipywidgets as widgets
from IPython.display import display

VIEW = "application/vnd.jupyter.widget-view+json"


class Described(widgets.VBox):
    """A box of widgets with a still picture (PNG) and a description, which GitHub and screen readers show."""

    alt = ""
    made_of: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

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
        """The PNG that stands for the widget where it cannot live."""
        raise NotImplementedError

    def bundle(self) -> dict[str, Any]:
        """The output of a cell that shows the widget, by MIME type."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, "image/png": base64.b64encode(self.still()).decode(), "text/plain": self.alt}

    def _ipython_display_(
        self, **_: object
    ) -> None:  # ipywidgets 7 and 8 show themselves in different ways: this is both
        display(self.bundle(), raw=True)
