"""The course's own worlds: proper Gymnasium environments, reproducible, with returns that are known."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamer_helpers import envs, worlds

RIGHT, LEFT = 1, 3


def test_tmaze_passes_the_checker() -> None:
    check_env(gym.make("dreamer_helpers/TMaze-v0").unwrapped)


def test_tmaze_shows_the_cue_once() -> None:
    """After the first step both cues look the same, also when the agent walks back to the start."""
    seen: dict[int, list[np.ndarray]] = {}
    env = worlds.TMaze()
    for seed in range(20):
        first, _ = env.reset(seed=seed)
        later = [env.step(action)[0] for action in (RIGHT, 3, 3, 0, RIGHT, RIGHT, RIGHT, RIGHT)]
        if env.cue in seen:
            np.testing.assert_array_equal(seen[env.cue], [first, *later])
        seen[env.cue] = [first, *later]
    assert (seen[0][0] != seen[1][0]).any()
    np.testing.assert_array_equal(seen[0][1:], seen[1][1:])


@pytest.mark.parametrize(("turn", "cue", "reward"), [(0, 0, 1.0), (2, 0, 0.0), (0, 1, 0.0), (2, 1, 1.0)])
def test_tmaze_pays_for_the_remembered_turn(turn: int, cue: int, reward: float) -> None:
    env = worlds.TMaze()
    env.reset(seed=0)
    env.cue = cue
    for _ in range(4):
        assert env.step(RIGHT)[1:4] == (0.0, False, False)
    assert env.step(turn)[1:4] == (reward, True, False)


def test_tmaze_bounds() -> None:
    """The best policy gets 1, one without memory at most a half; played games agree with the computed return."""
    bounds = worlds.tmaze_bounds()
    assert bounds["best"] == 1.0
    assert bounds["memoryless"] == 0.5 <= 0.55
    vector = envs.VectorEnv("dreamer_helpers/TMaze-v0", 16, seed=0)
    record, rng, returns = vector.reset(), np.random.default_rng(0), []
    while len(returns) < 4000:
        record = vector.step(np.eye(4)[rng.integers(4, size=16)])
        returns += record["reward"][record["is_last"]].tolist()
    assert abs(np.mean(returns) - bounds["random"]) < 4 * np.std(returns) / np.sqrt(len(returns))


def test_stochastic_memoryless_policies_do_not_beat_a_half() -> None:
    """Random tables of action probabilities, made greedier and greedier, valued exactly."""
    rng = np.random.default_rng(0)
    for sharpness in (1.0, 3.0, 10.0):
        for _ in range(50):
            weights = np.exp(sharpness * rng.normal(size=(7, 4)))
            assert memoryless_return(weights / weights.sum(1, keepdims=True)) <= 0.5 + 1e-9


def memoryless_return(table: np.ndarray, corridor: int = 4, steps: int = 12) -> float:
    """Exact mean return of a stochastic memoryless policy (seen, 4): by following every place's probability."""
    total = 0.0
    for cue in (0, 1):
        chance = np.eye(corridor + 1)[0]
        for t in range(steps):
            probs = np.repeat(table[cue][None], corridor + 1, 0) if t == 0 else table[2:]  # (places, 4)
            total += chance[-1] * probs[-1, 2 * cue] / 2
            stay = chance * (probs[:, 0] + probs[:, 2])
            stay[-1] = 0.0
            right, left = chance * probs[:, 1], chance * probs[:, 3]
            chance = stay + np.r_[0, right[:-1]] + np.r_[left[1:], 0]
            chance[-1] += right[-1]
            chance[0] += left[0]
    return total


def test_tmaze_seeds_and_states() -> None:
    """The same seed gives the same game, and a saved state goes on in the same way, random numbers included."""

    def play(env: worlds.TMaze, resets: int) -> list[int]:
        cues = []
        for _ in range(resets):
            env.reset()
            cues.append(env.cue)
        return cues

    one, two = worlds.TMaze(), worlds.TMaze()
    one.reset(seed=3), two.reset(seed=3)
    assert play(one, 30) == play(two, 30)
    one.step(RIGHT)
    state = one.get_state()
    rest = play(one, 30)
    two.reset(seed=99)
    two.set_state(state)
    np.testing.assert_array_equal(two.render(), worlds_image(state))
    assert play(two, 30) == rest
    assert len(set(rest)) == 2


def worlds_image(state: dict) -> np.ndarray:
    env = worlds.TMaze()
    env.reset(seed=0)
    env.set_state(state)
    return env.render()


def test_who_dawdles_in_the_tmaze_goes_without_a_prize() -> None:
    vector = envs.VectorEnv("dreamer_helpers/TMaze-v0", 1)
    vector.reset()
    records = [vector.step(np.eye(4)[[LEFT]]) for _ in range(12)]
    assert [bool(r["is_last"][0]) for r in records] == [False] * 11 + [True]
    assert records[-1]["is_terminal"][0]
    assert sum(r["reward"][0] for r in records) == 0


def test_corridor_is_checked() -> None:
    with pytest.raises(ValueError, match="from 1 to 6"):
        worlds.TMaze(corridor=9)
    with pytest.raises(ValueError, match="patience must be more than the 4 steps"):
        worlds.TMaze(patience=4)
