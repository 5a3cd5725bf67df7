"""Frames as pictures and films for a notebook: PNG for players, GIF that plays on pages without a kernel as well."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import imageio.v3 as iio
import numpy as np
from PIL import Image

from dreamer_helpers.errors import UserError

GAP = 2  # pixels of white between pictures that stand side by side
FASTEST = 4  # frames a second that an eye can follow where things jump from one place to the next
SHORTEST = 4000  # milliseconds that a film lasts at least
FIRST, LAST = 1000, 2000  # milliseconds for which the first and the last frame of a film stand at least
MOST_BYTES = 300_000  # of a film: a notebook with all its outputs stays under a megabyte


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel as a square: (H, W, 3) uint8 -> (scale H, scale W, 3)."""
    return frame.repeat(scale, 0).repeat(scale, 1)


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Images with values in [0, 1], or bytes already, as bytes; one grey channel becomes three."""
    if frames.dtype != np.uint8:
        frames = (np.clip(frames, 0, 1) * 255 + 0.5).astype(np.uint8)
    return frames.repeat(3, -1) if frames.shape[-1] == 1 else frames


def side_by_side(films: Sequence[np.ndarray]) -> np.ndarray:
    """Films (T, H, W, 3) of equal height as one, cut to the shortest."""
    length = min(map(len, films))
    gap = np.full((length, films[0].shape[1], GAP, 3), 255, np.uint8)
    parts = [part for film in films for part in (film[:length], gap)]
    return np.concatenate(parts[:-1], 2)


def png(frame: np.ndarray, scale: int = 1) -> bytes:
    """A frame (H, W, 3) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(enlarge(frame, scale)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


class Shown:
    """A picture as the output of a cell, with words for those who cannot see it and a caption for those who can.

    It goes out as HTML and once only: JupyterLab gives a bare image/png no alternative text, whatever its metadata say.
    """

    def __init__(self, data: bytes, alt: str, caption: str = "", kind: str = "image/png"):
        self.data, self.alt, self.caption, self.kind = data, alt, caption, kind

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        source = f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        page = f'<figure style="margin: 0"><img alt="{escape(self.alt)}" src="{source}">{caption}</figure>'
        return {"text/html": page, "text/plain": self.alt}


class Film(Shown):
    """A film (T, H, W, 3) as an animated GIF that loops, at most ``fps`` frames a second.

    It is slow enough to be followed: at most :data:`FASTEST` frames a second, :data:`SHORTEST` milliseconds at least,
    and the first and the last frame stand still for a moment. A GIF has no pause button; for films to stop and step
    through there is ``widgets.Scrubber``. Raises UserError if there is no frame, or beyond :data:`MOST_BYTES`.
    """

    def __init__(self, frames: np.ndarray, alt: str, fps: float = 3, scale: int = 8):
        large = [enlarge(frame, scale) for frame in to_uint8(np.asarray(frames))]
        if not large:
            raise UserError("Film: there is no frame to show")
        if fps <= 0:
            raise UserError(f"Film: fps must be more than 0, not {fps:g}")
        pause = max(1000 / min(fps, FASTEST), SHORTEST / len(large))  # milliseconds of each frame
        pauses = [max(FIRST, pause), *[pause] * (len(large) - 2), max(LAST, pause)][: len(large)]
        buffer = io.BytesIO()
        iio.imwrite(buffer, large, extension=".gif", duration=pauses if len(large) > 1 else pause, loop=0)
        if len(data := buffer.getvalue()) > MOST_BYTES:
            raise UserError(f"Film: {len(data):,} bytes, at most {MOST_BYTES:,}; take fewer frames or a smaller scale")
        label = f"Animated GIF: {len(large)} frames in {sum(pauses) / 1000:.0f} seconds, again and again"
        super().__init__(data, f"{alt} ({label}.)", f"{label}.", "image/gif")
