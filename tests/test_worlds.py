"""The course's own worlds: proper Gymnasium environments, reproducible, with returns that are known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from dreamer_helpers import bounds, envs, worlds

RIGHT, LEFT = 1, 3


IDS = ["dreamer_helpers/TMaze-v0", "dreamer_helpers/Catch-v0", "dreamer_helpers/Orchard-v0"]


@pytest.mark.parametrize("name", IDS)
def test_passes_the_checker(name: str) -> None:
    check_env(gym.make(name).unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_seeds_and_states(name: str) -> None:
    """The same seed gives the same game, and a saved state goes on in the same way, random numbers included."""

    def play(env: gym.Env, seed: int) -> list[bytes]:
        rng, seen = np.random.default_rng(seed), []
        for _ in range(200):
            obs, reward, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
            seen.append(obs.tobytes() + bytes([terminated, truncated]) + np.float32(reward).tobytes())
            if terminated or truncated:
                seen.append(env.reset()[0].tobytes())
        return seen

    one, two, other = (gym.make(name).unwrapped for _ in range(3))
    firsts = [env.reset(seed=seed)[0] for env, seed in ((one, 3), (two, 3), (other, 4))]
    np.testing.assert_array_equal(firsts[0], firsts[1])
    games = [play(env, 0) for env in (one, two, other)]
    assert games[0] == games[1] != games[2]
    state = json.loads(json.dumps(one.get_state()))
    rest = play(one, 1)
    two.reset(seed=99)
    two.set_state(state)
    assert play(two, 1) == rest
    assert len(set(rest)) > 5
    np.testing.assert_array_equal(two.render(), one.render())


def random_returns(name: str, episodes: int) -> np.ndarray:
    """Returns of uniformly random actions, the same number of episodes from each of 50 copies."""
    vector = envs.VectorEnv(name, 50, seed=0)
    vector.reset()
    rng, totals, done = np.random.default_rng(0), np.zeros(50), [[] for _ in range(50)]
    while min(map(len, done)) < episodes // 50:
        record = vector.step(np.eye(vector.actions.dim)[rng.integers(vector.actions.dim, size=50)])
        totals = np.where(record["is_first"], 0.0, totals + record["reward"])
        for i in np.flatnonzero(record["is_last"]):
            done[i].append(totals[i])
    return np.concatenate([returns[: episodes // 50] for returns in done])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), [(IDS[0], bounds.tmaze), (IDS[1], bounds.catch), (IDS[2], bounds.orchard)])
def test_the_computed_return_of_random_play_agrees_with_played_games(
    name: str, known: Callable[[], dict[str, float]]
) -> None:
    values, returns = known(), random_returns(name, 1000 if name == IDS[2] else 4000)
    assert values["random"] < values["memoryless"] <= values["best"]
    spread = 0.1 if name == IDS[2] else 0.0  # of the mean over 200 layouts
    assert abs(returns.mean() - values["random"]) < 4 * returns.std() / np.sqrt(len(returns)) + spread


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
    """The best policy gets 1, one without memory at most a half."""
    known = bounds.tmaze()
    assert known["best"] == 1.0
    assert known["memoryless"] == 0.5 <= 0.55


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


# ---------------------------------------------------------------------------------------------------- Catch


def chase(start: int, policy: Callable[[worlds.Catch], int]) -> tuple[float, list[int]]:
    """Return and ball's columns of the game from a start."""
    env, columns, over, total = worlds.Catch(), [], False, 0.0
    env.reset(options={"start": start})
    while not over:
        columns.append(env.ball)
        _, reward, over, truncated, _ = env.step(policy(env))
        total += reward
        assert not truncated
    return total, [*columns, env.ball]


def test_the_ball_of_catch_drifts_and_bounces() -> None:
    paths = {tuple(chase(start, lambda _: 1)[1]) for start in range(worlds.Catch.STARTS)}
    assert len(paths) == 14  # at a wall, both drifts lead the same way
    assert (6, 7, 6, 5, 4, 3, 2, 1) in paths
    assert (1, 0, 1, 2, 3, 4, 5, 6) in paths
    assert all(abs(a - b) == 1 for path in paths for a, b in itertools.pairwise(path))


def test_every_start_of_catch_can_be_caught() -> None:
    """Who knows where the ball will land walks there in time; who stays catches the few that come."""
    landings = {start: chase(start, lambda _: 1)[1][-1] for start in range(worlds.Catch.STARTS)}
    for start, landing in landings.items():
        assert chase(start, lambda env, goal=landing: 1 + int(np.sign(goal - env.paddle)))[0] == 1.0
    stays = [chase(start, lambda _: 1)[0] for start in landings]
    assert sum(stays) == sum(landing == start // 2 % 8 for start, landing in landings.items())


def test_catch_shows_one_picture_for_both_drifts() -> None:
    pictures = [worlds.Catch().reset(options={"start": start})[0] for start in (36, 37)]
    np.testing.assert_array_equal(*pictures)
    with pytest.raises(ValueError, match="start must be from 0 to 127, not 128"):
        worlds.Catch().reset(options={"start": 128})


@pytest.mark.slow
def test_bounds_of_catch() -> None:
    """Chance alone, knowing where the ball lands, and a table from pictures to actions, held against its own play."""
    known = bounds.catch()
    assert known["best"] == 1.0
    assert known["random"] == pytest.approx(1 / 8, abs=0.02)
    balls = bounds._ball_paths()
    reached, policy = bounds._improve(balls, np.ones((7, 8, 8), int))
    played = [
        chase(start, lambda env: int(policy[env.row, env.ball, env.paddle]))[0] for start in range(worlds.Catch.STARTS)
    ]
    assert np.mean(played) == pytest.approx(reached)
    assert 0.5 < reached <= known["memoryless"] <= 1.0


# -------------------------------------------------------------------------------------------------- Orchard


def orchard(fox: int, *things: tuple[str, int, int]) -> worlds.Orchard:
    env = worlds.Orchard()
    env.reset(seed=0)
    env.fox, env.things = fox, [list(thing) for thing in things]
    return env


def test_who_stands_under_an_apple_catches_it() -> None:
    env = orchard(2, ("apple", 3, 2), ("apple", 0, 0), ("burr", 2, 2))
    assert env.step(2)[1:4] == (0.0, False, False)
    assert env.step(1)[1:4] == (1.0, False, False)
    assert env.things == [["apple", 0, 2], ["burr", 2, 4]]
    assert env.step(0)[1:4] == (0.0, False, False)  # the burr has landed and begins again
    assert ["burr", 2, 0] in env.things


def test_who_stands_under_a_burr_is_hurt_and_the_burr_stays() -> None:
    env = orchard(4, ("burr", 4, 3), ("apple", 0, 0))
    before = env.render()
    obs, reward, *_ = env.step(1)
    assert (reward, env.hurt) == (-1.0, True)
    assert (obs != before).any()
    assert ["burr", 4, 4] in env.things
    assert env.step(1)[1] == 0.0
    assert not env.hurt


def test_the_last_apple_ends_the_episode_and_time_cuts_it() -> None:
    assert orchard(0, ("apple", 0, 3), ("burr", 1, 0)).step(1)[1:4] == (1.0, True, False)
    env = orchard(0, ("apple", 4, 0))
    ends = [env.step(0)[2:4] for _ in range(25)]
    assert ends == [(False, False)] * 24 + [(False, True)]


def test_layouts_differ() -> None:
    env = worlds.Orchard()
    firsts = {env.reset(seed=seed)[0].tobytes() for seed in range(200)}
    assert len(firsts) >= 195
    assert [name for name, *_ in env.things] == list(worlds.Orchard.NAMES)
    assert all(row < 4 for _, _, row in env.things)
    assert len({column for _, column, _ in env.things}) == 4


@pytest.mark.slow
def test_the_best_return_of_the_orchard_can_be_played() -> None:
    """The value that is computed for a layout is the best of all sequences of actions, by trying them all."""
    env = worlds.Orchard()
    for seed in range(2):
        env.reset(seed=seed)
        env.steps = worlds.Orchard.LIMIT - 7  # seven actions: 2187 sequences
        state, best = env.get_state(), -9.0
        for actions in itertools.product(range(3), repeat=7):
            env.set_state(state)
            total = 0.0
            for action in actions:
                _, reward, over, _, _ = env.step(action)
                total += reward
                if over:
                    break
            best = max(best, total)
        env.set_state(state)
        env.LIMIT = 7
        assert bounds._orchard_value(env, "best") == best
        env.LIMIT = 25


@pytest.mark.slow
def test_the_level_for_pendulum() -> None:
    """Near what is known of the task, and better than a coarser grid."""
    fine = bounds.pendulum()
    assert -145 < fine < -125
    assert bounds.pendulum(points=61, torques=5) < fine
