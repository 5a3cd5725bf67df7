"""The agent and its training: one optimiser, one step, one loop.

    python -m dreamer_helpers.train --env CartPole-v1 --preset cpu --steps 10000 --eval-episodes 100

Without ``--env`` a short demonstration runs.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import actor_critic, checkpoint, envs, fast, variants, world_model
from dreamer_helpers import device as hardware
from dreamer_helpers import symlog as symlog_module
from dreamer_helpers.actor_critic import Actor, Critic, Dream, ReturnNormalizer
from dreamer_helpers.checkpoint import AGENT_FILE, TRAINING_FILE
from dreamer_helpers.config import Config
from dreamer_helpers.distributions import BoundedNormal
from dreamer_helpers.errors import UserError
from dreamer_helpers.nets import ContinueHead, RMSNorm, TwoHotHead
from dreamer_helpers.optim import LaProp
from dreamer_helpers.replay import Ratio, Replay
from dreamer_helpers.world_model import BlockGRU, Losses, State, WorldModel

Batch = dict[str, Tensor]


def laprop(agent: DreamerV3) -> LaProp:
    """The one optimiser of the agent; actor and critic may have learning rates of their own."""
    config = agent.config
    nets = (
        (agent.world_model, config.learning_rate),
        (agent.actor, config.actor_learning_rate or config.learning_rate),
        (agent.critic.head, config.critic_learning_rate or config.learning_rate),
    )
    groups = [{"params": list(net.parameters()), "lr": rate} for net, rate in nets]
    return LaProp(
        groups, clip=config.gradient_clip, beta1=config.beta1, beta2=config.beta2, eps=config.adam_eps,
        warmup=config.warmup,
    )  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The pieces of the algorithm that a learner builds or a variant replaces, each with the course's own."""

    symlog: Callable[..., Any] = symlog_module.symlog
    symexp: Callable[..., Any] = symlog_module.symexp
    norm: Callable[..., nn.Module] = RMSNorm
    cell: Callable[..., nn.Module] = BlockGRU
    scalar_head: Callable[..., nn.Module] = TwoHotHead
    continue_head: Callable[..., nn.Module] = ContinueHead
    kl_loss: Callable[..., Any] = world_model.kl_loss
    image_output: Callable[[Tensor], Tensor] = torch.sigmoid
    continuous_policy: Callable[..., Any] = BoundedNormal
    dream: Callable[..., Dream] = actor_critic.dream
    compute_returns: Callable[..., Tensor] = actor_critic.compute_returns
    return_normalizer: Callable[..., nn.Module] = ReturnNormalizer
    actor_loss: Callable[..., Tensor] = actor_critic.actor_loss
    critic_loss: Callable[..., Tensor] = actor_critic.critic_loss
    replay_critic_loss: Callable[..., Tensor] = actor_critic.replay_critic_loss
    imagination_losses: Callable[..., Any] = actor_critic.imagination_losses
    optimizer: Callable[[DreamerV3], Any] = laprop


class AgentState(NamedTuple):
    """What an agent carries from step to step: its latent state and its last action (N, A)."""

    latent: State
    action: Tensor


class DreamerV3(nn.Module):
    """The agent: a world model, an actor and a critic that learn in its dreams, and their optimiser.

    ``observation_space`` and ``action_space`` are Gymnasium spaces of one environment. ``config.variants`` are
    applied on top of ``parts``. Everything is made on ``device``; ``precision`` is float32 or bfloat16 (default: by
    device), ``execution`` how gradient steps are run (``device.execution``). Raises UserError for spaces it cannot
    handle.
    """

    def __init__(
        self, config: Config, observation_space: spaces.Space, action_space: spaces.Space,
        parts: Parts | None = None, *, device: torch.device | str = "cpu", precision: str | None = None,
        execution: str = "eager",
    ):  # fmt: skip
        super().__init__()
        self.config, parts = variants.apply(config, parts or Parts())
        self.spaces = (observation_space, action_space)
        self.parts, self.precision = parts, precision
        self.observation_space = envs.canonical_space(observation_space)
        self.actions = envs.ActionSpec.of(action_space)
        hardware.precision(torch.device(device), precision)  # a wrong name is told now, not at the first step
        with torch.device(device):
            self._build(parts)
        self.optimizer = parts.optimizer(self)
        self.execution = hardware.execution(execution, torch.device(device))
        self._prepare()

    def _prepare(self) -> None:
        """Make the gradient step anew: what was recorded or compiled belongs to the tensors of that time."""
        self._compiled = fast.compiled(self.loss) if self.execution == "compile" else None
        self._recorded = fast.RecordedStep(self._update) if self.execution == "graph" else None

    def _build(self, parts: Parts) -> None:
        config, shared = self.config, {"norm": parts.norm, "scalar_head": parts.scalar_head}
        self.world_model = WorldModel(
            config, self.observation_space, self.actions.dim, **shared, cell=parts.cell,
            continue_head=parts.continue_head, kl_loss=parts.kl_loss, symlog=parts.symlog, symexp=parts.symexp,
            image_output=parts.image_output,
        )  # fmt: skip
        features = self.world_model.feature_dim
        self.actor = Actor(
            config, features, self.actions.discrete, self.actions.sizes, norm=parts.norm,
            continuous_policy=parts.continuous_policy,
        )  # fmt: skip
        self.critic = Critic(config, features, **shared)
        for head in (self.world_model.reward, self.critic.head, self.critic.slow):
            if config.bin_slope and isinstance(head, TwoHotHead):
                head.lower_far_bins(config.bin_slope)
        self.normalizer = parts.return_normalizer(
            config.return_low, config.return_high, config.return_rate, config.return_floor
        )
        if config.return_floor_relative:
            self.register_buffer("largest_reward", torch.zeros(()))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    # ------------------------------------------------------------------------------------------------ acting

    @torch.no_grad()
    def act(
        self, obs: dict[str, np.ndarray], state: AgentState | None, *, greedy: bool = False
    ) -> tuple[np.ndarray, AgentState]:
        """Choose actions for N environments: float32 (N, A) in model form, and the state for the next call.

        ``obs`` holds the canonical observation and ``is_first`` (N,), as ``envs.VectorEnv`` gives them; state is None
        at the very first step. ``greedy`` takes the likeliest latents and action in place of samples.
        ``actions.decode`` turns the result into what ``env.step`` takes.
        """
        inputs = self.to_device({key: obs[key] for key in (*self.observation_space, "is_first")})
        if state is None:
            count = len(inputs["is_first"])
            state = AgentState(
                self.world_model.initial(count), torch.zeros(count, self.actions.dim, device=self.device)
            )
        with hardware.precision(self.device, self.precision), fast.few_rows(inputs["is_first"]):
            embed = self.world_model.encoder(inputs)
            deter = self.world_model.dynamics_step(state.latent, state.action, inputs["is_first"])
            posterior = self.world_model.posterior(deter, embed)
            latent = State(deter.float(), posterior.mode() if greedy else posterior.sample())
            policy = self.actor(latent.features)
        action = policy.mode() if greedy else policy.sample()
        return action.cpu().numpy().copy(), AgentState(latent, action)  # on a CPU both would share their memory

    def to_device(self, arrays: dict[str, np.ndarray]) -> Batch:
        """Arrays as tensors on the agent's device, frames still uint8. To a GPU they travel asynchronously."""
        tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
        if self.device.type == "cuda":
            return {k: t.pin_memory().to(self.device, non_blocking=True) for k, t in tensors.items()}
        return {key: tensor.to(self.device) for key, tensor in tensors.items()}

    # -------------------------------------------------------------------------------------------- learning

    def train_step(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """One gradient step on a batch of replay, on the agent's device: ``to_device(replay.sample(B))``.

        Returns the fresh latent states (B, T, ...) for the replay and scalar metrics, still on the device: reading
        one makes a GPU wait, so read seldom.
        """
        self._check(batch)
        return (self._recorded or self._update)(batch)

    def _update(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        self.optimizer.zero_grad(set_to_none=True)
        with hardware.precision(self.device, self.precision):
            total, states, metrics = self._compiled(batch) if self._compiled else self.loss(batch, self._learn)
        total.backward()
        self.optimizer.step()
        self.critic.update_slow()
        return states.detach(), {key: value.detach() for key, value in metrics.items()}

    def _learn(self, losses: Losses) -> Losses:
        """Compute the gradients of some losses and let go of all that was kept for that."""
        with hardware.full_precision(self.device):
            sum(loss.mean() for loss in losses.values()).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def loss(
        self, batch: Batch, learn: Callable[[Losses], Losses] = lambda losses: losses
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The one number that is minimised: world model, dream, and critic on replay.

        The batch has L = T + 1 steps; the first gives the context, see :func:`split_context`. ``learn`` may
        compute the gradients of the dream's losses before anything is decoded. No other loss shares anything with
        them, and a step then needs memory for one of the two at a time: with 64 x 64 pixels 1.6 GB, not 1.9.
        """
        config, parts = self.config, self.parts
        carry, batch = split_context(batch, config.num_categories)
        states, posterior = self.world_model.follow(batch, carry)
        if config.return_floor_relative:
            self._follow_rewards(batch["reward"])

        last = config.imagination_last or config.seq_len  # dreams start from the last steps of each sequence
        starts = State(states.deter[:, -last:].flatten(0, 1), states.stoch[:, -last:].flatten(0, 1)).detach()
        is_terminal = batch["is_terminal"][:, -last:]
        dream = parts.dream(self.world_model, self.actor, starts, is_terminal.flatten(), config.imagination_horizon)
        dream_losses, returns, metrics = parts.imagination_losses(
            dream, self.actor, self.critic, self.normalizer, config, parts.actor_loss, parts.critic_loss,
            parts.compute_returns,
        )  # fmt: skip
        del dream
        torch.clear_autocast_cache()  # older torch would use weights cast without gradient once more
        dream_losses = learn(dream_losses)
        losses = {**self.world_model.losses(batch, states, posterior), **dream_losses}

        if config.replay_critic_coef:
            features = State(states.deter[:, -last:], states.stoch[:, -last:]).features
            losses["replay_critic"] = parts.replay_critic_loss(
                self.critic, self.critic(features), self.critic.slow_value(features), batch["reward"][:, -last:],
                is_terminal, batch["is_last"][:, -last:], returns[:, 0].unflatten(0, (-1, last)),
                config.gamma, config.lambda_, config.slow_critic_coef,
            )  # fmt: skip

        scales = {"dyn": config.kl_coef, "rep": config.rep_coef, "replay_critic": config.replay_critic_coef}
        means = {name: loss.mean() for name, loss in losses.items()}
        total = sum(scales.get(name, 1.0) * mean for name, mean in means.items())
        return total, states, {**{f"loss/{name}": mean for name, mean in means.items()}, **metrics}

    def _follow_rewards(self, rewards: Tensor) -> None:
        """Count the floor of the return range in units of the largest reward so far; before there is any, in ones.

        Returns are scaled up at most as far as if that reward were 1, so that the unit of rewards does not matter.
        """
        torch.maximum(self.largest_reward, rewards.abs().amax(), out=self.largest_reward)
        unit = torch.where(self.largest_reward > 0, self.largest_reward, 1.0)
        self.normalizer.floor = self.config.return_floor * unit

    def _check(self, batch: Batch) -> None:
        """Raise UserError unless the batch has the entries and the shapes that the agent was made for."""
        length = (self.config.batch_size, self.config.seq_len + 1)
        wanted = {key: (*length, *space.shape) for key, space in self.observation_space.items()}
        wanted |= dict.fromkeys(("reward", "is_first", "is_last", "is_terminal"), length)
        wanted["action"] = (*length, self.actions.dim)
        wanted["deter"] = (*length, self.config.rnn_hidden_dim)
        wanted["stoch"] = (*length, self.config.num_categoricals)
        for key, shape in wanted.items():
            if key not in batch:
                raise UserError(f"train_step: the batch lacks {key!r}; it has {', '.join(batch)}")
            if tuple(batch[key].shape) != shape:
                raise UserError(f"train_step: batch[{key!r}] has shape {tuple(batch[key].shape)}, not {shape}")

    # --------------------------------------------------------------------------------------------- keeping

    def save(self, path: str | Path) -> None:
        """Write parameters, optimiser and normaliser to a file. It holds no code and loads on any device."""
        checkpoint.save(path, self)

    def load(self, path: str | Path) -> DreamerV3:
        """Take over parameters, optimiser and normaliser from a file written by :meth:`save`; returns the agent.

        Raises UserError, and leaves the agent as it was, if the file is absent, damaged, of another version, or of
        an agent with another task or configuration.
        """
        checkpoint.load_into(path, self)
        self._prepare()
        return self

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, device: torch.device | str = "cpu") -> DreamerV3:
        """The agent that a file holds, made anew with the configuration and the spaces stored there."""
        config, observation_space, action_space = checkpoint.describe(path)
        return cls(config, observation_space, action_space, device=device).load(path)


def split_context(batch: Batch, classes: int) -> tuple[State, Batch]:
    """Split L = T + 1 replayed steps into the state before the first and T steps to learn from.

    The stored latents of step 0 are the carry, and each step gets the action before it as ``prev_action``. Source:
    code, agent.py, _apply_replay_context; tests/golden/replay_semantics.npz.
    """
    stoch = batch["stoch"][:, 0].long()[..., None] == torch.arange(classes, device=batch["stoch"].device)
    carry = State(batch["deter"][:, 0], stoch.float())
    steps = {key: value[:, 1:] for key, value in batch.items() if key not in ("deter", "stoch")}
    return carry, {**steps, "prev_action": batch["action"][:, :-1]}


# ------------------------------------------------------------------------------------------- training loop


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


class Episodes:
    """Adds up rewards of N environments and gives the returns of those whose episode just ended."""

    def __init__(self, num_envs: int):
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, int)

    def add(self, record: dict[str, np.ndarray]) -> list[tuple[int, float, int]]:
        """Take in a record; returns (environment, return, length) of each episode that it ended."""
        self.returns = np.where(record["is_first"], 0.0, self.returns + record["reward"])
        self.lengths = np.where(record["is_first"], 0, self.lengths + 1)
        return [(int(i), float(self.returns[i]), int(self.lengths[i])) for i in np.flatnonzero(record["is_last"])]


class Trainer:
    """Acts, remembers and learns in turn. :func:`train` is the short way to use it.

    With a ``folder``, the log goes to ``log.jsonl`` there and the training to ``training.safetensors``, at the
    beginning, every ``save_every`` seconds and at the end.
    """

    def __init__(
        self, config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
        parts: Parts | None = None, precision: str | None = None, folder: Path | None = None, log_every: int = 500,
        save_every: float = 120.0, execution: str = "eager",
    ):  # fmt: skip
        self.seed, self.folder, self.log_every, self.save_every = seed, folder, log_every, save_every
        self.envs = envs.VectorEnv(env, config.num_envs, seed)
        self.agent = DreamerV3(
            config, self.envs.observation_space, self.envs.action_space, parts, device=device, precision=precision,
            execution=execution,
        )  # fmt: skip
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
            checkpoint.save(self.folder / TRAINING_FILE, self.agent, checkpoint.training_state(self))
        except UserError as error:
            raise UserError(f"{error}{self._rescue()}") from None
        self.saved = self.progress.steps


class Stopped(KeyboardInterrupt):
    """A training was stopped by a signal; everything is saved. ``signal`` is its number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal = signal_number


def train(
    config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
    parts: Parts | None = None, logdir: str | Path | None = None, log_every: int = 500,
    callback: Callable[[Progress], None] | None = None, progress_bar: bool = True, precision: str | None = None,
    save_every: float = 120.0, execution: str = "eager", begin: Callable[[Progress], None] | None = None,
) -> Progress:  # fmt: skip
    """Train an agent on an environment for so many steps of it; returns the :class:`Progress` with the agent.

    With ``config.average_share`` that agent has its weights averaged over the last share of the updates.
    ``env`` is a Gymnasium id, a function that makes an environment, or one. With ``logdir``, the log goes to
    ``log.jsonl`` there, the training every ``save_every`` seconds to ``training.safetensors`` for :func:`resume`,
    and the agent at the end to ``agent.safetensors``; files of an earlier training there are set aside. ``begin`` is
    called once before the first step; to set ``stop`` of its Progress ends the training after any step. Ctrl-C and
    SIGTERM let the step in progress end, save, and raise :class:`Stopped`. Raises UserError if steps is not a whole
    number of at least ``config.num_envs``, if the folder cannot be written, or if a loss is no longer a number.
    """
    if not isinstance(steps, int) or steps < config.num_envs:
        raise UserError(f"steps must be a whole number of at least {config.num_envs} (num_envs), not {steps!r}")
    folder = checkpoint.make_folder(logdir) if logdir is not None else None
    torch.manual_seed(seed)
    trainer = Trainer(
        config, env, steps, seed=seed, device=device, parts=parts, precision=precision, folder=folder,
        log_every=log_every, save_every=save_every, execution=execution,
    )  # fmt: skip
    if folder:
        checkpoint.set_aside(folder)
    if begin is not None:
        begin(trainer.progress)
    return _run(trainer, callback, progress_bar)


def resume(
    logdir: str | Path, env: Any = None, steps: int | None = None, *, device: torch.device | str = "cpu",
    parts: Parts | None = None, callback: Callable[[Progress], None] | None = None, progress_bar: bool = True,
    precision: str | None = None, execution: str = "eager",
) -> Progress:  # fmt: skip
    """Go on with the training in a folder as if it had not been interrupted; see :func:`train`.

    ``env`` is needed if it was no Gymnasium id, and so are ``parts``, if there were any. ``steps`` is a new total.
    Environments whose state cannot be saved begin a new episode. Raises UserError if there is no training in the
    folder, if it is complete, or if env or parts do not fit.
    """
    path = Path(logdir) / TRAINING_FILE
    config, *_ = checkpoint.describe(path)
    state = checkpoint.load_training(path)
    env, total = env or state["env"], steps or state["total_steps"]
    if env is None:
        raise UserError(f"{path} does not say how its environment is made; give the function again")
    if total < state["progress"]["steps"] + config.num_envs:
        done = f"{state['progress']['steps']:,} of {state['total_steps']:,} steps"
        raise UserError(f"the training in {logdir} is complete ({done}); give a larger number of steps to go on")
    trainer = Trainer(
        config, env, total, seed=state["seed"], device=device, parts=parts, precision=precision, folder=Path(logdir),
        log_every=state["log_every"], save_every=state["save_every"], execution=execution,
    )  # fmt: skip
    trainer.agent.load(path)
    checkpoint.restore_training(trainer, state)
    trainer.write_log(trainer.progress.log, "w")  # without the rows that came after the checkpoint
    return _run(trainer, callback, progress_bar)


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


def evaluate(
    agent: DreamerV3, env: Any, episodes: int, *, seed: int = 1_000_000, greedy: bool = True, every_start: bool = False
) -> list[float]:
    """Returns of so many fresh episodes, none of which the agent learns from.

    Every environment plays the same number of episodes, so that short ones are not counted more often. With
    ``every_start`` the episodes begin with the starts 0, 1, 2, ... of a world that has numbered ones. The random
    numbers of training are left alone, but for those of MPS.
    """
    if episodes < 1:
        raise UserError(f"episodes must be a positive number, not {episodes}")
    count = min(episodes, 25)
    quota = [episodes // count + (i < episodes % count) for i in range(count)]
    returns: list[list[float]] = [[] for _ in quota]
    vector = envs.VectorEnv(env, count, seed, every_start)
    with torch.random.fork_rng(devices=[agent.device] if agent.device.type == "cuda" else []):
        torch.manual_seed(seed)
        record, state, tracker = vector.reset(), None, Episodes(count)
        while any(len(done) < wanted for done, wanted in zip(returns, quota, strict=True)):
            action, state = agent.act(record, state, greedy=greedy)
            record = vector.step(action)
            for i, value, _ in tracker.add(record):
                returns[i].append(value)
    vector.close()
    return [value for done, wanted in zip(returns, quota, strict=True) for value in done[:wanted]]


if __name__ == "__main__":
    if sys.argv[1:]:
        from dreamer_helpers.command_line import main

        main()
    else:
        from dreamer_helpers import demos

        demos.train()
