"""Environments: one convention for time, observations and actions, whatever comes from Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dreamer_helpers import checkpoint, envs
from dreamer_helpers.errors import UserError


class Counter(gym.Env):
    """Observes the number of the step within the episode and the episode; rewards with the step's number."""

    def __init__(self, length: int = 3, limit: int = 100):
        self.observation_space, self.action_space = spaces.Box(0, 1e6, (2,)), spaces.Discrete(2)
        self.length, self.limit, self.episode, self.actions = length, limit, -1, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return self._obs(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        self.actions.append(int(action))
        return self._obs(), float(self.t), self.t == self.length, self.t == self.limit, {}

    def _obs(self) -> np.ndarray:
        return np.array([self.t, self.episode], np.float32)


LEFT, RIGHT = np.eye(2, dtype=np.float32)


def test_rewards_and_ends_stand_with_the_observation_they_led_to() -> None:
    vector = envs.VectorEnv(Counter, 1)
    records = [vector.reset(), *(vector.step(RIGHT[None]) for _ in range(5))]

    def column(key: str) -> list:
        return [record[key][0].tolist() for record in records]

    assert column("vector") == [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1], [1, 1]]
    assert column("reward") == [0, 1, 2, 3, 0, 1]
    assert column("is_first") == [True, False, False, False, True, False]
    assert column("is_last") == [False, False, False, True, False, False]
    assert column("is_terminal") == column("is_last")
    assert vector.envs[0].actions == [1, 1, 1, 1]  # the action at the last record is not carried out


def test_a_time_limit_is_not_a_death() -> None:
    vector = envs.VectorEnv(lambda: Counter(length=100, limit=2), 1)
    vector.reset()
    records = [vector.step(LEFT[None]) for _ in range(2)]
    assert [bool(r["is_last"][0]) for r in records] == [False, True]
    assert not any(r["is_terminal"][0] for r in records)


def test_copies_are_seeded_apart_and_reproducibly() -> None:
    def play(seed: int) -> np.ndarray:
        vector = envs.VectorEnv("CartPole-v1", 3, seed)
        first = vector.reset()["vector"]
        return np.stack([first, *(vector.step(np.tile(LEFT, (3, 1)))["vector"] for _ in range(40))])

    np.testing.assert_array_equal(play(1), play(1))
    assert not np.array_equal(play(1), play(2))
    assert len(np.unique(play(1)[0], axis=0)) == 3


IMAGE = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)


@pytest.mark.parametrize(
    ("space", "value", "wanted"),
    [
        (spaces.Box(-1, 1, (2, 3)), np.ones((2, 3), np.float32), {"vector": np.ones(6, np.float32)}),
        (spaces.Box(-9, 9, (2,), np.int64), np.array([3, -3]), {"vector": np.float32([3, -3])}),
        (spaces.Box(0, 255, (2, 5, 3), np.uint8), IMAGE, {"image": IMAGE}),
        (spaces.Box(0, 255, (3, 2, 5), np.uint8), IMAGE.transpose(2, 0, 1), {"image": IMAGE}),
        (spaces.Box(0, 255, (2, 5), np.uint8), IMAGE[..., 0], {"image": IMAGE[..., :1]}),
        (spaces.Box(0, 1, (2, 5, 3)), IMAGE / np.float32(255), {"image": IMAGE}),
        (spaces.Discrete(4, start=-1), 2, {"discrete": np.array([3])}),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), {"discrete": np.array([1, 2])}),
        (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), {"discrete": np.array([1, 0, 1])}),
        (
            spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Dict({"x": spaces.Box(-1, 1, (1,))})}),
            {"b": 1, "a": {"x": np.zeros(1, np.float32)}},
            {"a/x": np.zeros(1, np.float32), "b": np.array([1])},
        ),
    ],
)  # fmt: skip
def test_observations_become_canonical(space: spaces.Space, value: Any, wanted: dict) -> None:
    canonical, got = envs.canonical_space(space), envs.canonical_observation(value, space)
    assert sorted(got) == sorted(canonical) == sorted(wanted)
    for key, expected in wanted.items():
        np.testing.assert_array_equal(got[key], expected)
        assert got[key].dtype == canonical[key].dtype
        assert canonical[key].contains(got[key]), (canonical[key], got[key])
    again = checkpoint.space_from_json(checkpoint.space_to_json(space))
    assert again == space


@pytest.mark.parametrize(
    ("space", "action", "vector"),
    [
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0]),
        (spaces.Box(np.float32([-2, 0]), np.float32([2, 10])), [1, 10], [0.5, 1]),
        (spaces.Box(0, 4, (2, 2)), [[0, 1], [2, 4]], [-1, -0.5, 0, 1]),
    ],
)
def test_actions_there_and_back(space: spaces.Space, action: Any, vector: list[float]) -> None:
    spec = envs.ActionSpec.of(space)
    np.testing.assert_allclose(spec.encode(np.array(action)), vector)
    back = spec.decode(np.float32(vector))
    np.testing.assert_allclose(back, action)
    assert space.contains(np.asarray(back) if space.shape else int(back))
    two = np.stack([spec.encode(np.array(action))] * 2)
    np.testing.assert_allclose(spec.decode(two), [action] * 2)
    np.testing.assert_allclose(spec.encode(np.array([action] * 2)), two)
    assert checkpoint.space_from_json(checkpoint.space_to_json(space)) == space


def box(low: Any, high: Any, dtype: Any) -> spaces.Box:
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


@pytest.mark.parametrize(
    "space",
    [
        box([0], [7], np.int64), box([-3], [4], np.int8), box([-128], [127], np.int8), box([0], [255], np.uint8),
        box([5], [17], np.uint8), box([-1000], [1], np.int16), box([10**9], [10**9 + 999], np.int64),
        box([2**31], [2**31 + 6], np.uint64), box([3], [3], np.int64),
    ],
    ids=lambda space: f"{space.dtype} {space.low[0]} to {space.high[0]}",
)  # fmt: skip
def test_every_integer_of_a_box_comes_back(space: spaces.Box) -> None:
    spec = envs.ActionSpec.of(space)
    values = np.arange(int(space.low[0]), int(space.high[0]) + 1).astype(space.dtype)[:, None]
    vectors = spec.encode(values)
    assert np.abs(vectors).max() <= 1
    back = spec.decode(vectors)
    assert back.dtype == space.dtype
    np.testing.assert_array_equal(back, values)
    assert all(space.contains(value) for value in spec.decode(np.linspace(-1.5, 1.5, 97, dtype=np.float32)[:, None]))


def test_integers_are_rounded_to_the_nearest() -> None:
    spec = envs.ActionSpec.of(box([0, -2], [7, 2], np.int64))
    got = spec.decode(np.float32([[-0.8, -0.3], [0.99, 0.2], [-0.99, 0.3]]))
    np.testing.assert_array_equal(got, [[1, -1], [7, 0], [0, 1]])


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        ([-0.1, 1e-3], [0.3, 0.7], np.float32), ([-3e38, 5], [3e38, 5], np.float32), ([-1e9, 0], [3.3, 1], np.float64),
        ([0.1, -0.7], [0.7, -0.1], np.float16),
    ],
)  # fmt: skip
def test_floats_of_a_box_come_back_and_stay_inside(low: list[float], high: list[float], dtype: Any) -> None:
    space = box(low, high, dtype)
    spec, share = envs.ActionSpec.of(space), np.linspace(0, 1, 33)[:, None]
    values = ((1 - share) * space.low + share * space.high).astype(dtype)
    vectors = spec.encode(values)
    assert np.isfinite(vectors).all()
    back = spec.decode(vectors)
    assert back.dtype == space.dtype
    width = space.high.astype(float) - space.low
    assert (np.abs(back.astype(float) - values) <= 1e-3 * width).all()
    for end in (-2.0, -1.0, 1.0, 2.0):
        assert space.contains(spec.decode(np.full(2, end, np.float32)))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5, start=-2), spaces.MultiDiscrete([3, 2], start=[4, -1]),
        spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 2], [3, -4]]),
        spaces.MultiDiscrete([3, 200], dtype=np.uint8, start=[0, 7]),
    ],
    ids=str,
)  # fmt: skip
def test_every_choice_comes_back(space: spaces.Space) -> None:
    spec = envs.ActionSpec.of(space)
    space.seed(0)
    values = np.stack([space.sample() for _ in range(60)])
    vectors = spec.encode(values)
    assert vectors.shape == (60, spec.dim)
    assert (vectors.sum(-1) == len(spec.sizes)).all()
    np.testing.assert_array_equal(spec.decode(vectors), values)
    np.testing.assert_array_equal(spec.decode(spec.encode(values[0])), values[0])
    assert space.contains(spec.decode(vectors[0]) if space.shape else int(spec.decode(vectors[0])))


def test_continuous_actions_are_clipped() -> None:
    spec = envs.ActionSpec.of(spaces.Box(-2, 2, (1,)))
    np.testing.assert_allclose(spec.decode(np.float32([7.0])), [2.0])


class Broken(Counter):
    """Gives whatever it is told to give at its second step."""

    reward, value = 0.0, 0.0

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, _, *rest = super().step(action)
        return (obs + self.value, self.reward, *rest) if self.t == 2 else (obs, 0.0, *rest)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize(("what", "name"), [("reward", "reward"), ("value", "vector")])
def test_numbers_that_are_none_end_the_episode(
    number: float, what: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    vector = envs.VectorEnv(type("Sick", (Broken,), {what: number}), 2)
    vector.reset()
    before = vector.step(np.stack([LEFT, LEFT]))
    cut = vector.step(np.stack([LEFT, LEFT]))
    assert f"Sick: copy 0 crashed at step 2 (UserError: {name} is {number}, not a finite number)" in caplog.text
    assert cut["is_last"].all()
    assert not cut["is_terminal"].any()
    np.testing.assert_array_equal(cut["vector"], before["vector"])
    assert vector.step(np.stack([LEFT, LEFT]))["is_first"].all()


class Crashes(Counter):
    """Raises an error in its third step, while ``often`` is above 0."""

    often = 1

    def __init__(self) -> None:
        super().__init__(length=5)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.t == 2 and type(self).often > 0:
            type(self).often -= 1
            raise ValueError("the simulator is gone")
        return super().step(action)


def test_a_crash_ends_its_own_episode_only(caplog: pytest.LogCaptureFixture) -> None:
    kind = type("Crashes", (Crashes,), {"often": 1})
    vector = envs.VectorEnv(kind, 3)
    vector.reset()
    records = [vector.step(np.stack([LEFT] * 3)) for _ in range(4)]
    assert [r["is_last"].tolist() for r in records[:3]] == [[False] * 3, [False] * 3, [True, False, False]]
    assert records[3]["is_first"].tolist() == [True, False, False]
    assert not records[2]["is_terminal"].any()
    assert caplog.messages == [
        "Crashes: copy 0 crashed at step 3 (ValueError: the simulator is gone); its episode ends there and a new one "
        "begins"
    ]


def test_who_only_crashes_is_given_up() -> None:
    vector = envs.VectorEnv(type("Crashes", (Crashes,), {"often": 99}), 1)
    vector.reset()
    with pytest.raises(UserError, match="the last of 3 episodes in a row; mend the environment"):
        for _ in range(20):
            vector.step(LEFT[None])


def test_an_environment_that_cannot_begin_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    class Late(Counter):
        made = 0

        def __init__(self) -> None:
            super().__init__()
            Late.made += 1

        def reset(self, **arguments: Any) -> tuple[np.ndarray, dict]:
            if Late.made < 2:
                raise OSError("no display yet")
            return super().reset(**arguments)

    vector = envs.VectorEnv(Late, 1)
    assert vector.reset()["is_first"].all()
    assert "OSError: no display yet" in caplog.text


def test_a_wrong_shape_counts_as_a_crash(caplog: pytest.LogCaptureFixture) -> None:
    class Grows(Counter):
        def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
            obs, *rest = super().step(action)
            return (np.concatenate([obs, obs]) if self.t == 2 else obs, *rest)

    vector = envs.VectorEnv(Grows, 1)
    vector.reset()
    vector.step(LEFT[None])
    assert vector.step(LEFT[None])["is_last"].all()
    assert "has shape" in caplog.text


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("CartPole-v7", "no environment 'CartPole-v7'"),
        ("CartPol-v1", "did you mean 'CartPole-v1'"),
        ("nowhere:Thing-v0", "not installed"),
        ("not an id!", "cannot make|no environment"),
        (lambda: 5, "Gymnasium id or a function"),
    ],
)
def test_unknown_environments_are_one_line(env: Any, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        envs.make(env)
    assert "\n" not in str(caught.value)


def test_unsupported_spaces_name_the_entry() -> None:
    with pytest.raises(UserError, match="'word' is a Text; supported are Box"):
        envs.canonical_space(spaces.Dict({"word": spaces.Text(3)}))
    with pytest.raises(UserError, match="'reward': the name is reserved"):
        envs.canonical_space(spaces.Dict({"reward": spaces.Discrete(3)}))
    with pytest.raises(UserError, match="'dyn': the name is reserved"):  # its loss would replace another
        envs.canonical_space(spaces.Dict({"dyn": spaces.Discrete(3)}))
    with pytest.raises(UserError, match="finite bounds"):
        envs.ActionSpec.of(spaces.Box(-np.inf, 1, (2,)))
    with pytest.raises(UserError, match="finite bounds"):  # its bounds are those of int64, which are finite numbers
        envs.ActionSpec.of(spaces.Box(-np.inf, np.inf, (2,), np.int64))
    with pytest.raises(UserError, match="Text are not supported"):
        envs.ActionSpec.of(spaces.Text(3))
    with pytest.raises(UserError, match="several copies"):
        envs.VectorEnv(Counter(), 2)
