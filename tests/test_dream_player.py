"""The dream to play in."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from dreamer_helpers.train import DreamerV3
from dreamer_helpers.widgets import DreamPlayer
from dreamer_helpers.worlds import Orchard
from helpers import TINY

ORCHARD = "dreamer_helpers/Orchard-v0"
BUTTONS = {"left": 0, "stay": 1, "right": 2}


def player(**settings: Any) -> DreamPlayer:
    world = Orchard()
    agent = DreamerV3(TINY, world.observation_space, world.action_space)
    return DreamPlayer(agent, ORCHARD, buttons=BUTTONS, **settings)


def test_world_and_dream_get_the_same_moves() -> None:
    one = player(seed=3)
    first = one.still()
    one.play([0, 0, 2, 1])
    world, dream = one.frames()
    assert one.steps == 4
    assert world.shape == dream.shape == (32, 32, 3)
    assert one.still() != first
    twin = Orchard()
    twin.reset(seed=one.vector.envs[0].unwrapped.np_random_seed)
    for action in [1, 1, 1, 1, 0, 0, 2, 1]:  # four moves of watching: the first of five frames needs none
        picture = twin.step(action)[0]
    np.testing.assert_array_equal(world, picture)


def test_with_closed_eyes_the_dream_sees_nothing_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    for blind in (False, True):
        one = player(seed=3)
        if blind:
            monkeypatch.setattr(Orchard, "_image", lambda self: np.full((32, 32, 3), 255, np.uint8))
        frames.append(one.play([0, 2, 2]).frames())
    assert (frames[0][0] != frames[1][0]).any()
    np.testing.assert_array_equal(frames[0][1], frames[1][1])


def test_behind_the_end_of_the_world_the_dream_goes_on() -> None:
    one = player(seed=3).play([1] * 30)
    assert not one.awake
    assert "which has ended" in one.alt
    world = one.frames()[0]
    one.play([0, 0, 0])
    np.testing.assert_array_equal(one.frames()[0], world)
    assert one.steps == 33
    one.restart(4)
    assert one.awake
    assert one.alt.startswith("Step 0 since the eyes closed. Rewards so far: 0 in the world, 0.0 in the dream")


def test_keys_buttons_and_code_do_the_same() -> None:
    by_code, by_key, by_button = (player(seed=3) for _ in range(3))
    by_code.play([2])
    answers: list[dict] = []
    listener = type("Widget", (), {"send": lambda self, message: answers.append(message)})()
    for key in ("x", "ArrowRight", None):
        by_key._pressed(listener, {"key": key})
    assert len(answers) == 3  # every message is answered, or the page would wait for ever
    buttons = next(child for child in by_button.children if getattr(child, "children", ()))
    next(button for button in buttons.children if button.description == "right").click()
    assert by_code.still() == by_key.still() == by_button.still()
    next(button for button in buttons.children if button.description == "new world").click()
    assert (by_button.seed, by_button.steps) == (4, 0)


def test_a_copy_plays_on_and_leaves_the_game_alone() -> None:
    one = player(seed=3).restart(4).play([0, 2])
    before = one.still(), one.alt, one.generator.get_state()
    copy = one.copy()
    assert (copy.still(), copy.alt) == before[:2]
    copy.play([0, 0, 1])
    copy.restart(9)
    assert (one.still(), one.alt, one.steps) == (*before[:2], 2)
    assert one.generator.get_state().equal(before[2])
    assert one.copy().play([1, 2]).still() == one.play([1, 2]).still()


def test_the_still_shows_the_moment_and_the_game_waits() -> None:
    one, reached = player(seed=3, moment=[2, 0]), player(seed=3).play([2, 0])
    shown = one.snapshot()
    assert shown.data == reached.still()
    assert shown.alt == f"The world on the left, the dream on the right. {reached.alt}"
    assert one.steps == 0
    assert one.play([1]).snapshot().data == one.still()  # somebody plays: their game is shown


def test_without_anywidget_there_are_the_buttons(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {type(child).__name__ for child in player().children}
    monkeypatch.setitem(sys.modules, "anywidget", None)
    assert kinds - {type(child).__name__ for child in player().children} == {"Keyboard", "Names"}
