"""The world model: what the agent believes about its world, and how it learns to believe it.

At each step t the model keeps a state of two parts: ``h_t`` (deter), a vector that a recurrent net carries along, and
``z_t`` (stoch), a handful of categorical variables drawn anew. It learns five things at once:

    encoder             e_t = enc(x_t)                           what the observation says
    sequence model      h_t = f(h_{t-1}, z_{t-1}, a_{t-1})       what must be remembered
    representation      z_t ~ q(z_t | h_t, e_t)                  the posterior: after looking
    dynamics            z_t ~ p(z_t | h_t)                       the prior: before looking, all a dream has
    decoder and heads   x_t, r_t, c_t from (h_t, z_t)            observation, reward, continue

Time. A step t holds what arrived together: the observation x_t, the reward r_t and three flags, all of them the
consequence of the action before, a_{t-1}; a_t is chosen at x_t. So the model needs a_{t-1} at step t. Two episodes, the
first cut by a time limit after two actions, the second ended by itself:

    x            x0    x1    x2  | x0'   x1'
    a            a0    a1    0   | a0'   0           (what is chosen at a last step is never carried out)
    a before     -     a0    a1  | 0     a0'         (at a first step there was none: h, z and a count as zeros)
    r            0     r1    r2  | 0     r1'
    is_first     1     0     0   | 1     0
    is_last      0     0     1   | 0     1           (the episode breaks off here)
    is_terminal  0     0     0   | 0     1           (and nothing comes after: the continue is 0)

Shapes: B batch, T time (axis 1), N any number of states, S latents, C classes, D features of h, F = D + S C features of
a state, E features of an embedding, A action features, g blocks. Latents are drawn from a ``generator``, by default
from torch's global one.

Run ``python -m dreamer_helpers.world_model`` to see it learn a blinking light.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers.config import Config
from dreamer_helpers.distributions import OneHot
from dreamer_helpers.nets import MLP, BlockLinear, ContinueHead, Layer, Linear, Norm, RMSNorm, TwoHotHead
from dreamer_helpers.observations import Decoder, Encoder, Observation, entries
from dreamer_helpers.symlog import symexp, symlog

Losses = dict[str, Tensor]


class State(NamedTuple):
    """A latent state, or a sequence of them: ``deter`` h (..., D) and ``stoch`` z, one-hot (..., S, C)."""

    deter: Tensor
    stoch: Tensor

    @property
    def features(self) -> Tensor:
        """What every head reads: h and z side by side, (..., D + S C)."""
        return torch.cat([self.deter, self.stoch.flatten(-2)], -1)

    def detach(self) -> State:
        """The same state, cut off from the gradient."""
        return State(self.deter.detach(), self.stoch.detach())

    @staticmethod
    def stack(states: list[State]) -> State:
        """T states (B, ...) as one sequence (B, T, ...)."""
        return State(*(torch.stack(part, 1) for part in zip(*states, strict=True)))


def previous_actions(action: Tensor, is_first: Tensor) -> Tensor:
    """The action before each step, a_{t-1}: (B, T, A) and bool (B, T) -> (B, T, A).

    Zeros where there was none: at the first step of the sequence, and at the first of every episode.
    """
    before = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], 1)
    return before.masked_fill(is_first[..., None], 0.0)


# ------------------------------------------------------------------------------------------- sequence model


class BlockGRU(nn.Module):
    """The sequence model: a GRU whose recurrent weights are block-diagonal, so that h can be long and cheap.

    h, z and a each pass a layer; every block of h then sees itself and all three, and puts out reset, x and update:
    ``c = tanh(sigmoid(reset) x)``, ``u = sigmoid(update - 1)``, ``h' = u c + (1 - u) h``. Source: code, rssm.py, _core;
    tests/golden/rssm_step.npz.
    """

    def __init__(self, deter: int, stoch: int, action: int, units: int, blocks: int, norm: Norm = RMSNorm):
        super().__init__()
        self.blocks = blocks
        self.from_deter = Layer(deter, units, norm)
        self.from_stoch = Layer(stoch, units, norm)
        self.from_action = Layer(action, units, norm)
        self.hidden = BlockLinear(deter + blocks * 3 * units, deter, blocks)
        self.norm = norm(deter)
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """One step: h (B, D), z flat (B, S C) and a (B, A) -> the next h (B, D)."""
        action = action / action.detach().abs().clamp(min=1.0)  # clips to [-1, 1]
        shared = torch.cat([self.from_deter(deter), self.from_stoch(stoch), self.from_action(action)], -1)
        own = deter.unflatten(-1, (self.blocks, -1))  # (B, g, D/g)
        inputs = torch.cat([own, shared[:, None].expand(-1, self.blocks, -1)], -1)  # (B, g, D/g + 3 units)
        x = F.silu(self.norm(self.hidden(inputs.flatten(1))))  # (B, D)
        gates = self.gates(x).unflatten(-1, (self.blocks, -1)).float()  # (B, g, 3 D/g)
        reset, candidate, update = gates.chunk(3, -1)  # (B, g, D/g) each
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)  # at first, rather remember
        return (update * candidate + (1.0 - update) * own).flatten(1)

    @torch.no_grad()
    def scale_gates(self, factor: float) -> None:
        """Spread the gates at the start: some units then forget at once, some hardly ever."""
        self.gates.weight.mul_(factor)


class RSSM(nn.Module):
    """Recurrent state-space model: the sequence model with its prior and posterior over z.

    ``cell``, ``latent`` and ``norm`` may be replaced, and so may methods, by a subclass. Source: code, rssm.py;
    tests/golden/rssm_step.npz, rssm_observe.npz, rssm_imagine.npz.
    """

    def __init__(
        self, config: Config, embed_dim: int, action_dim: int, *, norm: Norm = RMSNorm,
        cell: Callable[..., nn.Module] = BlockGRU, latent: type[OneHot] = OneHot,
    ):  # fmt: skip
        super().__init__()
        self.latents, self.classes, self.unimix = config.num_categoricals, config.num_categories, config.unimix
        self.deter_dim, self.stoch_dim = config.rnn_hidden_dim, self.latents * self.classes
        self.latent, units = latent, config.hidden_dim
        self.cell = cell(self.deter_dim, self.stoch_dim, action_dim, units, config.blocks, norm)
        self.prior_net = nn.Sequential(
            MLP(self.deter_dim, units, config.prior_layers, norm), Linear(units, self.stoch_dim)
        )
        self.posterior_net = nn.Sequential(
            MLP(self.deter_dim + embed_dim, units, config.posterior_layers, norm), Linear(units, self.stoch_dim)
        )

    def initial(self, batch_size: int) -> State:
        """The state before an episode: zeros, on the device of the parameters."""
        zeros = partial(torch.zeros, device=next(self.parameters()).device)
        return State(zeros(batch_size, self.deter_dim), zeros(batch_size, self.latents, self.classes))

    def dynamics_step(self, state: State, prev_action: Tensor, is_first: Tensor) -> Tensor:
        """The next h (B, D) from the last state and action (B, A). Where ``is_first`` (B,), both count as zeros."""
        keep = 1.0 - is_first.float()[:, None]
        return self.cell(state.deter * keep, state.stoch.flatten(1) * keep, prev_action * keep)

    def prior(self, deter: Tensor) -> OneHot:
        """p(z | h): what the model expects before it looks. (..., D) -> one-hot over (..., S, C)."""
        return self.distribution(self.prior_net(deter))

    def posterior(self, deter: Tensor, embed: Tensor) -> OneHot:
        """q(z | h, e): what the model believes after it looked. (..., D), (..., E) -> one-hot over (..., S, C)."""
        return self.distribution(self.posterior_net(torch.cat([deter, embed], -1)))

    def distribution(self, logits: Tensor) -> OneHot:
        """The latents that logits (..., S C) stand for: one-hot over (..., S, C)."""
        return self.latent(logits.unflatten(-1, (self.latents, self.classes)), self.unimix)

    def observe(
        self, carry: State, embeds: Tensor, prev_actions: Tensor, is_first: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[State, OneHot]:  # fmt: skip
        """Follow a recorded sequence: states (B, T, ...) and the posterior that each z was drawn from.

        carry is the state before the first step; embeds (B, T, E), prev_actions (B, T, A), is_first (B, T).
        """
        state, states, logits = carry, [], []
        for t in range(embeds.shape[1]):
            h = self.dynamics_step(state, prev_actions[:, t], is_first[:, t])
            posterior = self.posterior(h, embeds[:, t])
            state = State(h, posterior.sample(generator))
            states.append(state), logits.append(posterior.logits)
        return State.stack(states), self.latent(torch.stack(logits, 1), self.unimix)  # (B, T, S, C)

    def imagine(
        self, start: State, policy: Callable[[State], Tensor], horizon: int, generator: torch.Generator | None = None
    ) -> tuple[State, Tensor]:
        """Dream: act by ``policy(state) -> action (B, A)`` and let the prior answer, for ``horizon`` steps.

        Returns states (B, horizon + 1, ...), the first of them the start, and the action taken in each (B, horizon
        + 1, A), also in the last.
        """
        state, action = start, policy(start)
        states, actions = [state], [action]
        in_the_midst = torch.zeros(len(action), dtype=torch.bool, device=action.device)  # no episode begins in a dream
        for _ in range(horizon):
            h = self.dynamics_step(state, action, in_the_midst)
            state = State(h, self.prior(h).sample(generator))
            action = policy(state)
            states.append(state), actions.append(action)
        return State.stack(states), torch.stack(actions, 1)


def kl_loss(posterior: OneHot, prior: OneHot, free_nats: float) -> Losses:
    """The KL divergence twice, in nats, each (B, T): the same number, and who moves towards whom differs.

    ``dyn`` pulls the prior towards the posterior (learn to predict), ``rep``, with a smaller scale, the posterior
    towards the prior (be predictable). The KL is summed over the latents; below ``free_nats`` a step costs a
    constant and teaches nothing. The maximum is taken for each step, before any average. Source: paper, section "World
    model learning"; tests/golden/kl_balance.npz.
    """
    dyn = posterior.detach().kl(prior).sum(-1)
    rep = posterior.kl(prior.detach()).sum(-1)
    return {"dyn": dyn.clamp(min=free_nats), "rep": rep.clamp(min=free_nats)}


# ---------------------------------------------------------------------------------------------- world model


def reward_loss(head: nn.Module, features: Tensor, rewards: Tensor) -> Tensor:
    """How badly a scalar head predicts the rewards that arrived with each state: (..., F), (...) -> (...).

    Reward r_t is read off the state of step t, which has seen x_t: it is the consequence of a_{t-1}. Source: code,
    agent.py, loss.
    """
    return head.loss(head(features), rewards)


def total_loss(losses: Losses, scales: Mapping[str, float]) -> Tensor:
    """The one number that is minimised: the mean of each loss, times its scale, which is 1 unless named. Scalar."""
    return sum(scales.get(name, 1.0) * loss.mean() for name, loss in losses.items())


class WorldModel(RSSM):
    """An RSSM that sees and is judged: encoder, decoder, reward and continue heads, all trained together.

    ``observation_space`` is a canonical one (``envs.canonical_space``), ``action_dim`` the length A of an action in
    model form. The keyword arguments are the parts that a learner or a variant may replace.
    """

    def __init__(
        self, config: Config, observation_space: spaces.Dict, action_dim: int, *,
        norm: Norm = RMSNorm,
        cell: Callable[..., nn.Module] = BlockGRU,
        latent: type[OneHot] = OneHot,
        encoder: Callable[..., nn.Module] = Encoder,
        decoder: Callable[..., nn.Module] = Decoder,
        scalar_head: Callable[..., nn.Module] = TwoHotHead,
        continue_head: Callable[..., nn.Module] = ContinueHead,
        kl_loss: Callable[[OneHot, OneHot, float], Losses] = kl_loss,
        reward_loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = reward_loss,
        symlog: Callable[[Tensor], Tensor] = symlog,
        symexp: Callable[[Tensor], Tensor] = symexp,
        image_output: Callable[[Tensor], Tensor] = torch.sigmoid,
    ):  # fmt: skip
        norm = partial(norm, eps=config.norm_eps)
        eyes = encoder(config, observation_space, norm, symlog)
        super().__init__(config, eyes.outputs, action_dim, norm=norm, cell=cell, latent=latent)
        self.config, self.space, self.encoder = config, observation_space, eyes
        self.kl_loss, self.reward_loss, self.symlog, self.symexp = kl_loss, reward_loss, symlog, symexp
        self.decoder = decoder(config, observation_space, norm, image_output)
        self.feature_dim = self.deter_dim + self.stoch_dim
        units, layers = config.hidden_dim, config.head_layers
        self.reward = scalar_head(
            self.feature_dim, units, layers, norm, bins=config.num_bins, scale=config.value_init_scale
        )
        self.cont = continue_head(self.feature_dim, units, layers, norm, gamma=config.gamma)

    def encode(self, obs: Observation) -> Tensor:
        """Embeddings of a sequence of observations: {key: (B, T, ...)} -> (B, T, E)."""
        batch, time = next(iter(obs.values())).shape[:2]
        return self.encoder({key: obs[key].flatten(0, 1) for key in self.space}).unflatten(0, (batch, time))

    def decode(self, state: State) -> Observation:
        """What a state (B, T, ...) looks like: images in [0, 1], vectors in their own units, discrete as classes."""
        _, vectors, discrete = entries(self.space)
        decoded = self.reconstruct(state)
        for key in vectors:
            decoded[key] = self.symexp(decoded[key])
        for key, sizes in discrete.items():
            decoded[key] = torch.stack([part.argmax(-1) for part in decoded[key].split(sizes, -1)], -1)
        return decoded

    def reconstruct(self, state: State) -> Observation:
        """What the decoder makes of a state (B, T, ...), as it is scored: symlog of vectors, logits of classes."""
        flat = self.decoder(state.deter.flatten(0, 1), state.stoch.flatten(0, 1).flatten(1))
        return {key: value.unflatten(0, state.deter.shape[:2]) for key, value in flat.items()}

    def loss(
        self, batch: dict[str, Tensor], carry: State, generator: torch.Generator | None = None
    ) -> tuple[Losses, State]:
        """All losses of the world model on a batch of sequences, each (B, T), and the states it went through.

        The batch holds the observation's entries, ``prev_action`` (B, T, A), ``is_first``, ``is_terminal`` and
        ``reward`` (B, T). carry is the state before the first step. Their :func:`total_loss` is what is minimised.
        Source: paper, section "World model learning".
        """
        states, posterior = self.observe(carry, self.encode(batch), batch["prev_action"], batch["is_first"], generator)
        return self.losses(batch, states, posterior), states

    def losses(self, batch: dict[str, Tensor], states: State, posterior: OneHot) -> Losses:
        """What the states (B, T, ...) should have predicted, and the posterior should have been: each (B, T)."""
        prior, features = self.prior(states.deter), states.features
        losses = self.kl_loss(posterior, prior, self.config.free_nats)
        losses |= self.reconstruction_losses(states, batch)
        losses["reward"] = self.reward_loss(self.reward, features, batch["reward"])
        losses["continue"] = self.cont.loss(self.cont(features), batch["is_terminal"])
        return losses

    def reconstruction_losses(self, states: State, obs: Observation) -> Losses:
        """How far the decoded observation is from the real one, for each entry: (B, T).

        Squared errors are summed over pixels or features; discrete entries use cross-entropy. Source: code,
        outs.py, MSE: no factor 1/2, which the paper prints.
        """
        images, vectors, discrete = entries(self.space)
        decoded, losses = self.reconstruct(states), {}
        for key, (height, width, _) in images.items():
            error = (decoded[key] - obs[key] / 255.0).square().sum((-3, -2, -1))
            losses[key] = error * (self.config.image_pixels / (height * width) if self.config.image_pixels else 1.0)
        for key in vectors:
            error = (decoded[key] - self.symlog(obs[key].float())).square().sum(-1)
            losses[key] = error * self.config.vector_scale
        for key, sizes in discrete.items():
            parts = zip(decoded[key].split(sizes, -1), obs[key].unbind(-1), strict=True)
            losses[key] = -sum(logits.log_softmax(-1).gather(-1, target[..., None])[..., 0] for logits, target in parts)
        return losses


if __name__ == "__main__":
    from dreamer_helpers import demos

    demos.world_model(WorldModel)
