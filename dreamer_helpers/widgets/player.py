"""A film to play, to stop and to step through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from dreamer_helpers.errors import UserError
from dreamer_helpers.video import Shown, png, side_by_side, to_uint8
from dreamer_helpers.widgets.base import LABEL, Described, NamedImage

CRISP = "<style>.dreamer-pixels, .dreamer-pixels img {image-rendering: pixelated}</style>"


class Scrubber(Described):
    """``Scrubber(frames)`` or ``Scrubber({"real": a, "dreamed": b})``: frames (T, H, W, 3), side by side.

    ``captions`` (T,) are shown under the picture. Play and slider are linked in the browser, and frames are encoded
    once. Pages without a kernel show the steps ``moments`` side by side: six from the first to the last, if not said.
    Raises UserError if there is no frame, or none at a moment.
    """

    def __init__(
        self, frames: np.ndarray | Mapping[str, np.ndarray], *, captions: list[str] | None = None, fps: float = 4,
        scale: int = 8, alt: str = "A film with a slider for its steps.", moments: Sequence[int] | None = None,
    ):  # fmt: skip
        films = frames if isinstance(frames, Mapping) else {"": frames}
        if not films or not all(len(film) for film in films.values()):
            raise UserError("Scrubber: there is no frame to show")
        film = side_by_side([to_uint8(np.asarray(film)) for film in films.values()])
        self.pngs, self.alt = [png(frame, scale) for frame in film], alt
        self.captions = [*(captions or []), *[""] * len(film)][: len(film)]
        last, (height, width) = len(film) - 1, film.shape[1:3]
        self.film, self.scale, self.fps = film, scale, fps
        self.moments = np.linspace(0, last, min(6, last + 1)).round().astype(int) if moments is None else moments
        if not set(self.moments) <= set(range(last + 1)):
            raise UserError(f"Scrubber: moments {list(self.moments)} must be steps from 0 to {last}")
        size = widgets.Layout(width=f"{width * scale}px", height=f"{height * scale}px")
        self.picture = NamedImage(value=self.pngs[0], format="png", layout=size)
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
        step = change["new"]
        self.picture.value, self.caption.value = self.pngs[step], self.captions[step]
        self.picture.tooltip = f"{self.alt} Step {self._says(step)}"

    def _says(self, step: int) -> str:
        return f"{step}: {self.captions[step]}" if self.captions[step] else f"{step}"

    def still(self) -> bytes:
        """The moments side by side."""
        return png(side_by_side([self.film[[step]] for step in self.moments])[0], max(1, self.scale // 2))

    def snapshot(self) -> Shown:
        """The moments side by side, with their captions."""
        words = f"From left to right the steps {'; '.join(map(self._says, self.moments))}."
        return Shown(self.still(), f"{self.alt} {words}", f"{LABEL} {words}")
