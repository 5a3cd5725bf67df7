"""Train an agent on an environment, or go on with a training.

    python -m dreamer_helpers.train --env CartPole-v1 --preset cpu --steps 10000 --eval-episodes 100

Without arguments a short demonstration runs.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dreamer_helpers import checkpoint
from dreamer_helpers.agent import AgentState, DreamerV3
from dreamer_helpers.checkpoint import AGENT_FILE, TRAINING, TRAINING_FILE, Checkpoint
from dreamer_helpers.config import Config
from dreamer_helpers.errors import Stopped, UserError
from dreamer_helpers.evaluate import evaluate
from dreamer_helpers.parts import Parts
from dreamer_helpers.trainer import Progress, Trainer

__all__ = ["AgentState", "DreamerV3", "Parts", "Progress", "Stopped", "evaluate", "resume", "train"]


def train(
    config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
    parts: Parts | None = None, logdir: str | Path | None = None, log_every: int = 500,
    callback: Callable[[Progress], None] | None = None, progress_bar: bool = True, precision: str | None = None,
    save_every: float = 120.0, speed: str = "fast", begin: Callable[[Progress], None] | None = None,
) -> Progress:  # fmt: skip
    """Train an agent on an environment for so many steps of it; returns the :class:`Progress` with the agent.

    With ``config.average_share`` that agent has its weights averaged over the last share of the updates.
    ``env`` is a Gymnasium id, a function that makes an environment, or one. ``speed`` is readable, fast, compile or
    graph (``fast.accelerate``). With ``logdir``, the log goes to ``log.jsonl`` there, the training every ``save_every``
    seconds to ``training.safetensors`` and the folder ``replay`` for :func:`resume`, and the agent at the end to
    ``agent.safetensors``; files of an earlier training there are set aside. ``begin`` is called once before the first
    step; to set ``stop`` of its Progress ends the training after any step. Ctrl-C and SIGTERM let the step in progress
    end, save, and raise :class:`Stopped`. Raises UserError if steps is not a whole number of at least
    ``config.num_envs``, if the folder cannot be written, or if a loss is no longer a number.
    """
    if not isinstance(steps, int) or steps < config.num_envs:
        raise UserError(f"steps must be a whole number of at least {config.num_envs} (num_envs), not {steps!r}")
    folder = checkpoint.make_folder(logdir) if logdir is not None else None
    trainer = Trainer(
        config, env, steps, seed=seed, device=device, parts=parts, precision=precision, folder=folder,
        log_every=log_every, save_every=save_every, speed=speed,
    )  # fmt: skip
    if folder:
        checkpoint.set_aside(folder)
    if begin is not None:
        begin(trainer.progress)
    return _run(trainer, callback, progress_bar)


def resume(
    logdir: str | Path | Checkpoint, env: Any = None, steps: int | None = None, *, device: torch.device | str = "cpu",
    parts: Parts | None = None, callback: Callable[[Progress], None] | None = None, progress_bar: bool = True,
    precision: str | None = None, speed: str = "fast",
) -> Progress:  # fmt: skip
    """Go on with the training in a folder as if it had not been interrupted; see :func:`train`.

    Who has looked into the training file already gives that, open, in place of the folder. ``env`` is needed if it was
    no Gymnasium id, and so are ``parts``, if there were any. ``steps`` is a new total. Environments whose state cannot
    be saved begin a new episode. Raises UserError if there is no training in the folder, if it is complete, or if env
    or parts do not fit.
    """
    opened = isinstance(logdir, Checkpoint)
    with logdir if opened else Checkpoint(Path(logdir) / TRAINING_FILE, (TRAINING,)) as stored:
        env, total = env or stored["env"], steps or stored["total_steps"]
        _check_unfinished(stored, env, total)
        trainer = Trainer(
            stored.config, env, total, seed=stored["seed"], device=device, parts=parts, precision=precision,
            folder=stored.path.parent, log_every=stored["log_every"], save_every=stored["save_every"], speed=speed,
        )  # fmt: skip
        trainer.agent.load(stored)
        checkpoint.restore_training(trainer, stored)
    trainer.write_log(trainer.progress.log, "w")  # without the rows that came after the checkpoint
    return _run(trainer, callback, progress_bar)


def _check_unfinished(stored: Checkpoint, env: Any, total: int) -> None:
    """Raise UserError if a training cannot go on: no environment is known, or there are no steps left."""
    if env is None:
        raise UserError(f"{stored.path} does not say how its environment is made; give the function again")
    steps = stored["progress"]["steps"]
    if total < steps + stored.config.num_envs:
        done = f"{steps:,} of {stored['total_steps']:,} steps"
        raise UserError(
            f"the training in {stored.path.parent} is complete ({done}); give a larger number of steps to go on"
        )


def _run(trainer: Trainer, callback: Callable[[Progress], None] | None, progress_bar: bool) -> Progress:
    from tqdm.auto import tqdm

    progress, folder = trainer.progress, trainer.folder
    with _signals(progress) as caught, trainer.envs.alone():
        try:
            with tqdm(
                total=progress.total_steps, initial=progress.steps, unit="step", disable=not progress_bar,
                mininterval=0.5,
            ) as bar:  # fmt: skip
                trainer.run(callback=callback, bar=bar)
        finally:
            trainer.envs.close()
        trainer.settle()  # the training that was saved goes on from the weights as they were
        if folder:
            trainer.agent.save(folder / AGENT_FILE)
    if caught:
        kept = f"; go on with --resume {folder}" if folder else ", and nothing is kept: there was no logdir"
        raise Stopped(caught[0], f"stopped at step {progress.steps:,}{kept}")
    return progress


@contextmanager
def _signals(progress: Progress) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end the training after the step in progress; a second one ends it at once.

    Gives the list that a signal's number is put in. Outside the main thread signals cannot be handled.
    """
    caught: list[int] = []

    def stop(number: int, frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        progress.stop = True

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


if __name__ == "__main__":
    if sys.argv[1:]:
        from dreamer_helpers import command_line

        command_line.main(train, resume)
    else:
        from dreamer_helpers import demos

        demos.train(train)
