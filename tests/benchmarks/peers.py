"""Our gradient step beside that of sheeprl, the fastest DreamerV3 in PyTorch, on the same core, in turns.

    make bench-peers

installs sheeprl in an environment of its own (build/peers) and prints CPU milliseconds of a gradient step and of a
policy step, with torch's own float32 products ("highest", as sheeprl ships) and with those of oneDNN ("medium"). Both
do the same work at the same sizes: S1 and S2 of ``step.py``. In each round every process does one step, so that what
else the machine does falls on all alike; times are medians over the rounds, and so is the ratio of two of one round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from serve import HERE, Worker

ROOT = HERE.parent.parent


def workers(name: str, peer: Path, core: int | None) -> dict[str, Worker]:
    """The processes that take turns, by what they are."""
    ours = [sys.executable, str(HERE / "step.py"), "--config", name, "--device", "cpu", "--serve"]
    theirs = [str(peer.absolute()), str(HERE / "peer_sheeprl.py"), name]
    commands = {
        "sheeprl, as shipped": [*theirs, "highest"],
        'sheeprl, "medium"': [*theirs, "medium"],
        "ours, v2023, highest": [*ours, "--preset", "v2023", "--matmul", "highest"],
        "ours, v2023": [*ours, "--preset", "v2023", "--matmul", "medium"],
        "ours, v2023, bf16": [*ours, "--preset", "v2023", "--matmul", "medium", "--precision", "bf16"],
        "ours, default": [*ours, "--preset", "default", "--matmul", "medium"],
        "ours, default, bf16": [*ours, "--preset", "default", "--matmul", "medium", "--precision", "bf16"],
    }
    if name == "S2":
        commands["ours, default, pooled"] = [*commands["ours, default"], "--pooled"]
    return {label: Worker(*command, core=core) for label, command in commands.items()}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=ROOT / "build/peers/bin/python", help="a Python that has sheeprl")
    parser.add_argument("--only", nargs="+", choices=["S1", "S2"], default=["S1", "S2"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--core", type=int, help="the core that all run on; default: the last")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    core = options.core if options.core is not None else (os.cpu_count() or 1) - 1
    core = core if hasattr(os, "sched_setaffinity") else None
    rows = []
    for name in options.only:
        processes = workers(name, options.peer, core)
        for worker in processes.values():
            worker.ask("train", 2, keep=False)  # to warm up
            worker.ask("act", 20, keep=False)
        for _ in range(options.rounds):
            for worker in processes.values():
                worker.ask("train", 1)
                worker.ask("act", 20)
        yardstick = processes['sheeprl, "medium"']
        print(f"\n| {name} | parameters (M) | step, ms: min / median | times faster | policy step, ms | peak, MB |")
        print("| --- | --- | --- | --- | --- | --- |")
        for label, worker in processes.items():
            step = worker.median("train")
            row = {
                "config": name, "what": label, "params": worker.facts["parameters"],
                "cpu_ms_min": min(worker.cpu["train"]), "cpu_ms_median": step, "policy_ms": worker.median("act"),
                "peak_rss_mb": worker.peak, "against_medium": worker.times_faster(yardstick, "train"),
            }  # fmt: skip
            rows.append(row)
            print(
                f"| {label} | {row['params'] / 1e6:.2f} | {row['cpu_ms_min']:.0f} / {step:.0f} | "
                f"{row['against_medium']:.2f} | {row['policy_ms']:.2f} | {worker.peak:.0f} |", flush=True,
            )  # fmt: skip
            worker.close()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
