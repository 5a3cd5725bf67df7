"""Frames as pictures and films for a notebook: PNG for players, GIF that plays on GitHub as well."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import imageio.v3 as iio
import numpy as np
from PIL import Image

GAP = 2  # pixels of white between pictures that stand side by side


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


class Film:
    """A looping GIF as the output of a cell, with a description for those who cannot see it.

    It is filed under image/png: notebook exporters know no image/gif, while browsers look at the content and play it.
    """

    def __init__(self, frames: np.ndarray, alt: str, fps: float = 5, scale: int = 8):
        buffer = io.BytesIO()
        large = [enlarge(frame, scale) for frame in to_uint8(np.asarray(frames))]
        iio.imwrite(buffer, large, extension=".gif", duration=1000 / fps, loop=0)
        self.data, self.alt = buffer.getvalue(), alt

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"image/png": base64.b64encode(self.data).decode(), "text/plain": self.alt}
