"""The sliders of the lessons: what is moved is drawn, said in words, and drawn once for a burst of moves."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dreamer_helpers.errors import UserError
from dreamer_helpers.widgets import Explorer, LotteryExplorer, RewardHistogram, SymlogExplorer, TwoHotExplorer
from dreamer_helpers.widgets.base import VIEW

REWARDS = {"maze": np.array([0.0, 1.0]), "treasure": np.array([1.0, 1e5])}
EXPLORERS: dict[str, tuple[Callable[[], Explorer], dict, str]] = {
    "symlog": (SymlogExplorer, {"power": 3.0, "sign": "-"}, "At x = -1000, symlog is -6.909, its slope 0.001"),
    "rewards": (lambda: RewardHistogram(REWARDS), {"shown": "symlog"}, "maze 6 %, treasure 94 %"),
    "two-hot": (TwoHotExplorer, {"y": 0.0}, "x = 0 lies on a bin: 1.00 on 0; the mean is 0"),
    "lottery": (
        LotteryExplorer,
        {"chance": 1.0, "power": 2.0},
        "is worth 100. The mean of raw bins says so; symlog bins",
    ),
}
"""How to make one, values to set, and what it must then say."""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("name", EXPLORERS)
def test_what_is_set_is_drawn_and_said(name: str) -> None:
    make, values, words = EXPLORERS[name]
    explorer = make()
    before = pixels(explorer.picture.value)
    assert before.std() > 5  # there is something to see
    assert explorer.set(**values) is explorer
    assert words in explorer.alt
    assert words in explorer.words.value
    after = pixels(explorer.picture.value)
    assert after.shape == before.shape
    assert (after != before).any()
    np.testing.assert_array_equal(pixels(explorer.still()), after)
    assert set(explorer.bundle()) == {VIEW, "image/png", "text/plain"}


def test_a_slider_that_is_moved_in_the_page_redraws() -> None:
    explorer = SymlogExplorer()
    explorer.controls["power"].value = 2.0
    assert explorer.alt.startswith("At x = 100,")
    assert explorer.drawn == 2


def test_a_burst_of_moves_is_drawn_once_and_shows_the_last() -> None:
    explorer = SymlogExplorer()

    async def drag() -> None:
        for power in np.arange(-2, 6, 0.25):
            explorer.controls["power"].value = float(power)
        await asyncio.sleep(0.05)

    asyncio.run(drag())
    assert explorer.drawn == 2
    assert explorer.alt.startswith("At x = 562341,")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"powr": 1.0}, r"no control 'powr' \(did you mean 'power'\?\)"),
        ({"power": 99.0}, "power cannot be 99.0; it was moved to 6.0"),
        ({"sign": "x"}, "sign cannot be 'x'"),
    ],
)
def test_what_cannot_be_set_is_one_line(values: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        SymlogExplorer().set(**values)
