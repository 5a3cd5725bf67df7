"""One short run of each task of the learning table, by the way that the table is made, and one that must learn."""

from __future__ import annotations

import math
import statistics
import sys
from functools import partial
from pathlib import Path

import pytest

from dreamer_helpers import bounds, train, worlds
from dreamer_helpers.config import Config, preset
from dreamer_helpers.evaluate import evaluate

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

import learning


@pytest.mark.slow
@pytest.mark.parametrize("env", learning.TASKS)
def test_a_short_run(env: str) -> None:
    """Half a thousand steps: the report is complete, the agent was trained with the one preset, and played."""
    task = learning.TASKS[env]
    episodes = task.episodes if task.episodes == "all" else 4
    result = learning.run(env, seed=7, steps=500, episodes=episodes)
    assert Config.from_dict(result["config"]) == preset("cpu")
    assert 490 <= result["steps"] <= 500
    assert result["updates"] >= 20
    assert result["eval_episodes"] == (128 if episodes == "all" else 4)
    assert all(math.isfinite(result[key]) for key in ("eval_mean", "eval_min", "eval_sampled_mean"))
    assert result["eval_min"] <= result["eval_mean"]
    if env.startswith("tasks:CartPole"):
        assert 8 <= result["eval_mean"] / task.unit <= 500


@pytest.mark.slow
def test_a_run_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="CartPole-v1, seed 0: error: --eval-episodes all: CartPole-v1 has no"):
        learning.run("CartPole-v1", 0, episodes="all")


@pytest.mark.slow
def test_what_was_seen_is_remembered() -> None:
    """A training whose greedy episodes beat whatever can be reached without memory, by the world's own rules.

    A short corridor and small nets, for a minute of training. Every part takes part in it, and the replay, the context
    of sequences, the dreams and the critic must hand on the right numbers for it.
    """
    corridor = partial(worlds.TMaze, corridor=2, patience=10)
    small = dict(
        rnn_hidden_dim=64, hidden_dim=64, cnn_depth=8, batch_size=8, seq_len=8, imagination_horizon=6,
        imagination_last=4, train_ratio=32.0,
    )  # fmt: skip
    progress = train.train(preset("cpu", **small), corridor, 1600, seed=2, progress_bar=False)
    known = bounds.tmaze(corridor=2, steps=10)
    reached = statistics.mean(evaluate(progress.agent, corridor, 100))
    assert known["memoryless"] == 0.5
    assert reached > 0.9 * known["best"]
