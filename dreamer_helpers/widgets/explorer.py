"""Sliders that redraw a figure: the figure lives on, only its lines change, so that it answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from html import escape
from typing import Any, Self

import ipywidgets as widgets
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dreamer_helpers import plots
from dreamer_helpers.errors import UserError, did_you_mean
from dreamer_helpers.video import png
from dreamer_helpers.widgets.base import Described, NamedImage

PAUSE = 0.01  # seconds to wait for the next move before drawing: a burst of moves is drawn once


class Explorer(Described):
    """A figure and its controls. A subclass draws once in :meth:`prepare` and moves lines in :meth:`update`.

    ``controls`` maps names to ipywidgets with a ``value``. :meth:`update` returns a sentence that says what is to be
    seen; it stands under the figure and is the text for screen readers. ``set(name=value)`` moves controls from code;
    ``copy().set(name=value)`` does so without moving what somebody else looks at.
    """

    def __init__(self, controls: Mapping[str, Any], width: float = 8.5, height: float = 2.8):
        self.controls = dict(controls)
        self.figure = plots.new_figure(width, height)
        FigureCanvasAgg(self.figure)
        self.figure.set_facecolor("white")
        self.prepare()
        self.figure.canvas.draw()
        # The layout and the places of the labels stay as they are: to find them again costs half of a redraw.
        self.figure.set_layout_engine("none")
        for axes in self.figure.axes:
            plots.fix_labels(axes)
        pixels = f"{int(width * self.figure.dpi)}px"
        self.picture = NamedImage(format="png", layout=widgets.Layout(width=pixels, max_width="100%"))
        self.words = widgets.HTML()
        self._waiting = False
        self.drawn = 0  # how often, for tests
        self.draw()
        for control in self.controls.values():
            control.observe(self._moved, "value")
        super().__init__([*self.controls.values(), self.picture, self.words])

    def prepare(self) -> None:
        """Draw everything once into ``self.figure``."""
        raise NotImplementedError

    def update(self, **values: Any) -> str:
        """Move what depends on the controls; returns what is to be seen, in words."""
        raise NotImplementedError

    def set(self, **values: Any) -> Self:
        """Move controls and draw. Raises UserError for a control that is not there or a value it cannot take."""
        for key, value in values.items():
            if key not in self.controls:
                raise UserError(f"no control {key!r}{did_you_mean(key, self.controls)}")
            try:
                self.controls[key].value = value
            except Exception as error:
                raise UserError(f"{key} cannot be {value!r}: {error}") from None
            if self.controls[key].value != value:
                raise UserError(f"{key} cannot be {value!r}; it was moved to {self.controls[key].value!r}")
        self.draw()
        return self

    def copy(self) -> Self:
        """An explorer of the same kind, its controls where they are here."""
        return super().copy().set(**{key: control.value for key, control in self.controls.items()})

    def draw(self) -> None:
        """Bring figure and words up to date with the controls."""
        self._waiting = False
        self.alt = self.update(**{key: control.value for key, control in self.controls.items()})
        self.figure.canvas.draw()  # savefig would draw everything twice
        with self.picture.hold_sync():  # picture and words in one message
            self.picture.value = png(np.asarray(self.figure.canvas.buffer_rgba())[..., :3])
            self.picture.tooltip = self.alt
        self.words.value = f'<div role="status">{escape(self.alt)}</div>'
        self.drawn += 1

    def still(self) -> bytes:
        """The figure as it is now."""
        return plots.render(self.figure)

    def _moved(self, _: object) -> None:
        if self._waiting:
            return
        try:
            asyncio.get_running_loop().call_later(PAUSE, self.draw)
            self._waiting = True
        except RuntimeError:  # no loop: a plain program, or an older kernel
            self.draw()
