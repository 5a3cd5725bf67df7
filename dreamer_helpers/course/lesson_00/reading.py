"""Reading pictures of the Orchard: what stands in which cell, so that a dream can be compared with the world."""

from __future__ import annotations

from functools import cache

import numpy as np

from dreamer_helpers.dreams import OpenLoop
from dreamer_helpers.video import to_uint8
from dreamer_helpers.worlds import BACKGROUND, PALETTE, SPRITES

SIZE = 5  # rows and columns of cells, and pixels of a sprite
KINDS = np.array(["", *SPRITES])


def read(frames: np.ndarray) -> np.ndarray:
    """The thing that pictures (T, 32, 32, 3) show in each cell, as a name of ``SPRITES`` or "": (T, 5, 5), row first.

    It is the one whose drawing is nearest in squared error, so that something half faded still counts as something.
    """
    errors = np.square(_cells(to_uint8(frames))[:, None] - _drawn()).mean(-1)  # (T, kinds, 5, 5)
    return KINDS[errors.argmin(1)]


def differences(real: np.ndarray, dreamed: np.ndarray) -> dict[str, np.ndarray]:
    """For each kind of fault, in which of T steps the dream has it: pictures (T, 32, 32, 3) each -> (T,) bool.

    A cell in which one of the two shows the fox hurt counts for nothing else than its face.
    """
    seen, told = read(real), read(dreamed)
    hurt = ((seen == "hurt") | (told == "hurt")) & (seen != told)
    cells = {
        "an apple too many": (told == "apple") & (seen != "apple"),
        "an apple too few": (seen == "apple") & (told != "apple"),
        "the burr in another place": (seen == "burr") != (told == "burr"),
        "the fox in another place": np.isin(seen, ("fox", "hurt")) != np.isin(told, ("fox", "hurt")),
    }
    faults = {name: (wrong & ~hurt).any((1, 2)) for name, wrong in cells.items()}
    return {**faults, "the fox's hurt face": hurt.any((1, 2))}


def faults(loop: OpenLoop, reward: np.ndarray, start: int) -> dict[str, bool]:
    """Which faults a dream has at least once from step ``start`` on; ``reward`` (T,) is what the world gave.

    The count is wrong if the sum of the rewards is ever off by more than a half.
    """
    wrong = differences(loop.real[start:], loop.dreamed[start:])
    count = np.cumsum(loop.reward[start:] - reward[start:])
    return {**{name: bool(steps.any()) for name, steps in wrong.items()}, "the count": bool((abs(count) > 0.5).any())}


@cache
def _drawn() -> np.ndarray:
    """What each kind looks like in each cell: (kinds, 5, 5, pixels)."""
    return _cells(np.stack([_everywhere(name) for name in KINDS]))


def _everywhere(name: str) -> np.ndarray:
    """The background with a thing in every cell: (32, 32, 3) uint8."""
    image = BACKGROUND.copy()
    for y, line in enumerate(SPRITES.get(name, ())):
        for x, letter in enumerate(line):
            if letter != ".":
                image[2 + y :: 6, 1 + x : 31 : 6] = PALETTE[letter]
    return image


def _cells(images: np.ndarray) -> np.ndarray:
    """The pixels of each cell as numbers: (T, 32, 32, 3) -> (T, 5, 5, 75)."""
    cells = images[:, 2:32, 1:31].reshape(-1, SIZE, 6, SIZE, 6, 3)[:, :, :SIZE, :, :SIZE]
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIZE, SIZE, SIZE * SIZE * 3).astype(float)
