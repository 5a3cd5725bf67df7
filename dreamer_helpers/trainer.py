"""Training: act, remember and learn in turn; what a training keeps, and how it is written and read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamer_helpers import checkpoint, envs, fast
from dreamer_helpers import device as hardware
from dreamer_helpers.agent import AgentState, DreamerV3
from dreamer_helpers.config import Config
from dreamer_helpers.envs import Episodes
from dreamer_helpers.errors import UserError
from dreamer_helpers.parts import Parts
from dreamer_helpers.replay import Ratio, Replay
from dreamer_helpers.world_model import State


@dataclass
class Progress:
    """A training in progress, as callbacks see it."""

    agent: DreamerV3
    replay: Replay
    total_steps: int
    steps: int = 0
    updates: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    episodes: list[tuple[int, float, int]] = field(default_factory=list)  # (step, return, length)
    log: list[dict[str, float]] = field(default_factory=list)  # one row of mean metrics per logging interval
    stop: bool = False  # a callback sets it to end the training early

    @property
    def recent_return(self) -> float:
        """Mean return of the last ten episodes that ended, NaN before the first."""
        returns = [episode[1] for episode in self.episodes[-10:]]
        return float(np.mean(returns)) if returns else float("nan")


class Trainer:
    """Acts, remembers and learns in turn. ``train.train`` is the short way to use it.

    ``speed`` says how gradient steps are computed (``fast.accelerate``). All random numbers come from the generators of
    the agent, the replay and the environments, each begun with ``seed``. With a ``folder``, the log goes to
    ``log.jsonl`` there and the training to ``training.safetensors`` and the folder ``replay``, at the beginning, every
    ``save_every`` seconds and at the end.
    """

    def __init__(
        self, config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
        parts: Parts | None = None, precision: str | None = None, folder: Path | None = None, log_every: int = 500,
        save_every: float = 120.0, speed: str = "fast",
    ):  # fmt: skip
        self.seed, self.folder, self.log_every, self.save_every = seed, folder, log_every, save_every
        self.envs = envs.VectorEnv(env, config.num_envs, seed)
        agent = DreamerV3(
            config, self.envs.observation_space, self.envs.action_space, parts, device=device, precision=precision,
            seed=seed,
        )  # fmt: skip
        self.agent = fast.accelerate(agent, speed)
        self.config = config = self.agent.config
        self.ratio = Ratio(config.train_ratio, config.batch_size * config.seq_len)
        self.record = self.envs.reset()
        # Every step adds a record, and so does every beginning of an episode: twice the steps are always enough.
        capacity = min(config.replay_capacity, 2 * steps + config.batch_size * config.seq_len * config.num_envs)
        self.replay = Replay(capacity, config.num_envs, config.seq_len, seed)
        self.replay.expect(config.batch_size, steps)
        self.progress = Progress(self.agent, self.replay, steps)
        self.state: AgentState | None = None
        self.episodes = Episodes(config.num_envs)
        self.pending: list[dict[str, Tensor]] = []  # metrics of the updates since the last row of the log
        self.average = [p.detach().clone() for p in self.agent.parameters()] if config.average_share else []
        self.saved: int | None = None  # the step of the last checkpoint
        self.chunks: list[dict[str, Any]] = []  # the chunks of the replay that it has on the disk
        hardware.check_memory(self.replay_bytes(), f"a replay of {capacity:,} steps", "replay_capacity")

    def replay_bytes(self) -> int:
        """Memory that the replay takes when it is full."""
        observation = sum(value.nbytes for value in self.record.values())
        latent = self.config.rnn_hidden_dim * 4 + self.config.num_categoricals * 2
        return self.replay.rows * (observation + self.config.num_envs * (self.agent.actions.dim * 4 + latent))

    def step(self) -> None:
        """Act once in every environment, then do the updates that are due."""
        action, self.state = self.agent.act(self.record, self.state)
        action[self.record["is_last"]] = 0.0
        latent = self.state.latent
        self.replay.add({
            **self.record, "action": action, "deter": latent.deter.cpu().numpy(),
            "stoch": latent.stoch.argmax(-1).to(torch.int16).cpu().numpy(),
        })  # fmt: skip
        self.record = self.envs.step(action)
        progress = self.progress
        progress.steps += int((~self.record["is_first"]).sum())
        progress.episodes += [(progress.steps, *end[1:]) for end in self.episodes.add(self.record)]
        if self.replay.ready(self.config.batch_size):
            self.pending += [self.update() for _ in range(self.ratio(progress.steps))]

    def update(self) -> dict[str, Tensor]:
        """One gradient step on a batch of replay; the fresh latents go back to the replay."""
        sample = self.replay.sample(self.config.batch_size)
        index = sample.pop("index")
        states, metrics = self.agent.train_step(self.agent.to_device(sample))
        stoch = states.stoch.argmax(-1).to(torch.int16)
        self.replay.update(index[:, 1:], states.deter.float().cpu().numpy(), stoch.cpu().numpy())
        if self.average:  # it follows at the rate that makes it one over the last share of all updates
            rate = 1.0 / (1.0 + self.config.average_share * self.progress.updates)
            with torch.no_grad():
                torch._foreach_lerp_(self.average, list(self.agent.parameters()), rate)
        self.progress.updates += 1
        return metrics

    @torch.no_grad()
    def settle(self) -> None:
        """Give the agent the average of its weights over the last share of the training, if such is kept.

        Weights go to and fro with every update, and a policy that was good a moment ago may not be at the very end.
        """
        if self.average:
            torch._foreach_copy_(list(self.agent.parameters()), self.average)

    def run(self, *, callback: Callable[[Progress], None] | None = None, bar: Any = None) -> Progress:
        """Train until the steps are spent. Every ``log_every`` steps a row is logged and the callback called."""
        progress = self.progress
        cpu, wall = time.process_time() - progress.cpu_s, time.perf_counter() - progress.wall_s
        begun = time.perf_counter()
        if self.saved is None:
            self.save()
        saved_at = time.perf_counter()
        pause = self.save_every and max(self.save_every, 20 * (saved_at - begun))  # a large agent takes long to write
        while progress.steps + self.config.num_envs <= progress.total_steps and not progress.stop:
            before = progress.steps
            self.step()
            progress.cpu_s, progress.wall_s = time.process_time() - cpu, time.perf_counter() - wall
            if bar is not None:
                bar.update(progress.steps - before)
            if progress.steps // self.log_every > before // self.log_every:
                self._log()
                if bar is not None:
                    bar.set_postfix_str(f"return {progress.recent_return:.1f}")
                if callback is not None:
                    callback(progress)
            if time.perf_counter() - saved_at >= pause:
                self.save()
                saved_at = time.perf_counter()
        complete = progress.steps + self.config.num_envs > progress.total_steps
        if complete and (not progress.log or progress.log[-1]["steps"] < progress.steps):
            self._log()
        self.save()
        return progress

    def set_state(self, deter: Tensor, stoch: Tensor, action: Tensor) -> None:
        """Go on acting from these latents and actions of every environment."""
        self.state = AgentState(State(deter, stoch), action)

    # ------------------------------------------------------------------------------------ the log, and keeping

    def _log(self) -> None:
        self._check_losses()
        progress, pending = self.progress, self.pending
        row = {"steps": progress.steps, "updates": progress.updates, "return": progress.recent_return}
        if pending:
            row |= {key: torch.stack([m[key] for m in pending]).mean().item() for key in pending[0]}
        row |= {"cpu_s": round(progress.cpu_s, 2), "wall_s": round(progress.wall_s, 2)}
        progress.log.append(row)
        self.pending = []
        self.write_log([row], "a")

    def write_log(self, rows: list[dict[str, float]], mode: str) -> None:
        """Append rows ("a"), or write the log anew ("w"). Raises UserError if that cannot be done."""
        if self.folder is None:
            return
        path = self.folder / "log.jsonl"
        try:
            with path.open(mode) as file:
                for row in rows:  # JSON knows no NaN, which is the return before the first episode has ended
                    file.write(json.dumps({k: v if np.isfinite(v) else None for k, v in row.items()}) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}{self._rescue()}") from None

    def _check_losses(self) -> None:
        """Raise UserError if a loss of the updates since the last look is no number, naming the first that was."""
        names = [key for key in self.pending[0] if key.startswith("loss/")] if self.pending else []
        if not names:
            return
        losses = torch.stack([torch.stack([metrics[name] for name in names]) for metrics in self.pending]).cpu()
        bad = torch.nonzero(~torch.isfinite(losses))  # in the order of updates, then of losses
        if len(bad):
            update, which = bad[0].tolist()
            number = self.progress.updates - len(self.pending) + update + 1
            raise UserError(
                f"{names[which]} became {losses[update, which].item()} in update {number}, before all other losses, "
                f"by step {self.progress.steps}{self._rescue()}; a new training may need a smaller learning_rate"
            )

    def _rescue(self) -> str:
        if self.folder is None or self.saved is None:
            return ""
        return f"; the last good checkpoint is of step {self.saved} and goes on with --resume {self.folder}"

    def save(self) -> None:
        """Write the training to its folder, if it has one. Nothing that is no number replaces a good checkpoint."""
        if self.folder is None:
            return
        self._check_losses()
        for name, parameter in self.agent.named_parameters():
            if not torch.isfinite(parameter).all():
                raise UserError(f"{name} is no longer finite at step {self.progress.steps}{self._rescue()}")
        try:
            checkpoint.save_training(self.folder, self)
        except UserError as error:
            raise UserError(f"{error}{self._rescue()}") from None
        self.saved = self.progress.steps
