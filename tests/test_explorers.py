"""Sliders: a burst of moves is drawn once, what cannot be set is told; each lesson's tests move its own explorers."""

from __future__ import annotations

import asyncio
import inspect
import runpy
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest

from dreamer_helpers.course import lesson_modules
from dreamer_helpers.errors import UserError
from dreamer_helpers.widgets import Explorer


class Power(Explorer):
    """A line from 0 to 10 ** power, falling for the sign -."""

    def __init__(self) -> None:
        power = widgets.FloatSlider(value=1.0, min=-2.0, max=6.0, step=0.25)
        super().__init__({"power": power, "sign": widgets.ToggleButtons(options=["+", "-"])})

    def prepare(self) -> None:
        self.axes = self.figure.subplots()
        self.line = self.axes.plot([0, 1], [0, 1])[0]

    def update(self, power: float, sign: str) -> str:
        self.line.set_ydata([0, float(f"{sign}1") * 10**power])
        return f"up to {sign}{10**power:g}"


def explorers(number: str) -> dict[str, Any]:
    """How the tests of a lesson make and move each of its explorers."""
    return runpy.run_path(str(Path(__file__).parent / "lessons" / f"test_lesson_{number}.py"))["EXPLORERS"]


@pytest.mark.parametrize("number", lesson_modules("widgets"))
def test_every_explorer_of_a_lesson_is_moved_in_its_tests(number: str) -> None:
    module = lesson_modules("widgets")[number]
    kinds = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, Explorer)]
    own = {kind.__name__ for kind in kinds if kind.__module__ == module.__name__}
    assert set(explorers(number)) == own
    assert {type(make()).__name__ for make, *_ in explorers(number).values()} == own


def test_a_slider_that_is_moved_in_the_page_redraws() -> None:
    explorer = Power()
    explorer.controls["power"].value = 2.0
    assert explorer.alt.startswith("up to +100")
    assert explorer.drawn == 2


def test_a_burst_of_moves_is_drawn_once_and_shows_the_last() -> None:
    explorer = Power()

    async def drag() -> None:
        for power in np.arange(-2, 6, 0.25):
            explorer.controls["power"].value = float(power)
        await asyncio.sleep(0.05)

    asyncio.run(drag())
    assert explorer.drawn == 2
    assert explorer.alt.startswith("up to +562341")


@pytest.mark.parametrize("number", lesson_modules("widgets"))
def test_a_copy_is_an_explorer_of_its_own(number: str) -> None:
    """Its state goes along; what is moved there does not move here."""
    for make, values, _ in explorers(number).values():
        one, start = make(), make()
        start.set(**values)
        copy = start.copy()
        assert (type(copy), copy.alt, copy.still()) == (type(start), start.alt, start.still())
        untouched = one.alt, one.drawn, {name: control.value for name, control in one.controls.items()}
        one.copy().set(**values)
        assert (one.alt, one.drawn, {name: control.value for name, control in one.controls.items()}) == untouched


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
        Power().set(**values)
