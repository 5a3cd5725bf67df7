"""The command line: ``python -m dreamer_helpers.train``. Train, evaluate, report; go on with ``--resume``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from dreamer_helpers import device as hardware
from dreamer_helpers.checkpoint import TRAINING, TRAINING_FILE, Checkpoint, make_folder
from dreamer_helpers.config import PRESETS, Config, parse_override, preset
from dreamer_helpers.envs import make
from dreamer_helpers.errors import Stopped, UserError
from dreamer_helpers.evaluate import evaluate
from dreamer_helpers.fast import SPEEDS
from dreamer_helpers.trainer import Progress

Training = Callable[..., Progress]


def main(train: Training, resume: Training, arguments: list[str] | None = None) -> None:
    """Do what the command line says, by ``train.train`` or ``train.resume``.

    Mistakes of the user end with one line and status 2, signals with 128 + theirs.
    """
    try:
        run(parse_arguments(arguments), train, resume)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        print("stopped at once; the last checkpoint stays as it was", file=sys.stderr)
        sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without repeating all options before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the options")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; see ``--help``. Raises UserError for what it cannot read."""
    parser = _Parser(prog="python -m dreamer_helpers.train", description="Train a DreamerV3 agent.")
    parser.add_argument("--env", help="id of a Gymnasium environment")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the training in this folder")
    parser.add_argument("--preset", help=f"one of {', '.join(PRESETS)}; default: cpu")
    parser.add_argument("--size", help="an official model size in place of the preset's: 1m to 400m")
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="replace one setting")
    parser.add_argument("--seed", type=_count)
    parser.add_argument("--steps", type=_positive, help="environment steps; default: 10000")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps; default: the best there is")
    parser.add_argument("--precision", help="float32 or bfloat16; default: by device")
    parser.add_argument("--speed", default="fast", help=f"of gradient steps: {', '.join(SPEEDS)} (a CUDA graph)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads")
    parser.add_argument("--logdir", type=Path, help="folder for log, checkpoints and agent")
    parser.add_argument("--save-every", type=_seconds, metavar="SECONDS", help="between checkpoints; default: 120")
    parser.add_argument(
        "--eval-episodes", type=_episodes, default=10,
        help="fresh episodes at the end; 0 for none, all for every start of a world that has numbered ones",
    )  # fmt: skip
    parser.add_argument("--report", type=Path, help="write a JSON report to this file")
    options = parser.parse_args(arguments)
    if (options.env is None) == (options.resume is None):
        parser.error("give either --env, to begin a training, or --resume, to go on with one")
    if options.resume:
        for name in ("preset", "size", "set", "seed", "logdir", "save_every"):
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} cannot be changed in a training that goes on")
    return options


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, not {text!r}")
    return seconds


def _episodes(text: str) -> int | str:
    return text if text == "all" else _count(text)


def run(options: argparse.Namespace, train: Training, resume: Training) -> None:
    """Train, evaluate and report as the command line says."""

    def set_threads(config: Config) -> None:
        hardware.set_threads(options.threads, hardware.fast_products_pay(config.hidden_dim))

    chosen = hardware.select_device(options.device)
    if options.report:
        make_folder(options.report.parent)  # before the work, so that a wrong path costs nothing
    where = {"device": chosen, "precision": options.precision, "speed": options.speed}
    if options.resume:
        with Checkpoint(options.resume / TRAINING_FILE, (TRAINING,)) as stored:
            env, seed = stored["env"], stored["seed"]
            if env is not None:  # resume says what is missing then
                starts(env, options.eval_episodes)
            set_threads(stored.config)
            progress = resume(stored, steps=options.steps, **where)
        name = _preset_of(progress.agent.config)
    else:
        env, seed, name = options.env, options.seed or 0, options.preset or "cpu"
        config = preset(name, options.size, **dict(map(parse_override, options.set or ())))
        starts(env, options.eval_episodes)
        set_threads(config)
        save_every = 120.0 if options.save_every is None else options.save_every
        progress = train(
            config, env, options.steps or 10_000, seed=seed, logdir=options.logdir, save_every=save_every, **where
        )
    result = report(progress, env, name, seed, options.eval_episodes)
    print(json.dumps({key: value for key, value in result.items() if key != "config"}))
    if options.report:
        options.report.write_text(json.dumps(result, indent=1) + "\n")


def _preset_of(config: Config) -> str:
    return next((name for name in PRESETS if preset(name) == config), "changed")


def starts(env: str, episodes: int | str) -> int:
    """How many episodes to evaluate. Raises UserError for "all" in a world without numbered starts."""
    if isinstance(episodes, int):
        return episodes
    world = make(env).unwrapped
    if not hasattr(world, "STARTS"):
        raise UserError(f"--eval-episodes all: {env} has no numbered starts; give a number")
    return int(world.STARTS)


def report(progress: Progress, env: str, preset_name: str, seed: int, episodes: int | str) -> dict[str, Any]:
    """What a run did, ready for JSON; evaluates greedily and by sampling on ``episodes`` fresh episodes each."""
    count, every_start = starts(env, episodes), episodes == "all"
    greedy = evaluate(progress.agent, env, count, every_start=every_start) if count else []
    sampled = evaluate(progress.agent, env, count, every_start=every_start, greedy=False) if count else []
    return {
        "env": env, "preset": preset_name, "seed": seed, "steps": progress.steps, "updates": progress.updates,
        "wall_s": round(progress.wall_s, 2), "cpu_s": round(progress.cpu_s, 2),
        "eval_mean": float(np.mean(greedy)) if greedy else None, "eval_min": min(greedy, default=None),
        "eval_episodes": count, "eval_sampled_mean": float(np.mean(sampled)) if sampled else None,
        "config": progress.agent.config.to_dict(),
    }  # fmt: skip
