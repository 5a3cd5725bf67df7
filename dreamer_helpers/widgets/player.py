"""A film to play, to stop and to step through."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np

from dreamer_helpers.errors import UserError
from dreamer_helpers.video import png, side_by_side, to_uint8
from dreamer_helpers.widgets.base import Described

CRISP = "<style>.dreamer-pixels, .dreamer-pixels img {image-rendering: pixelated}</style>"


class Scrubber(Described):
    """``Scrubber(frames)`` or ``Scrubber({"real": a, "dreamed": b})``: frames (T, H, W, 3), side by side.

    ``captions`` (T,) are shown under the picture. Play and slider are linked in the browser, and frames are encoded
    once. Raises UserError if there is no frame.
    """

    def __init__(
        self, frames: np.ndarray | Mapping[str, np.ndarray], *, captions: list[str] | None = None, fps: float = 4,
        scale: int = 8, alt: str = "A film with a slider for its steps.",
    ):  # fmt: skip
        films = frames if isinstance(frames, Mapping) else {"": frames}
        if not films or not all(len(film) for film in films.values()):
            raise UserError("Scrubber: there is no frame to show")
        film = side_by_side([to_uint8(np.asarray(film)) for film in films.values()])
        self.pngs, self.alt = [png(frame, scale) for frame in film], alt
        self.captions = captions or [""] * len(film)
        last, (height, width) = len(film) - 1, film.shape[1:3]
        size = widgets.Layout(width=f"{width * scale}px", height=f"{height * scale}px")
        self.picture = widgets.Image(value=self.pngs[0], format="png", layout=size)
        self.picture.add_class("dreamer-pixels")
        self.play = widgets.Play(value=0, min=0, max=last, step=1, interval=round(1000 / fps))
        self.slider = widgets.IntSlider(value=0, min=0, max=last, description="step")
        self.caption = widgets.Label()
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        self.slider.observe(self._show, "value")
        self._show({"new": 0})
        names = [name for name in films if name]
        title = [widgets.Label("   |   ".join(names))] if names else []
        controls = widgets.HBox([self.play, self.slider])
        super().__init__([widgets.HTML(CRISP), *title, self.picture, self.caption, controls])

    def _show(self, change: Mapping[str, int]) -> None:
        self.picture.value = self.pngs[change["new"]]
        self.caption.value = self.captions[min(change["new"], len(self.captions) - 1)]

    def still(self) -> bytes:
        """The frame that is shown now."""
        return self.picture.value
