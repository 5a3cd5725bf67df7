"""Time one gradient step and one policy step of standard configurations.

    python tests/benchmarks/step.py [--all] [--only S1 ...] [--steps 10] [--device cpu] [--precision float32] [--json F]

S1 (vector of 8, 2 actions) and S2 (64 x 64 x 3 pixels, 6 actions) are the configurations that other DreamerV3 code
was measured with: batch 16 x 64, horizon 15, a dream from each of the 1,024 states. ``cpu-*`` is the preset of the
lessons. Milliseconds are of process CPU time on a CPU, of synchronised wall time on a GPU; parameters in millions.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from dreamer_helpers import device as hardware
from dreamer_helpers.config import Config, preset
from dreamer_helpers.train import DreamerV3

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
VECTOR8, PIXELS64 = spaces.Box(-np.inf, np.inf, (8,)), spaces.Box(0, 255, (64, 64, 3), np.uint8)
OLD = dict(variants=("layer_norm", "dense_gru", "symlog_two_hot", "hard_continue", "three_adams"))

CONFIGURATIONS: dict[str, tuple[Config, spaces.Space, spaces.Space]] = {
    "S1": (preset("default", **S1), VECTOR8, spaces.Discrete(2)),
    "S1-2023": (preset("default", **S1, **OLD), VECTOR8, spaces.Discrete(2)),
    "S2": (preset("default", **S2), PIXELS64, spaces.Discrete(6)),
    "S2-2023": (preset("default", **S2, **OLD), PIXELS64, spaces.Discrete(6)),
    "cpu-vector": (preset("cpu"), spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(2)),
    "cpu-16px": (preset("cpu"), spaces.Box(0, 255, (16, 16, 3), np.uint8), spaces.Discrete(4)),
}  # fmt: skip


def timed(work: Callable[[], Any], repeat: int, on: torch.device) -> list[float]:
    """Milliseconds of each of so many calls, after two to warm up."""
    clock = time.perf_counter if on.type == "cuda" else time.process_time
    result = []
    for i in range(repeat + 2):
        start = clock()
        work()
        if on.type == "cuda":
            torch.cuda.synchronize(on)
        if i >= 2:
            result.append(1000 * (clock() - start))
    return result


def measure(
    name: str, steps: int, device: str | None, precision: str | None, threads: int, fast_products: bool | None
) -> dict[str, Any]:
    """One row of the table. Peak memory is that of the process, so each row gets one of its own."""
    hardware.set_threads(threads, fast_products)
    on = hardware.select_device(device)
    config, observations, actions = CONFIGURATIONS[name]
    torch.manual_seed(0)
    agent = DreamerV3(config, observations, actions, device=on, precision=precision)
    batch = make_batch(agent.config, agent.observation_space, actions)
    batch = {key: value.to(on) for key, value in batch.items()}
    training = timed(lambda: agent.train_step(batch), steps, on)
    obs = {key: np.stack([space.sample()]) for key, space in agent.observation_space.items()}
    obs["is_first"] = np.array([False])
    carry = agent.act(obs, None)[1]
    acting = timed(lambda: agent.act(obs, carry), 10 * steps, on)
    if on.type == "cuda":
        memory = torch.cuda.max_memory_allocated(on) / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "configuration": name, "parameters_m": sum(p.numel() for p in agent.parameters() if p.requires_grad) / 1e6,
        "step_ms_min": min(training), "step_ms_median": statistics.median(training),
        "act_ms_median": statistics.median(acting), "peak_memory_mb": memory, "device": on.type,
        "precision": precision or "by device", "threads": torch.get_num_threads(),
    }  # fmt: skip


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all configurations (the default is S1)")
    parser.add_argument("--only", nargs="+", choices=list(CONFIGURATIONS))
    parser.add_argument("--steps", type=int, default=10, help="timed gradient steps")
    parser.add_argument("--device", help="cpu, cuda or mps; default: the best there is")
    parser.add_argument("--precision", help="float32 or bfloat16; default: by device")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--exact-products", action="store_true", help="keep torch's own float32 matrix products")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    settings = (
        options.steps, options.device, options.precision, options.threads, False if options.exact_products else None
    )  # fmt: skip
    print("| configuration | parameters (M) | gradient step, ms: min / median | acting, ms | peak memory, MB |")
    print("| --- | --- | --- | --- | --- |")
    rows = []
    for name in options.only or (CONFIGURATIONS if options.all else ["S1"]):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, name, *settings).result()
        rows.append(row)
        print(
            f"| {name} | {row['parameters_m']:.2f} | {row['step_ms_min']:.1f} / {row['step_ms_median']:.1f} "
            f"| {row['act_ms_median']:.2f} | {row['peak_memory_mb']:.0f} |", flush=True,
        )  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
