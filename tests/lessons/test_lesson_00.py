"""Lesson 00: the recorded games that it ships are games of its world."""

from __future__ import annotations

import numpy as np

from dreamer_helpers import dreams
from dreamer_helpers.course.data import STEPS, recorded
from dreamer_helpers.course.lesson_00.data import ORCHARD


def test_recorded_episodes_are_those_that_were_played() -> None:
    games = recorded("orchard_episodes.npz")
    assert len(games) == 40
    for i in (0, 7, 39):
        again = dreams.random_episode(ORCHARD, seed=1000 + i, max_steps=20)
        np.testing.assert_array_equal(games[i].obs["image"], again.obs["image"])
        for name in STEPS:
            np.testing.assert_array_equal(getattr(games[i], name), getattr(again, name))
