"""The benchmark runs and writes what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

import bench  # noqa: E402
import step  # noqa: E402
from serve import Worker  # noqa: E402

KEYS = {
    "config", "preset", "precision", "params", "gflop", "cpu_ms_median", "cpu_ms_min", "wall_ms_median",
    "peak_rss_mb", "policy_ms",
}  # fmt: skip


@pytest.mark.slow
def test_a_step_is_timed() -> None:
    row = bench.step("--config", "vector", "--set", "seq_len=8", "--precision", "bf16", steps=2)
    assert row.keys() >= KEYS
    assert (row["config"], row["preset"], row["precision"]) == ("vector", "cpu", "bfloat16")
    assert 0 < row["cpu_ms_min"] <= row["cpu_ms_median"]
    assert 0 < row["policy_ms"] < row["cpu_ms_median"]
    assert 100 < row["peak_rss_mb"] < 2000
    assert 0.1 < row["gflop"] < 10


@pytest.mark.slow
def test_a_process_takes_turns() -> None:
    arguments = ["--config", "vector", "--preset", "cpu", "--device", "cpu", "--serve"]
    worker = Worker(sys.executable, str(ROOT / "tests" / "benchmarks" / "step.py"), *arguments)
    worker.ask("train", 1, keep=False)
    worker.ask("train", 2)
    worker.ask("act", 3)
    worker.close()
    assert worker.facts["parameters"] > 1e5
    assert len(worker.cpu["train"]) == 2 and worker.median("act") < worker.median("train")
    assert worker.process.returncode == 0


def test_ratios_are_of_the_same_round() -> None:
    """A slow round that falls on both leaves no trace."""
    fast, slow = (Worker.__new__(Worker) for _ in range(2))
    fast.cpu, slow.cpu = {"train": [1.0, 50.0, 2.0]}, {"train": [2.0, 100.0, 4.0]}
    assert fast.times_faster(slow, "train") == 2


def test_the_standard_configurations_have_the_sizes_of_the_peer() -> None:
    """S1 is the same work to a thousandth of its parameters; S2's decoder begins otherwise, with fewer."""
    sizes = {}
    for name in ("S1", "S2"):
        config, *spaces = step.configuration(name, "v2023")
        _, agent = step.make_work(config, *spaces, torch.device("cpu"))
        sizes[name] = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert sizes["S1"] == pytest.approx(1_849_000, rel=1e-3)
    assert sizes["S2"] == pytest.approx(6_650_000, rel=1e-2)


def test_the_exponent_of_growth() -> None:
    assert bench.slope(2, 8, 3, 12) == pytest.approx(1)
    assert bench.slope(1, 10, 5, 500) == pytest.approx(2)


def test_a_replay_is_full_and_can_be_sampled() -> None:
    replay = bench.full_replay(1000, np.zeros(4, np.float32), 16)
    assert len(replay) == 1000
    assert replay.sample(16)["obs"].shape == (16, 17, 4)
