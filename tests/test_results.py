"""The learning table of the README: it is what was measured, with the settings of today, and holds what is promised."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamer_helpers.config import Config, preset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import learning  # noqa: E402

RESULTS: dict[str, Any] = json.loads(learning.RESULTS.read_text())


def runs(env: str) -> list[dict[str, Any]]:
    return [run for run in RESULTS["runs"] if run["env"] == env]


def test_the_table_is_what_was_measured() -> None:
    readme = learning.README.read_text()
    assert learning.with_table(readme, RESULTS) == readme


def test_it_was_measured_with_the_settings_of_today() -> None:
    assert Config.from_dict(RESULTS["config"]) == preset("cpu")


@pytest.mark.parametrize("env", learning.TASKS)
def test_every_seed_is_there_and_within_its_budget(env: str) -> None:
    assert [run["seed"] for run in runs(env)] == list(learning.SEEDS)
    for run in runs(env):
        assert run["eval_episodes"] == 100
        assert 0.95 * learning.TASKS[env].steps < run["steps"] <= learning.TASKS[env].steps
        assert run["curve"][-1][0] == run["steps"]


def test_the_promises_hold() -> None:
    poles = [run["eval_mean"] for run in runs("CartPole-v1")]
    assert statistics.median(poles) >= 475
    assert min(poles) >= 400
    assert min(run["eval_mean"] for run in runs("dreamer_helpers/TMaze-v0")) >= 0.98
    pendulums = [run["eval_mean"] for run in runs("Pendulum-v1")]
    assert statistics.median(pendulums) >= -155
    assert min(pendulums) >= -200
