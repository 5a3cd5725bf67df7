"""A process that does timed steps when it is told to: what ``step.py`` and ``peers.py`` measure with.

One process for each configuration, so that its peak memory is its own; started once and asked in turns, so that what
else the machine does falls on all alike.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def serve(work: dict[str, Callable[[], Any]], facts: dict[str, Any]) -> None:
    """Answer each line ``name count`` on standard input by a line of JSON: milliseconds of each call of the work."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        cpu, wall = [], []
        for _ in range(int(count)):
            start = time.process_time(), time.perf_counter()
            work[name]()
            cpu.append(1000 * (time.process_time() - start[0]))
            wall.append(1000 * (time.perf_counter() - start[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"cpu": cpu, "wall": wall, "peak_rss_mb": peak}), flush=True)


class Worker:
    """A serving process, on one core of this machine where the system allows to choose."""

    def __init__(self, *command: str, core: int | None = None):
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, preexec_fn=pin
        )  # fmt: skip
        self.facts = self._read()
        self.cpu: dict[str, list[float]] = {}
        self.wall: dict[str, list[float]] = {}
        self.peak = 0.0

    def _read(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries greet on standard output
                return json.loads(line)
        raise SystemExit(f"{' '.join(self.process.args)} ended before it answered")

    def ask(self, name: str, count: int, keep: bool = True) -> None:
        """Have so many calls of a work done, and keep their times."""
        self.process.stdin.write(f"{name} {count}\n")
        self.process.stdin.flush()
        answer = self._read()
        self.peak = answer["peak_rss_mb"]
        if keep:
            self.cpu.setdefault(name, []).extend(answer["cpu"])
            self.wall.setdefault(name, []).extend(answer["wall"])

    def median(self, name: str) -> float:
        """Median CPU milliseconds of a work."""
        return statistics.median(self.cpu[name])

    def times_faster(self, other: Worker, name: str) -> float:
        """Median, over the rounds, of the other's time over this one's in the same round."""
        return statistics.median(theirs / own for own, theirs in zip(self.cpu[name], other.cpu[name], strict=True))

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
