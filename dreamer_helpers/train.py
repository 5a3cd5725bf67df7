"""The agent and its training: one optimiser, one step, one loop.

    python -m dreamer_helpers.train --env CartPole-v1 --preset cpu --steps 10000 --eval-episodes 100

Without ``--env`` a short demonstration runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import actor_critic, checkpoint, envs, variants, world_model
from dreamer_helpers import device as hardware
from dreamer_helpers import symlog as symlog_module
from dreamer_helpers.actor_critic import Actor, Critic, Dream, ReturnNormalizer
from dreamer_helpers.config import PRESETS, Config, parse_override, preset
from dreamer_helpers.distributions import BoundedNormal
from dreamer_helpers.errors import UserError
from dreamer_helpers.nets import ContinueHead, RMSNorm, TwoHotHead
from dreamer_helpers.optim import LaProp
from dreamer_helpers.replay import Ratio, Replay
from dreamer_helpers.world_model import BlockGRU, State, WorldModel

Batch = dict[str, Tensor]


def laprop(agent: DreamerV3) -> LaProp:
    """The one optimiser of the agent; actor and critic may have a learning rate of their own."""
    config = agent.config
    behaviour = [*agent.actor.parameters(), *agent.critic.head.parameters()]
    groups = [
        {"params": list(agent.world_model.parameters()), "lr": config.learning_rate},
        {"params": behaviour, "lr": config.actor_critic_learning_rate or config.learning_rate},
    ]
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
    device). Raises UserError for spaces it cannot handle.
    """

    def __init__(
        self, config: Config, observation_space: spaces.Space, action_space: spaces.Space,
        parts: Parts | None = None, *, device: torch.device | str = "cpu", precision: str | None = None,
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
        self.normalizer = parts.return_normalizer(
            config.return_low, config.return_high, config.return_rate, config.return_floor
        )

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
        at the very first step. ``greedy`` takes the likeliest action in place of a sample. ``actions.decode`` turns
        the result into what ``env.step`` takes.
        """
        inputs = self.to_device({key: obs[key] for key in (*self.observation_space, "is_first")})
        if state is None:
            count = len(inputs["is_first"])
            state = AgentState(
                self.world_model.initial(count), torch.zeros(count, self.actions.dim, device=self.device)
            )
        with hardware.precision(self.device, self.precision):
            embed = self.world_model.encoder(inputs)
            deter = self.world_model.dynamics_step(state.latent, state.action, inputs["is_first"])
            latent = State(deter.float(), self.world_model.posterior(deter, embed).sample())
            policy = self.actor(latent.features)
        action = policy.mode() if greedy else policy.sample()
        return action.cpu().numpy(), AgentState(latent, action)

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
        with hardware.precision(self.device, self.precision):
            total, states, metrics = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.critic.update_slow()
        return states.detach(), {key: value.detach() for key, value in metrics.items()}

    def loss(self, batch: Batch) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The one number that is minimised: world model, dream, and critic on replay.

        The batch has L = T + 1 steps; the first gives the context, see :func:`split_context`.
        """
        config, parts = self.config, self.parts
        carry, batch = split_context(batch, config.num_categories)
        losses, states = self.world_model.loss(batch, carry)

        last = config.imagination_last or config.seq_len  # dreams start from the last steps of each sequence
        starts = State(states.deter[:, -last:].flatten(0, 1), states.stoch[:, -last:].flatten(0, 1)).detach()
        is_terminal = batch["is_terminal"][:, -last:]
        dream = parts.dream(self.world_model, self.actor, starts, is_terminal.flatten(), config.imagination_horizon)
        dream_losses, returns, metrics = parts.imagination_losses(
            dream, self.actor, self.critic, self.normalizer, config, parts.actor_loss, parts.critic_loss,
            parts.compute_returns,
        )  # fmt: skip
        losses |= dream_losses

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
    """Acts, remembers and learns in turn. :func:`train` is the short way to use it."""

    def __init__(
        self, config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
        parts: Parts | None = None, precision: str | None = None,
    ):  # fmt: skip
        self.envs = envs.VectorEnv(env, config.num_envs, seed)
        self.agent = DreamerV3(
            config, self.envs.observation_space, self.envs.action_space, parts, device=device, precision=precision
        )
        self.config = config = self.agent.config
        self.replay = Replay(config.replay_capacity, config.num_envs, config.seq_len, seed)
        self.ratio = Ratio(config.train_ratio, config.batch_size * config.seq_len)
        self.progress = Progress(self.agent, self.replay, steps)
        self.record = self.envs.reset()
        self.state: AgentState | None = None
        self.episodes = Episodes(config.num_envs)

    def step(self) -> list[dict[str, Tensor]]:
        """Act once in every environment, then do the updates that are due. Returns the metrics of the updates."""
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
        if not self.replay.ready(self.config.batch_size):
            return []
        return [self.update() for _ in range(self.ratio(progress.steps))]

    def update(self) -> dict[str, Tensor]:
        """One gradient step on a batch of replay; the fresh latents go back to the replay."""
        sample = self.replay.sample(self.config.batch_size)
        index = sample.pop("index")
        states, metrics = self.agent.train_step(self.agent.to_device(sample))
        stoch = states.stoch.argmax(-1).to(torch.int16)
        self.replay.update(index[:, 1:], states.deter.float().cpu().numpy(), stoch.cpu().numpy())
        self.progress.updates += 1
        return metrics

    def run(
        self, *, log_every: int = 500, callback: Callable[[Progress], None] | None = None,
        log_path: Path | None = None, bar: Any = None,
    ) -> Progress:  # fmt: skip
        """Train until the steps are spent. Every ``log_every`` steps a row is logged and the callback called."""
        progress, pending, cpu, wall = self.progress, [], time.process_time(), time.perf_counter()
        done = 0
        while progress.steps + self.config.num_envs <= progress.total_steps and not progress.stop:
            before = progress.steps
            pending += self.step()
            progress.cpu_s, progress.wall_s = time.process_time() - cpu, time.perf_counter() - wall
            if bar is not None:
                bar.update(progress.steps - before)
            if progress.steps // log_every > done:
                done = progress.steps // log_every
                self._log(pending, log_path)
                pending = []
                if bar is not None:
                    bar.set_postfix_str(f"return {progress.recent_return:.1f}")
                if callback is not None:
                    callback(progress)
        if not progress.log or progress.log[-1]["steps"] < progress.steps:
            self._log(pending, log_path)
        return progress

    def _log(self, pending: list[dict[str, Tensor]], path: Path | None) -> None:
        progress = self.progress
        row = {"steps": progress.steps, "updates": progress.updates, "return": progress.recent_return}
        if pending:
            row |= {key: torch.stack([m[key] for m in pending]).mean().item() for key in pending[0]}
        row |= {"cpu_s": round(progress.cpu_s, 2), "wall_s": round(progress.wall_s, 2)}
        progress.log.append(row)
        if path is not None:
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        for key, value in row.items():
            if key.startswith("loss/") and not np.isfinite(value):
                raise UserError(f"{key} became {value} before step {progress.steps}; try a smaller learning_rate")


def train(
    config: Config, env: Any, steps: int, *, seed: int = 0, device: torch.device | str = "cpu",
    parts: Parts | None = None, logdir: str | Path | None = None, log_every: int = 500,
    callback: Callable[[Progress], None] | None = None, progress_bar: bool = True, precision: str | None = None,
) -> Progress:  # fmt: skip
    """Train an agent on an environment for so many steps of it; returns the :class:`Progress` with the agent.

    ``env`` is a Gymnasium id, a function that makes an environment, or one. With ``logdir``, the log goes to
    ``log.jsonl`` and the agent to ``agent.safetensors`` there. Raises UserError if steps is not a positive number of
    at least ``config.num_envs``.
    """
    if not isinstance(steps, int) or steps < config.num_envs:
        raise UserError(f"steps must be a whole number of at least {config.num_envs} (num_envs), not {steps!r}")
    folder = make_folder(logdir) if logdir is not None else None
    torch.manual_seed(seed)
    trainer = Trainer(config, env, steps, seed=seed, device=device, parts=parts, precision=precision)
    log_path = folder / "log.jsonl" if folder else None
    if log_path:
        log_path.write_text("")
    from tqdm.auto import tqdm

    try:
        with tqdm(total=steps, unit="step", disable=not progress_bar, mininterval=0.5) as bar:
            return trainer.run(log_every=log_every, callback=callback, log_path=log_path, bar=bar)
    except UserError:  # a loss that is no number leaves nothing worth keeping
        folder = None
        raise
    finally:  # after Ctrl-C too: what was learned is kept
        trainer.envs.close()
        if folder:
            trainer.agent.save(folder / "agent.safetensors")


def make_folder(path: str | Path) -> Path:
    """Make a folder, or raise UserError saying why it cannot be made."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; name another one") from None
    return folder


def evaluate(agent: DreamerV3, env: Any, episodes: int, *, seed: int = 1_000_000, greedy: bool = True) -> list[float]:
    """Returns of so many fresh episodes, none of which the agent learns from.

    Every environment plays the same number of episodes, so that short ones are not counted more often. The random
    numbers of training are left alone.
    """
    if episodes < 1:
        raise UserError(f"episodes must be a positive number, not {episodes}")
    count = min(episodes, 25)
    quota = [episodes // count + (i < episodes % count) for i in range(count)]
    returns: list[list[float]] = [[] for _ in quota]
    vector = envs.VectorEnv(env, count, seed)
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


# -------------------------------------------------------------------------------------------- command line


def report(progress: Progress, env: str, preset_name: str, seed: int, episodes: int) -> dict[str, Any]:
    """What a run did, ready for JSON; evaluates greedily and by sampling on ``episodes`` fresh episodes each."""
    greedy = evaluate(progress.agent, env, episodes) if episodes else []
    sampled = evaluate(progress.agent, env, episodes, greedy=False) if episodes else []
    return {
        "env": env, "preset": preset_name, "seed": seed, "steps": progress.steps, "updates": progress.updates,
        "wall_s": round(progress.wall_s, 2), "cpu_s": round(progress.cpu_s, 2),
        "eval_mean": float(np.mean(greedy)) if greedy else None, "eval_min": min(greedy, default=None),
        "eval_episodes": episodes, "eval_sampled_mean": float(np.mean(sampled)) if sampled else None,
        "config": progress.agent.config.to_dict(),
    }  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without repeating all options before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the options")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; see ``--help``. Raises UserError for what it cannot read."""
    parser = _Parser(prog="python -m dreamer_helpers.train", description="Train a DreamerV3 agent.")
    parser.add_argument("--env", help="id of a Gymnasium environment; without it, a short demonstration runs")
    parser.add_argument("--preset", default="cpu", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("--size", help="an official model size in place of the preset's: 1m to 400m")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="replace one setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=_positive, default=10_000, help="environment steps")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps; default: the best there is")
    parser.add_argument("--precision", help="float32 or bfloat16; default: by device")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads")
    parser.add_argument("--logdir", type=Path, help="folder for log.jsonl and agent.safetensors")
    parser.add_argument("--eval-episodes", type=_count, default=10, help="fresh episodes at the end; 0 for none")
    parser.add_argument("--report", type=Path, help="write a JSON report to this file")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, not {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """The command line. Mistakes of the user end with one line and status 2."""
    try:
        options = parse_arguments(arguments)
        _demo() if options.env is None else run(options)
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        kept = f"; the agent is kept in {options.logdir}" if options.logdir else ""
        _fail(f"stopped{kept}")
        sys.exit(130)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def run(options: argparse.Namespace) -> None:
    """Train, evaluate and report as the command line says."""
    hardware.set_threads(options.threads)
    config = preset(options.preset, options.size, **dict(map(parse_override, options.set)))
    chosen = hardware.select_device(options.device)
    if options.report:
        make_folder(options.report.parent)  # before the work, so that a wrong path costs nothing
    progress = train(
        config, options.env, options.steps, seed=options.seed, device=chosen, logdir=options.logdir,
        precision=options.precision,
    )  # fmt: skip
    result = report(progress, options.env, options.preset, options.seed, options.eval_episodes)
    summary = {key: value for key, value in result.items() if key != "config"}
    print(json.dumps(summary))
    if options.report:
        options.report.write_text(json.dumps(result, indent=1) + "\n")


def _demo() -> None:
    """A few seconds of CartPole: losses fall."""
    hardware.set_threads(1)
    progress = train(preset("cpu"), "CartPole-v1", 800, log_every=200, progress_bar=False)
    columns = ("steps", "updates", "return", "loss/vector", "loss/reward", "loss/continue")
    for row in progress.log:
        print("  ".join(f"{key} {row.get(key, float('nan')):.3g}" for key in columns))


if __name__ == "__main__":
    main()
