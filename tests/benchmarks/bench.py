"""What everything costs: the table of ``make bench``, and how cost grows with the work (``--growth``).

    python tests/benchmarks/bench.py [--growth] [--json build/bench.json]

Every gradient step is measured by ``step.py`` in a process of its own, on one thread. Growth: one thing is made
larger, all else stays; the exponent is the slope of CPU time over what is made larger, both as logarithms, from the
first row to each. 1 means in proportion.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serve import HERE

from dreamer_helpers import device as hardware
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import preset
from dreamer_helpers.envs import VectorEnv
from dreamer_helpers.replay import Replay

ROWS = [
    ("S1", "v2023"), ("S1", "v2023", "--precision", "bf16"), ("S1", "default"),
    ("S1", "default", "--precision", "bf16"), ("S2", "v2023"), ("S2", "v2023", "--precision", "bf16"),
    ("S2", "default"), ("S2", "default", "--pooled"), ("vector", "cpu"), ("16px", "cpu"), ("32px", "cpu"),
    ("S1", "default", "--speed", "readable"), ("S2", "default", "--speed", "readable"),
    ("vector", "cpu", "--speed", "readable"), ("16px", "cpu", "--speed", "readable"),
    ("32px", "cpu", "--speed", "readable"),
]  # fmt: skip

SMALL_BATCH = ["--set", "batch_size=4", "--set", "seq_len=16", "--set", "replay_capacity=10000"]
GROWTH: dict[str, tuple[list[str], Sequence[Any], str]] = {
    "model size (preset default on a vector, batch 4 x 16)": (
        ["--config", "S1", *SMALL_BATCH, "--size"],
        ("1m", "12m", "25m", "50m"),
        "params",
    ),
    "sequence length (S1)": (["--config", "S1", "--set", "seq_len={}"], (16, 32, 64, 128), "value"),
    "batch (S1)": (["--config", "S1", "--set", "batch_size={}"], (4, 8, 16, 32), "value"),
    "side of the image (S2, batch 4 x 16)": (["--config", "S2", *SMALL_BATCH, "--side"], (16, 32, 64, 128), "pixels"),
}
"""By what grows: the arguments of ``step.py``, the values, and what the work is in proportion to."""


def step(*arguments: str, steps: int = 9) -> dict[str, Any]:
    """The line of ``step.py``."""
    command = [sys.executable, str(HERE / "step.py"), *arguments, "--device", "cpu", "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE)
    return json.loads(done.stdout.splitlines()[-1])


def milliseconds(work: Callable[[], Any], repeat: int = 50) -> float:
    """Median CPU milliseconds of a call, after some to warm up."""
    times = []
    for i in range(repeat + 5):
        start = time.process_time()
        work()
        if i >= 5:
            times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


def environment(env: str) -> dict[str, float]:
    """Steps per CPU second of four environments in lockstep with random actions."""
    vector = VectorEnv(env, 4, 0)
    vector.reset()
    rng, count = np.random.default_rng(0), vector.action_space.n
    actions = np.eye(count, dtype=np.float32)[rng.integers(count, size=(64, 4))]
    turn = iter(range(10**9))
    return {
        "what": f"{env}: steps a second",
        "value": 4000 / milliseconds(lambda: vector.step(actions[next(turn) % 64]), 500),
    }


def full_replay(capacity: int, observation: np.ndarray, seq_len: int) -> Replay:
    """A replay of four environments, filled."""
    replay = Replay(capacity, 4, seq_len)
    record = {
        "obs": np.stack([observation] * 4), "reward": np.zeros(4, np.float32), "is_first": np.zeros(4, bool),
        "is_last": np.zeros(4, bool), "is_terminal": np.zeros(4, bool), "action": np.zeros((4, 2), np.float32),
        "deter": np.zeros((4, 128), np.float32), "stoch": np.zeros((4, 8), np.int16),
    }  # fmt: skip
    for _ in range(capacity // 4):
        replay.add(record)
    replay.queue.clear()
    return replay


def dream_frame() -> dict[str, Any]:
    """A frame of a dream on 32 x 32 pixels, one step of the model and its picture; preset cpu."""
    env = VectorEnv("dreamer_helpers/Orchard-v0", 1, 0)
    agent = DreamerV3(preset("cpu"), env.observation_space, env.action_space)
    action = torch.zeros(1, agent.actions.dim)
    state = agent.world_model.initial(1)

    @torch.no_grad()
    def frame() -> None:
        dreamed, _ = agent.world_model.imagine(state, lambda _: action, 1)
        agent.world_model.decode(type(state)(*(part[:, 1:] for part in dreamed)))

    return {"what": "a dreamed frame of 32 x 32 pixels, ms", "value": milliseconds(frame)}


def costs() -> list[dict[str, Any]]:
    """The table of ``make bench``, printed row by row."""
    print("| configuration | preset | precision | parameters (M) | GFLOP | step, ms: min / median | acting, ms | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows: list[dict[str, Any]] = []
    for name, preset_name, *more in ROWS:
        row = step("--config", name, "--preset", preset_name, *more)
        rows.append(row)
        kind = f"{name}, pooled" if "--pooled" in more else name
        print(
            f"| {kind} | {preset_name} | {'bf16' if 'bf16' in more else 'float32'} | {row['params'] / 1e6:.2f} | "
            f"{row['gflop']:.1f} | {row['cpu_ms_min']:.1f} / {row['cpu_ms_median']:.1f} | {row['policy_ms']:.2f} | "
            f"{row['peak_rss_mb']:.0f} |", flush=True,
        )  # fmt: skip
    hardware.set_threads(1)
    others = [environment(env) for env in ("CartPole-v1", "dreamer_helpers/TMaze-v0", "dreamer_helpers/Orchard-v0")]
    for what, image in (("numbers", np.zeros(4, np.float32)), ("32 x 32 pixels", np.zeros((32, 32, 3), np.uint8))):
        sample = partial(full_replay(100_000, image, 16).sample, 16)
        others.append({"what": f"a batch of 16 x 17 steps from replay, {what}, ms", "value": milliseconds(sample)})
    others.append(dream_frame())
    print("\n| | |\n| --- | --- |")
    for row in others:
        print(f"| {row['what']} | {row['value']:,.2f} |")
    return rows + others


def growth() -> list[dict[str, Any]]:
    """The tables of growth, printed row by row."""
    rows = []
    for title, (arguments, values, proportion) in GROWTH.items():
        print(f"\n| {title} | step, CPU ms | peak, MB | GFLOP | exponent so far |\n| --- | --- | --- | --- | --- |")
        first = None
        for value in values:
            given = [part.format(value) for part in arguments]
            row = step(*(given if given != arguments else [*given, str(value)]), steps=3)
            work = {"params": row["params"], "value": value, "pixels": value**2 if proportion == "pixels" else 0}[
                proportion
            ]
            row |= {"what": title, "value": value, "work": work}
            first = first or row
            row["exponent"] = slope(first["work"], work, first["cpu_ms_min"], row["cpu_ms_min"])
            rows.append(row)
            print(
                f"| {value} | {row['cpu_ms_min']:.0f} | {row['peak_rss_mb']:.0f} | {row['gflop']:.1f} | "
                f"{row['exponent']:.2f} |", flush=True,
            )  # fmt: skip
    print("\n| replay capacity, steps | a batch, ms | memory, MB | exponent so far |\n| --- | --- | --- | --- |")
    first = None
    for capacity in (1_000, 10_000, 100_000, 1_000_000):
        replay = full_replay(capacity, np.zeros(4, np.float32), 16)
        row = {"what": "replay capacity", "value": capacity, "work": capacity}
        row |= {"cpu_ms_min": milliseconds(partial(replay.sample, 16), 300), "mb": replay.nbytes / 2**20}
        first = first or row
        row["exponent"] = slope(first["work"], capacity, first["cpu_ms_min"], row["cpu_ms_min"])
        rows.append(row)
        print(f"| {capacity:,} | {row['cpu_ms_min']:.2f} | {row['mb']:.1f} | {row['exponent']:.2f} |", flush=True)
    return rows


def slope(x0: float, x1: float, y0: float, y1: float) -> float:
    """Of the line through two points, both axes logarithmic; NaN for one point."""
    return math.log(y1 / y0) / math.log(x1 / x0) if x1 != x0 else math.nan


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true", help="how cost grows, in place of what everything costs")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = growth() if options.growth else costs()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
