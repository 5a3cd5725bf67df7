"""The agent: a world model, an actor and a critic that learn in its dreams, one optimiser, one gradient step.

What each loss teaches, all of them in one step:

    loss                                 teaches                                          stops at
    image, vector, ... reward, continue  encoder, sequence model, posterior; their heads
    dyn                                  sequence model, prior; by way of earlier steps   the posterior of its own step
                                         encoder and posterior
    rep                                  encoder, sequence model, posterior               the prior
    actor                                actor                                            everything dreamed
    critic                               critic                                           everything dreamed
    replay_critic                        critic; encoder, sequence model, posterior       the returns

Dreams begin at the last K steps of each sequence of T (``imagination_last``, by default all), and the critic learns on
replay from the same steps, as it needs the return of a dream from each.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import checkpoint, envs, variants
from dreamer_helpers import device as hardware
from dreamer_helpers.config import Config
from dreamer_helpers.distributions import OneHot
from dreamer_helpers.errors import UserError
from dreamer_helpers.parts import Parts
from dreamer_helpers.world_model import Losses, State

Batch = dict[str, Tensor]


class AgentState(NamedTuple):
    """What an agent carries from step to step: its latent state and its last action (N, A)."""

    latent: State
    action: Tensor


class DreamerV3(nn.Module):
    """The agent.

    ``observation_space`` and ``action_space`` are Gymnasium spaces of one environment. ``config.variants`` are
    applied on top of ``parts``. Everything is made on ``device``; ``precision`` is float32 or bfloat16 (default: by
    device). All its random numbers, from the first weights on, come from a generator of its own, begun with ``seed``.
    Raises UserError for spaces it cannot handle.
    """

    def __init__(
        self, config: Config, observation_space: spaces.Space, action_space: spaces.Space,
        parts: Parts | None = None, *, device: torch.device | str = "cpu", precision: str | None = None, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        given = Parts() if parts is None else parts
        if not isinstance(given, Parts):
            raise UserError(f"parts must be Parts(...), with the pieces by name, not {given!r}")
        self.config, self.parts = config, parts = variants.apply(config, given)
        self.foreign = given.foreign()  # by slot, the pieces that are neither the package's nor a variant's
        given.tell_idle(parts)
        self.spaces, self.precision = (observation_space, action_space), precision
        self.observation_space = envs.canonical_space(observation_space)
        self.actions = envs.ActionSpec.of(action_space)
        device = torch.device(device)
        hardware.precision(device, precision)  # a wrong name is told now, not at the first step
        self.generator = hardware.new_generator(device, seed)
        with device, hardware.DrawingFrom(self.generator):
            self.world_model = parts.make_world_model(config, self.observation_space, self.actions.dim)
            features = self.world_model.feature_dim
            self.actor = parts.make_actor(config, features, self.actions.discrete, self.actions.sizes)
            self.critic = parts.make_critic(config, features)
            self.normalizer = parts.make_normalizer(config)
            if config.return_floor_relative:
                self.register_buffer("largest_reward", torch.zeros(()))
        self.optimizer = parts.optimizer(self)
        self.scales = {"dyn": config.kl_coef, "rep": config.rep_coef, "replay_critic": config.replay_critic_coef}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    # ------------------------------------------------------------------------------------------------ acting

    @torch.no_grad()
    def act(
        self, obs: dict[str, np.ndarray], state: AgentState | None, *, greedy: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[np.ndarray, AgentState]:  # fmt: skip
        """Choose actions for N environments: float32 (N, A) in model form, and the state for the next call.

        ``obs`` holds the canonical observation and ``is_first`` (N,), as ``envs.VectorEnv`` gives them; state is None
        at the very first step. Latents and actions are drawn from ``generator``, by default the agent's own; with
        ``greedy``, which the official agent does not know, both are the likeliest. This is one step of ``observe``.
        ``actions.decode`` turns the result into what ``env.step`` takes.
        """
        inputs = self.to_device({key: obs[key] for key in (*self.observation_space, "is_first")})
        generator = generator or self.generator
        if state is None:
            count = len(inputs["is_first"])
            no_action = torch.zeros(count, self.actions.dim, device=self.device)
            state = AgentState(self.world_model.initial(count), no_action)
        with hardware.precision(self.device, self.precision):
            embed = self.world_model.encoder(inputs)
            deter = self.world_model.dynamics_step(state.latent, state.action, inputs["is_first"])
            posterior = self.world_model.posterior(deter, embed)
            latent = State(deter.float(), posterior.mode() if greedy else posterior.sample(generator))
            policy = self.actor(latent.features)
        action = policy.mode() if greedy else policy.sample(generator)
        return action.cpu().numpy().copy(), AgentState(latent, action)  # on a CPU both would share their memory

    def to_device(self, arrays: dict[str, np.ndarray]) -> Batch:
        """Arrays as tensors on the agent's device, frames still uint8. To a GPU they travel asynchronously."""
        tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
        if self.device.type == "cuda":
            return {k: t.pin_memory().to(self.device, non_blocking=True) for k, t in tensors.items()}
        return {key: tensor.to(self.device) for key, tensor in tensors.items()}

    # -------------------------------------------------------------------------------------------- learning

    def loss(self, batch: Batch) -> tuple[Tensor, State, dict[str, Tensor]]:
        """The one number that is minimised: world model, dream, and critic on replay.

        The batch has L = T + 1 steps; the first gives the context, see :func:`split_context`. Also returns the
        states (B, T, ...) and the metrics, among them the mean of every loss.
        """
        carry, batch = split_context(batch, self.config.num_categories)
        states, posterior = self.follow(batch, carry)
        modelled = self.world_model.losses(batch, states, posterior)
        dreamed, returns, metrics = self.dream_losses(batch, states)
        losses = {**modelled, **dreamed, **self.replay_losses(batch, states, returns)}
        means = {f"loss/{name}": loss.mean() for name, loss in losses.items()}
        return self.parts.total_loss(losses, self.scales), states, {**means, **metrics}

    def follow(self, batch: Batch, carry: State) -> tuple[State, OneHot]:
        """What the agent believes at each step of T: states and posterior, (B, T, ...)."""
        model = self.world_model
        return model.observe(carry, model.encode(batch), batch["prev_action"], batch["is_first"], self.generator)

    def dream_losses(self, batch: Batch, states: State) -> tuple[Losses, Tensor, dict[str, Tensor]]:
        """Dream from the last states of each sequence, K of them: losses (B K, H), returns (B K, H), metrics."""
        config, parts = self.config, self.parts
        if config.return_floor_relative:
            self._follow_rewards(batch["reward"])
        K = self.dreams_from
        starts = State(states.deter[:, -K:].flatten(0, 1), states.stoch[:, -K:].flatten(0, 1)).detach()
        is_terminal = batch["is_terminal"][:, -K:].flatten()
        dream = parts.dream(
            self.world_model, self.actor, starts, is_terminal, config.imagination_horizon, self.generator
        )
        return parts.imagination_losses(
            dream, self.actor, self.critic, self.normalizer, config, actor_loss=parts.actor_loss,
            critic_loss=parts.critic_loss, compute_returns=parts.compute_returns,
        )  # fmt: skip

    def replay_losses(self, batch: Batch, states: State, returns: Tensor) -> Losses:
        """The critic's loss on those same states, each with the return of the dream that began there: (B, K - 1)."""
        config, K = self.config, self.dreams_from
        if not config.replay_critic_coef:
            return {}
        rewards, is_terminal, is_last = (batch[key][:, -K:] for key in ("reward", "is_terminal", "is_last"))
        features = State(states.deter[:, -K:], states.stoch[:, -K:]).features
        bootstrap = returns[:, 0].unflatten(0, (-1, K))  # (B K, H) -> (B, K)
        replay_critic_loss = self.parts.make_replay_critic_loss()
        loss = replay_critic_loss(
            self.critic, self.critic(features), self.critic.slow_value(features), rewards, is_terminal, is_last,
            bootstrap, config.gamma, config.lambda_, config.slow_critic_coef,
        )  # fmt: skip
        return {"replay_critic": loss}

    def _follow_rewards(self, rewards: Tensor) -> None:
        """Count the floor of the return range in units of the largest reward so far; before there is any, in ones.

        Returns are scaled up at most as far as if that reward were 1, so that the unit of rewards does not matter.
        """
        torch.maximum(self.largest_reward, rewards.abs().amax(), out=self.largest_reward)
        unit = torch.where(self.largest_reward > 0, self.largest_reward, 1.0)
        self.normalizer.floor = self.config.return_floor * unit

    @property
    def dreams_from(self) -> int:
        """K: from so many of the last steps of each sequence dreams begin."""
        return self.config.imagination_last or self.config.seq_len

    def train_step(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """One gradient step on a batch of replay, on the agent's device: ``to_device(replay.sample(B))``.

        Returns the fresh latent states (B, T, ...) for the replay and scalar metrics, still on the device: reading
        one makes a GPU wait, so read seldom. Raises UserError for a batch that is not as the agent was made for.
        """
        self._check(batch)
        return self.update(batch)

    def update(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """:meth:`train_step` without a look at the batch: what can be recorded on a GPU as a whole."""
        self.optimizer.zero_grad(set_to_none=True)
        with hardware.precision(self.device, self.precision):
            states, metrics = self.gradients(batch)
        self.optimizer.step()
        self.critic.update_slow()
        return states.detach(), {key: value.detach() for key, value in metrics.items()}

    def gradients(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """Leave in every parameter the gradient of :meth:`loss`; states and metrics as there."""
        total, states, metrics = self.loss(batch)
        with hardware.full_precision(self.device):
            total.backward()
        return states, metrics

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
        """Write parameters, optimiser, normaliser and random numbers to a file.

        It holds no code, loads on any device, and says which parts were not the package's own.
        """
        checkpoint.save(path, self)

    def load(self, path: str | Path | checkpoint.Checkpoint) -> DreamerV3:
        """Take over what a file written by :meth:`save` holds, or one that is open; returns the agent.

        Raises UserError, and leaves the agent as it was, if the file is absent, damaged, of another version, or of
        an agent with another task, configuration, optimiser or other parts.
        """
        checkpoint.load_into(path, self)
        return self

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, parts: Parts | None = None, *, device: torch.device | str = "cpu"
    ) -> DreamerV3:
        """The agent that a file holds, made anew with the configuration and the spaces stored there.

        An agent that had other parts than the package's needs them again: ``parts``.
        """
        config, observation_space, action_space = checkpoint.describe(path)
        return cls(config, observation_space, action_space, parts, device=device).load(path)


def split_context(batch: Batch, classes: int) -> tuple[State, Batch]:
    """Split L = T + 1 replayed steps into the state before the first and T steps to learn from.

    The stored latents of step 0 are the carry, and each step gets the action before it as ``prev_action``. Source:
    code, agent.py, _apply_replay_context; tests/golden/replay_semantics.npz.
    """
    stoch = batch["stoch"][:, 0].long()[..., None] == torch.arange(classes, device=batch["stoch"].device)
    carry = State(batch["deter"][:, 0], stoch.float())
    steps = {key: value[:, 1:] for key, value in batch.items() if key not in ("deter", "stoch")}
    return carry, {**steps, "prev_action": batch["action"][:, :-1]}
