"""One short run of each kind of task in the learning table, by the way that the table is made."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from dreamer_helpers.config import Config, preset

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
