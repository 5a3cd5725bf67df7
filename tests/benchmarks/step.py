"""Time one gradient step and one policy step of a standard configuration; one line of JSON.

    python tests/benchmarks/step.py --config S1 --preset default [--speed readable] [--precision bf16] [--threads 1]

S1 (vector of 8, 2 actions) and S2 (64 x 64 x 3 pixels, 6 actions) are the sizes that other DreamerV3 code was measured
at: batch 16 x 64, horizon 15, a dream from each of the 1,024 states. vector, 16px and 32px are the tasks of the lessons
with the preset ``cpu``. Milliseconds on a CPU are of process CPU time, beside those of the clock; on a GPU both are of
the synchronised clock. ``gflop`` counts the multiplications and additions of products and convolutions of one step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from serve import serve
from torch.utils.flop_counter import FlopCounterMode

from dreamer_helpers import device as hardware
from dreamer_helpers import fast
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import Config, parse_override, preset, size_settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from helpers import make_batch

STANDARD = dict(
    mlp_layers=2, head_layers=1, num_bins=255, batch_size=16, seq_len=64, imagination_horizon=15, imagination_last=0,
    blocks=8, warmup=0,
)  # fmt: skip
S1 = dict(STANDARD, rnn_hidden_dim=256, hidden_dim=256, num_categoricals=16, num_categories=16)
S2 = dict(
    STANDARD, rnn_hidden_dim=512, hidden_dim=256, num_categoricals=32, num_categories=32, cnn_depth=16, cnn_kernel=4,
    cnn_mults=(1, 2, 4, 8), convolution="strided",
)  # fmt: skip


def pixels(side: int) -> spaces.Space:
    """The space of square colour images."""
    return spaces.Box(0, 255, (side, side, 3), np.uint8)


CONFIGURATIONS: dict[str, tuple[dict[str, Any], spaces.Space, spaces.Space, str]] = {
    "S1": (S1, spaces.Box(-np.inf, np.inf, (8,)), spaces.Discrete(2), "default"),
    "S2": (S2, pixels(64), spaces.Discrete(6), "default"),
    "vector": ({}, spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(2), "cpu"),
    "16px": ({}, pixels(16), spaces.Discrete(4), "cpu"),
    "32px": ({}, pixels(32), spaces.Discrete(3), "cpu"),
}
"""Sizes, observations, actions, and the preset that they are meant for."""


def configuration(
    name: str, preset_name: str | None = None, size: str | None = None, side: int | None = None, **changes: Any
) -> tuple[Config, spaces.Space, spaces.Space]:
    """Config and spaces of a standard configuration, with another model size or image, or single settings replaced."""
    sizes, observations, actions, usual = CONFIGURATIONS[name]
    settings = {**sizes, **(size_settings(size) if size else {}), **changes}
    return preset(preset_name or usual, **settings), pixels(side) if side else observations, actions


def make_work(
    config: Config,
    observations: spaces.Space,
    actions: spaces.Space,
    on: torch.device,
    precision: str | None = None,
    speed: str = "fast",
) -> tuple[dict[str, Callable[[], Any]], DreamerV3]:
    """``train`` and ``act``: one gradient step on a fixed batch, one step of the policy in one environment."""
    agent = fast.accelerate(DreamerV3(config, observations, actions, device=on, precision=precision), speed)
    batch = make_batch(agent.config, agent.observation_space, actions)
    batch = {key: value.to(on) for key, value in batch.items()}
    obs = {key: np.stack([space.sample()]) for key, space in agent.observation_space.items()}
    obs["is_first"] = np.array([False])
    carry = agent.act(obs, None)[1]

    def wait(work: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (work(), torch.cuda.synchronize(on)) if on.type == "cuda" else work()

    return {"train": wait(lambda: agent.train_step(batch)), "act": wait(lambda: agent.act(obs, carry))}, agent


def gflop(agent: DreamerV3, train: Callable[[], Any]) -> float:
    """Billions of multiplications and additions in one gradient step."""
    with FlopCounterMode(display=False) as counter:
        train()
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=list(CONFIGURATIONS), default="S1")
    parser.add_argument("--preset", choices=["v2023", "default", "cpu"], help="default: the one it is meant for")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="default: by device")
    parser.add_argument("--speed", choices=fast.SPEEDS, default="fast", help="of the gradient step")
    parser.add_argument("--matmul", choices=["highest", "medium"], help="float32 products; default: by width")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", help="an official model size in place of the configuration's")
    parser.add_argument("--side", type=int, help="images of so many pixels a side in place of the observation")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="replace one setting")
    parser.add_argument("--steps", type=int, default=9, help="timed gradient steps")
    parser.add_argument("--device", help="cpu, cuda or mps; default: the best there is")
    parser.add_argument("--pooled", action="store_true", help="S2 with the default's convolutions, 5 x 5, pooled")
    parser.add_argument("--json", action="store_true", help="nothing but the line of JSON, which is the default")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()

    on = hardware.select_device(options.device)
    precision = "bfloat16" if options.precision == "bf16" else options.precision
    changes = dict(convolution="pooled", cnn_kernel=5) if options.pooled else {}
    changes |= dict(parse_override(text) for text in options.set)
    config, *both = configuration(options.config, options.preset, size=options.size, side=options.side, **changes)
    pays = hardware.fast_products_pay(config.hidden_dim)
    hardware.set_threads(options.threads, pays if options.matmul is None else options.matmul == "medium")
    work, agent = make_work(config, *both, on, precision, options.speed)
    parameters = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    if options.serve:
        serve(work, {"parameters": parameters})
        return
    count, clock = options.steps, time.perf_counter if on.type == "cuda" else time.process_time
    cpu, wall = {}, {}
    for name, warm, repeat in (("train", min(2, count), count), ("act", 20, 30 * count)):
        cpu[name], wall[name] = [], []
        for i in range(warm + repeat):
            start = clock(), time.perf_counter()
            work[name]()
            if i >= warm:
                cpu[name].append(1000 * (clock() - start[0]))
                wall[name].append(1000 * (time.perf_counter() - start[1]))
    print(json.dumps({
        "config": options.config, "preset": options.preset or CONFIGURATIONS[options.config][3],
        "speed": options.speed, "precision": precision or "by device", "matmul": torch.get_float32_matmul_precision(),
        "convolution": config.convolution, "threads": options.threads, "device": on.type, "params": parameters,
        "cpu_ms_median": statistics.median(cpu["train"]), "cpu_ms_min": min(cpu["train"]),
        "wall_ms_median": statistics.median(wall["train"]), "policy_ms": statistics.median(cpu["act"]),
        "peak_rss_mb": peak_memory(on), "gflop": gflop(agent, work["train"]),
    }))  # fmt: skip


def peak_memory(on: torch.device) -> float:
    """Megabytes at the highest: of the GPU, or of the process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
