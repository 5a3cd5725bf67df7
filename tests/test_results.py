"""The learning table of the README: it is what was measured, with the settings of today, and holds what is promised."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer_helpers import bounds
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
    task = learning.TASKS[env]
    assert [run["seed"] for run in runs(env)] == list(range(task.seeds))
    for run in runs(env):
        assert run["eval_episodes"] == (128 if task.episodes == "all" else 100)
        assert 0.95 * task.steps < run["steps"] <= task.steps
        assert run["curve"][-1][0] == run["steps"]
        assert run["cpu_s"] <= 300


PROMISES = {  # median and worst seed of the greedy mean, and the budget of environment steps
    "CartPole-v1": (495, 450, 10_000),
    "Pendulum-v1": (-155, -200, 8_000),
    "dreamer_helpers/TMaze-v0": (1.0, 1.0, 12_000),
    "dreamer_helpers/Catch-v0": (0.98, 0.92, 25_000),
    "Acrobot-v1": (-110, -110, 20_000),
    "tasks:MiniGridEmpty5x5-v0": (0.9, 0.9, 20_000),
    "tasks:CartPoleMilli-v0": (495, 450, 10_000),  # in units of the reward: as good as with 1
    "tasks:CartPoleKilo-v0": (495, 450, 10_000),
}


@pytest.mark.parametrize("env", PROMISES)
def test_the_promises_hold(env: str) -> None:
    median, worst, steps = PROMISES[env]
    task = learning.TASKS[env]
    returns = [run["eval_mean"] / task.unit for run in runs(env)]
    assert task.steps <= steps
    assert statistics.median(returns) >= median
    assert min(returns) >= worst


@pytest.mark.slow
def test_every_seed_goes_four_fifths_of_the_way_in_the_orchard() -> None:
    known = bounds.orchard()
    wanted = known["random"] + 0.8 * (known["best"] - known["random"])
    assert min(run["eval_mean"] for run in runs("dreamer_helpers/Orchard-v0")) >= wanted
    assert learning.TASKS["dreamer_helpers/Orchard-v0"].steps <= 30_000


def test_dreams_are_right() -> None:
    orchard = [run["dreams"] for run in runs("dreamer_helpers/Orchard-v0")]
    assert max(d["error"] / d["copy"] for d in orchard) <= 0.10
    assert min(d["frames"] for d in orchard) >= 1000
    assert min(run["dreams"]["exact"] for run in runs("dreamer_helpers/TMaze-v0")) >= 0.99


@pytest.mark.slow
def test_levels_in_the_figure_are_those_computed() -> None:
    for env, known in (("TMaze", bounds.tmaze()), ("Catch", bounds.catch(changes=0)), ("Orchard", bounds.orchard())):
        for level, name in learning.REFERENCES[f"dreamer_helpers/{env}-v0"]:
            assert level == pytest.approx(known[name.replace("without memory", "memoryless")], abs=0.01)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_intervals_cover_what_they_say(seeds: int) -> None:
    """In 20,000 trials of so many normal numbers; a share of 95 % is then known to half a per cent."""
    trials = np.random.default_rng(0).normal(10, 3, (seeds, 20_000))
    low, high = learning.interval(trials)
    assert ((low <= 10) & (high >= 10)).mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(("seeds", "covered"), [(3, 0.81), (5, 0.88)])
def test_errors_of_few_seeds_are_not_normal(seeds: int, covered: float) -> None:
    """What 1.96 standard errors cover: the trials above would tell."""
    trials = np.random.default_rng(0).normal(10, 3, (seeds, 20_000))
    half = 1.96 * trials.std(0, ddof=1) / seeds**0.5
    assert (np.abs(trials.mean(0) - 10) <= half).mean() == pytest.approx(covered, abs=0.01)


def test_seeds_that_agree_have_an_interval_of_no_width() -> None:
    low, high = learning.interval(np.full((3, 4), 0.7))
    np.testing.assert_allclose(low, 0.7)
    np.testing.assert_allclose(high, 0.7)


@pytest.mark.parametrize("env", learning.TASKS)
def test_curves_and_their_bands_are_possible(env: str) -> None:
    task, (_, values) = learning.TASKS[env], learning.curves(RESULTS, env)
    smallest, largest = task.possible
    low, high = learning.interval(values, task.possible)
    assert smallest <= values.min() and values.max() <= largest
    assert smallest <= low.min() and high.max() <= largest
    assert (low <= values.mean(0) + 1e-9).all() and (values.mean(0) <= high + 1e-9).all()
    assert all(level <= largest for level, _ in learning.REFERENCES.get(env, ()))


def test_a_band_that_would_leave_what_is_possible_is_cut() -> None:
    _, values = learning.curves(RESULTS, "dreamer_helpers/TMaze-v0")
    assert learning.interval(values)[1].max() > 1 == learning.interval(values, (0, 1))[1].max()
