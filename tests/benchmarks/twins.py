"""What each twin of ``dreamer_helpers/fast.py`` saves of a whole gradient step, in turns with and without it.

    python tests/benchmarks/twins.py [--config vector 32px S1 S2] [--preset default v2023] [--rounds 9] [--twin ...]

One row a twin: the time of a step without it as a share of the step with all of them (CPU time of the process, median
of the rounds), and the same of the most memory that tensors take at a time. *readable* is the step with none. A twin
that saves less than 5 % of the time of any of these steps, and less than a tenth of the memory, should go.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from step import CONFIGURATIONS, configuration

from dreamer_helpers import actor_critic, fast, nets, symlog, variants, world_model
from dreamer_helpers import device as hardware
from dreamer_helpers.agent import DreamerV3

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from helpers import height_of, make_batch

Twins = dict[type, type]


def leave_out(*kinds: type) -> contextlib.AbstractContextManager[object]:
    """Inside, these classes have no twin."""
    kept = {kind: twin for kind, twin in fast.TWINS.items() if kind not in kinds}
    return mock.patch.dict(fast.TWINS, kept, clear=True)


WITHOUT: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "norm and SiLU": lambda: leave_out(
        nets.RMSNorm, variants.LayerNorm, nets.Layer, nets.Stages
    ),
    "block GRU": lambda: leave_out(world_model.BlockGRU, nets.BlockLinear),
    "loops": lambda: leave_out(world_model.WorldModel, world_model.RSSM),
    "two bins": lambda: mock.patch.object(fast, "two_hot_loss", symlog.two_hot_loss),
    "look-ups": lambda: mock.patch.object(fast, "LOOKUP", 10**9),
    "actor once": lambda: mock.patch.object(fast, "MANY", 10**9),
    "the whole dream": lambda: mock.patch.multiple(
        fast, dream=actor_critic.dream, imagination_losses=actor_critic.imagination_losses
    ),
    "dream first": lambda: mock.patch.object(fast.FastDreamerV3, "gradients", DreamerV3.gradients),
}  # fmt: skip
"""By the name of a twin, the context in which an agent learns without it."""


class Side:
    """An agent that learns in a context, and how long its steps take."""

    def __init__(self, name: str, config: str, preset: str | None):
        self.context = WITHOUT.get(name, contextlib.nullcontext)
        settings, observations, actions = configuration(config, preset)
        self.agent = DreamerV3(settings, observations, actions)
        with self.context():
            fast.accelerate(self.agent, "readable" if name == "readable" else "fast")
        self.batch = make_batch(self.agent.config, self.agent.observation_space, actions)
        self.times: list[float] = []
        self.step()
        self.memory = height_of(self.step)
        self.times.clear()

    def step(self) -> None:
        """One gradient step."""
        with self.context():
            start = time.process_time()
            self.agent.train_step(self.batch)
            self.times.append(1000 * (time.process_time() - start))


def rows(config: str, preset: str | None, names: list[str], rounds: int) -> Iterator[str]:
    """One line a twin."""
    whole = Side("", config, preset)
    for name in names:
        other = Side(name, config, preset)
        whole.times.clear()
        for _ in range(rounds):
            whole.step(), other.step()
        with_all, without = statistics.median(whole.times), statistics.median(other.times)
        yield (
            f"| {config} | {preset or CONFIGURATIONS[config][3]} | {name} | {without:.0f} / {with_all:.0f} | "
            f"{without / with_all:.3f} | {other.memory / whole.memory:.3f} |"
        )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["vector", "32px"], choices=list(CONFIGURATIONS))
    parser.add_argument("--preset", nargs="+", default=[None])
    parser.add_argument("--twin", nargs="+", default=["readable", *WITHOUT])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--medium", action="store_true", help="float32 products by the faster library")
    options = parser.parse_args()
    hardware.set_threads(1, options.medium)
    print("| step | preset | without | ms without / with all | share of time | share of memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for config in options.config:
        for preset in options.preset:
            for line in rows(config, preset, options.twin, options.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
