"""Settings: each has bounds and a type, some bound each other, and what cannot learn is refused before it begins."""

from __future__ import annotations

import dataclasses
import math
import operator
import typing
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamer_helpers.config import PRESETS, SIZES, Config, preset
from dreamer_helpers.errors import UserError
from dreamer_helpers.replay import Replay
from dreamer_helpers.train import DreamerV3, train
from helpers import TINY, make_batch

KINDS = typing.get_type_hints(Config)
FIELDS = {field.name: field for field in dataclasses.fields(Config)}
NUMBERS = [name for name, kind in KINDS.items() if kind in (int, float)]
INSIDE: dict[str, Any] = {"low": operator.ge, "high": operator.le, "above": operator.gt, "below": operator.lt}


def limits(name: str) -> dict[str, Any]:
    return FIELDS[name].metadata["limits"]


def refused(name: str, value: Any) -> str:
    """The line that refuses a value: it names the setting and the value."""
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TINY, **{name: value})
    text = str(caught.value)
    assert text.startswith(f"config: {name} must be ") and text.endswith(f", not {value!r}"), text
    assert "\n" not in text
    return text


def outside(name: str) -> list[float]:
    """A value just outside each bound of a number."""
    step = {int: 1, float: 1e-6}[KINDS[name]]
    moves = {"low": -step, "high": step, "above": 0, "below": 0}
    return [bound + moves[kind] for kind, bound in limits(name).items()]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_lower_bound_and_is_held_to_all_of_them(name: str) -> None:
    assert {"low", "above"} & set(limits(name)), f"{name} has no lower bound"
    for value in outside(name):
        text = refused(name, value)
        for bound in limits(name).values():
            assert f"{bound:g}" in text
    for value in (-1e30, -1, math.nan, math.inf, -math.inf):
        refused(name, value)
    if {"high", "below"} & set(limits(name)):
        refused(name, 10**30)


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_held_to_its_type(name: str) -> None:
    value = getattr(TINY, name)
    wrong: dict[Any, list[Any]] = {
        int: [2.0, 2.5, "2", True, None, np.float32(2)], float: ["0.5", True, None, [0.5], 1j],
        str: [1, None, ["pooled"], "round"], bool: [0, 1, "True", None],
        tuple[int, ...]: [3, "12", [1, 2], (1.5,), ("1",), (0,), (True,)],
        tuple[str, ...]: ["adam", ["adam"], (1,), None],
    }  # fmt: skip
    for other in wrong[KINDS[name]]:
        refused(name, other)
    assert dataclasses.replace(TINY, **{name: value}) == TINY


def test_a_whole_number_is_a_number() -> None:
    assert dataclasses.replace(TINY, train_ratio=4) == dataclasses.replace(TINY, train_ratio=4.0)


def with_bound(name: str, value: float) -> Config:
    """TINY with a setting at its bound, and with what is bound to that setting moved along."""
    together: dict[str, dict[str, float]] = {
        "rnn_hidden_dim": {"blocks": 1}, "max_std": {"min_std": value}, "return_low": {"return_high": 100.0},
        "return_high": {"return_low": 0.0}, "seq_len": {"imagination_last": 0},
        "cnn_depth": {"blocks": 1},
    }  # fmt: skip
    small = dataclasses.replace(TINY, cnn_mults=(1,), batch_size=2, seq_len=3, imagination_horizon=1, num_bins=7)
    return dataclasses.replace(small, **together.get(name, {}), **{name: value})


def at_bounds(name: str) -> list[float]:
    """The outermost values that a number may have; bounds of thousands are of memory, and left out."""
    if name in ("return_low", "return_high"):  # which bound each other
        return [0.0, 99.9] if name == "return_low" else [0.1, 100.0]
    inside = {"above": 1e-3, "below": -1e-3}
    return [bound + inside.get(kind, 0) for kind, bound in limits(name).items() if bound < 1000]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NUMBERS if n not in ("replay_capacity", "num_envs")])
def test_a_setting_at_its_bound_still_makes_a_step(name: str) -> None:
    """So nothing worse is behind a bound than what it says."""
    images, moves = spaces.Box(0, 255, (8, 8, 3), "uint8"), spaces.Box(-1, 1, (2,))
    for value in at_bounds(name):
        settings = with_bound(name, value)
        torch.manual_seed(0)
        agent = DreamerV3(settings, spaces.Dict({"image": images, "vector": spaces.Box(-1, 1, (2,))}), moves)
        batch = make_batch(settings, agent.observation_space, moves)
        for _ in range(2):
            _, metrics = agent.train_step(batch)
        assert all(torch.isfinite(metric) for metric in metrics.values())
        assert all(torch.isfinite(parameter).all() for parameter in agent.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(return_low=95.0, return_high=5.0), "return_low .95.0. must be below return_high .5.0."),
        (dict(return_low=50.0, return_high=50.0), "return_low .50.0. must be below return_high"),
        (dict(min_std=0.5, max_std=0.4), "min_std .0.5. cannot exceed max_std .0.4."),
        (dict(imagination_last=1), "imagination_last must be 0 or at least 2"),
        (dict(cnn_mults=()), "cnn_mults must have an entry"),
        (dict(blocks=3), "rnn_hidden_dim .16. must be a multiple of blocks .3."),
        (dict(imagination_last=5), "imagination_last .5. cannot exceed seq_len .4."),
        (dict(replay_capacity=15), "never holds a batch of 4 x 4 steps; make replay_capacity at least 20"),
    ],
)
def test_settings_that_bound_each_other(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        dataclasses.replace(TINY, **settings)


def test_channels_that_do_not_divide_into_blocks_are_told() -> None:
    settings = dataclasses.replace(TINY, cnn_depth=3, cnn_mults=(1,))
    with pytest.raises(UserError, match=r"gives 3 channels, which must be a multiple of blocks .2."):
        DreamerV3(settings, spaces.Box(0, 255, (8, 8, 3), "uint8"), spaces.Discrete(2))


@pytest.mark.parametrize("name", [*PRESETS, *(f"default {size}" for size in SIZES)])
def test_presets_and_official_sizes_are_within_bounds(name: str) -> None:
    settings = preset(*name.split())
    assert Config.from_dict(settings.to_dict()) == settings


# -------------------------------------------------------------------------------- what cannot learn at all


def test_a_replay_that_never_holds_a_batch_is_refused_at_the_start() -> None:
    with pytest.raises(UserError, match=r"256 steps keeps 85 of each of 3 environments.*at least 258"):
        preset("cpu", replay_capacity=256, num_envs=3)
    preset("cpu", replay_capacity=258, num_envs=3)


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 5])
def test_a_replay_gets_ready_exactly_where_it_is_said_to(num_envs: int, batch_size: int) -> None:
    """Every capacity is tried: refused are those that would never give a batch, and the line names the smallest."""
    record = {"x": np.zeros((num_envs, 1), np.float32), "is_first": np.zeros(num_envs, bool)}
    record["is_last"] = record["is_first"]
    seq_len, smallest, named = 3, None, set()
    for capacity in range(1, 50):
        try:
            Replay.check(capacity, num_envs, seq_len, batch_size)
        except UserError as error:
            assert smallest is None  # all of those below the smallest, and none above
            named.add(int(str(error).split("at least ")[1]))
            continue
        smallest = smallest or capacity
        replay = Replay(capacity, num_envs, seq_len)
        rows = Replay.rows_needed(num_envs, seq_len, batch_size)
        for row in range(1, rows + 1):
            replay.add(record)
            assert replay.ready(batch_size) == (row == rows)
        assert len(replay.sample(batch_size)["index"]) == batch_size
    assert named == {smallest}


def test_a_training_too_short_for_its_first_batch_says_so() -> None:
    with pytest.warns(UserWarning, match="may end without having learned: a batch takes 20 steps, and there are 12"):
        assert train(TINY, "CartPole-v1", 12, progress_bar=False).updates == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(TINY, "CartPole-v1", 24, progress_bar=False).updates > 0
