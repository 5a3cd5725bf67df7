"""Lesson 00: its warm-up, the recorded games that it ships, and how it reads what a dream shows."""

from __future__ import annotations

import numpy as np
import pytest

import attempts
from dreamer_helpers import dreams
from dreamer_helpers.course.data import STEPS, recorded
from dreamer_helpers.course.lesson_00 import reading
from dreamer_helpers.course.lesson_00.data import ORCHARD
from dreamer_helpers.worlds import Orchard

RIGHT: attempts.Right = {
    "symlog_slope": [
        "def symlog_slope(x):\n    return (x.abs() + 1) ** -1",
        "def symlog_slope(x):\n    return torch.reciprocal(torch.maximum(x, -x) + 1)",
    ],
}

MISTAKES: attempts.Mistakes = {
    "symlog_slope": {
        "return 1 / (1 + x)": "symlog_slope(.*-1.0.*) gave inf, and 0.5 is right",
        "return 1 / x.abs()": "symlog_slope(.*0.0.*) gave inf, and 1.* is right",
        "return torch.sign(x) / (1 + torch.abs(x))": "symlog_slope(.*0.0.*) gave 0.*, and 1.* is right",
        "return 1 / (1 + x ** 2)": "symlog_slope(.*3.0.*) gave 0.1, and 0.25 is right",
        "return (1 / (1 + torch.abs(x))).detach()": "no gradient flows back",
        "return 1 / (1 + torch.abs(x).clamp(max=1000))": "gave 0.000999",
        "return 1 / (1 + torch.abs(x.float()))": "is of type torch.float32, not torch.float64",
        "return torch.log1p(torch.abs(x))": "symlog_slope(.*0.0.*) gave 0.*, and 1.* is right",
    },
}
EXPLORERS: attempts.Explorers = {}


@attempts.right_answers(RIGHT)
def test_another_right_answer_passes(name: str, source: str) -> None:
    attempts.assert_right(name, source)


@attempts.wrong_answers(MISTAKES)
def test_a_planted_mistake_is_named(name: str, body: str, words: str) -> None:
    attempts.assert_named(name, body, words)


def test_recorded_episodes_are_those_that_were_played() -> None:
    games = recorded("orchard_episodes.npz")
    assert len(games) == 40
    for i in (0, 7, 39):
        again = dreams.random_episode(ORCHARD, seed=1000 + i, max_steps=20)
        np.testing.assert_array_equal(games[i].obs["image"], again.obs["image"])
        for name in STEPS:
            np.testing.assert_array_equal(getattr(games[i], name), getattr(again, name))


def seen(world: Orchard) -> np.ndarray:
    """What stands where in a world, by its own account: the fox hides what is in its cell."""
    cells = np.full((5, 5), "", dtype="<U5")
    for name, column, row in world.things:
        cells[row, column] = name
    cells[-1, world.fox] = "hurt" if world.hurt else "fox"
    return cells


def test_pictures_of_the_world_are_read_as_the_world_says() -> None:
    world, rng, kinds = Orchard(), np.random.default_rng(0), set()
    for seed in range(20):
        image, _ = world.reset(seed=seed)
        for _ in range(15):
            (cells,) = reading.read(image[None])
            np.testing.assert_array_equal(cells, seen(world))
            kinds |= set(cells.ravel())
            image, _, over, _, _ = world.step(int(rng.integers(3)))
            if over:
                break
    assert kinds == {"", "fox", "hurt", "apple", "burr"}


FAULTS = {
    "an apple too many": lambda world: world.things.append(["apple", 4, 1]),
    "an apple too few": lambda world: world.things.remove(["apple", 0, 1]),
    "the burr in another place": lambda world: world.things[-1].__setitem__(2, 3),
    "the fox in another place": lambda world: setattr(world, "fox", 3),
    "the fox's hurt face": lambda world: setattr(world, "hurt", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_dream_is_named(fault: str) -> None:
    """Also in a picture that is half faded, as dreams are."""
    world = Orchard()
    world.fox, world.things = 2, [["apple", 0, 1], ["apple", 1, 2], ["burr", 4, 2]]
    real = np.stack([world.render()] * 2)
    assert not any(steps.any() for steps in reading.differences(real, real).values())
    FAULTS[fault](world)
    dreamed = np.stack([real[0], (0.3 * real[0] + 0.7 * world.render()).astype(np.uint8)])
    found = reading.differences(real, dreamed)
    assert {name: steps.tolist() for name, steps in found.items()} == {name: [False, name == fault] for name in FAULTS}


def test_a_wrong_count_is_told_and_what_was_before_the_start_does_not_matter() -> None:
    frames = np.stack([Orchard().render()] * 4)
    loop = dreams.OpenLoop(frames, frames, np.array([1.0, 0.0, 0.7, 0.0]), np.ones(4), 1)
    assert reading.faults(loop, np.zeros(4), 1)["the count"]
    assert not reading.faults(loop, np.array([0.0, 0.0, 1.0, 0.0]), 1)["the count"]
