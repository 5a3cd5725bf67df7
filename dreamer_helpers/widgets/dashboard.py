"""Watch an agent learn: the training runs beside the notebook, and can be stopped."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from dreamer_helpers import device as hardware
from dreamer_helpers import dreams, plots
from dreamer_helpers.config import Config
from dreamer_helpers.envs import world_of_its_own
from dreamer_helpers.errors import UserError
from dreamer_helpers.parts import Parts
from dreamer_helpers.train import train
from dreamer_helpers.trainer import Progress
from dreamer_helpers.widgets.base import Described, NamedImage


class TrainingDashboard(Described):
    """Progress bar, return, losses and the newest dream of a training that runs in a thread of its own.

    Arguments as for ``train.train``; the checkpoint goes to ``logdir``. Show it and the training starts; ``wait()``
    in the next cell returns its Progress. The stop button, and an interrupt of the kernel during ``wait()``, end it
    early and leave a checkpoint.
    """

    def __init__(
        self, config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str | None = None,
        parts: Parts | None = None, logdir: str | Path | None = None, every: int = 250, name: str = "agent",
    ):  # fmt: skip
        self.steps, self.every, self.name, self.env = steps, every, name, env
        self.alt = f"Live view of a training of {steps} steps: progress, returns, losses, a dream beside reality."
        self.settings: dict[str, Any] = dict(
            config=config, env=env, steps=steps, seed=seed, parts=parts, logdir=logdir,
            device=device or hardware.select_device(),
        )  # fmt: skip
        self.progress: Progress | None = None
        self.dream: dreams.OpenLoop | None = None
        self.no_dream = ""  # why there are none, if so
        self.error: BaseException | None = None
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._train, daemon=True)
        self.bar = widgets.IntProgress(value=0, min=0, max=steps, layout=widgets.Layout(width="360px"))
        self.text = widgets.Label("about to start")
        self.button = widgets.Button(description="stop", tooltip="end the training here and keep the agent")
        self.button.on_click(lambda _: self.stop())
        self.picture = NamedImage(value=self.still(), format="png", layout=widgets.Layout(width="850px"))
        self.picture.tooltip = self.alt
        super().__init__([widgets.HBox([self.bar, self.button, self.text]), self.picture])

    # -------------------------------------------------------------------------------------- from the notebook

    def start(self) -> TrainingDashboard:
        """Begin to train, unless that was done before."""
        if self._thread.ident is None:
            self._thread.start()
        return self

    def stop(self) -> None:
        """Ask the training to end after the step it is at."""
        self._stop.set()
        if self.progress is not None:
            self.progress.stop = True

    def wait(self) -> Progress:
        """Wait until the training has ended; returns its Progress. What went wrong in it is raised here."""
        self.start()
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
            raise
        if self.error is not None:
            raise self.error
        assert self.progress is not None
        return self.progress

    def still(self) -> bytes:
        """Returns, losses and dream as they are now."""
        return plots.render(self._figure())

    def summary(self) -> plots.Picture:
        """The same with words, for the cell after the training."""
        progress = self.progress
        if progress is None:
            return plots.Picture(self._figure(), f"Nothing yet: {self.name} has not begun to train.")
        return plots.Picture(self._figure(), self._says(progress))

    def _says(self, progress: Progress) -> str:
        last = np.mean([episode[1] for episode in progress.episodes[-10:]]) if progress.episodes else float("nan")
        return (
            f"{self.name} after {progress.steps} steps and {progress.updates} updates. Left, the return of each "
            f"episode; the mean of the last ten is {last:.1f}. Right, the losses of the world model."
            f"{' Below, a dream beside reality.' if self.dream is not None else ''}"
        )

    # ------------------------------------------------------------------------------------------ in the thread

    def _ipython_display_(self, **arguments: object) -> None:
        super()._ipython_display_(**arguments)
        self.start()

    def _train(self) -> None:
        try:
            train(**self.settings, log_every=self.every, begin=self._begin, callback=self._update, progress_bar=False)
            self._show("stopped" if self._stop.is_set() else "done")
        except BaseException as error:  # raised again by wait(), in the thread of the notebook
            self.error = error
            self.text.value = f"failed: {error}"
        self.button.disabled = True

    def _begin(self, progress: Progress) -> None:
        self.progress = progress  # from now on stop() reaches the training itself
        if self._stop.is_set():
            progress.stop = True

    def _update(self, progress: Progress) -> None:
        self._show(f"{self._left(progress)} left")

    def _show(self, state: str) -> None:
        progress = self.progress
        if progress is None:
            return
        self.dream = self._new_dream(progress)
        self.bar.value = progress.steps
        speed = progress.steps / max(progress.wall_s, 1e-9)
        self.text.value = f"return {progress.recent_return:.2f}   {speed:.0f} steps/s   {state}{self.no_dream}"
        self.alt = self._says(progress)
        self.picture.tooltip = self.alt
        self.picture.value = self.still()

    def _left(self, progress: Progress) -> str:
        seconds = progress.wall_s / max(progress.steps, 1) * (self.steps - progress.steps)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"

    def _new_dream(self, progress: Progress) -> dreams.OpenLoop | None:
        try:
            env = world_of_its_own(self.env)
            episode = dreams.record_episode(progress.agent, env, seed=progress.steps, max_steps=20)
        except UserError as error:  # the training goes on without
            self.no_dream = f"   no dreams: {error}"
            return None
        context = min(5, len(episode) - 1) if not _has_images(progress) else 1
        return dreams.open_loop(progress.agent, episode, context) if len(episode) > context >= 1 else None

    def _figure(self) -> Any:
        progress = self.progress
        if progress is None:
            return plots.message("The training appears here while it runs; how it ended stands below.")
        return plots.training_figure(progress.episodes, progress.log, self.steps, self.dream)


def _has_images(progress: Progress) -> bool:
    return bool(progress.agent.world_model.encoder.images)
