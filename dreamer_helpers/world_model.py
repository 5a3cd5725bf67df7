"""The world model: what the agent believes about its world, and how it learns to believe it.

At each step t the model keeps a state of two parts: ``h_t`` (deter), a vector that a recurrent net carries along, and
``z_t`` (stoch), a handful of categorical variables drawn anew. It learns five things at once:

    encoder             e_t = enc(x_t)                           what the observation says
    sequence model      h_t = f(h_{t-1}, z_{t-1}, a_{t-1})       what must be remembered
    representation      z_t ~ q(z_t | h_t, e_t)                  the posterior: after looking
    dynamics            z_t ~ p(z_t | h_t)                       the prior: before looking, all a dream has
    decoder and heads   x_t, r_t, c_t from (h_t, z_t)            observation, reward, continue

Shapes: B batch, T time, N = B T, S latents, C classes, D = deter features, E = features of an embedding, A action
features. Time is axis 1. Rewards and
terminals stand with the observation that they led to, so ``a_{t-1}`` and ``r_t`` both belong to step t.

Run ``python -m dreamer_helpers.world_model`` to see it learn a blinking light.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import fast
from dreamer_helpers.config import Config
from dreamer_helpers.distributions import OneHot
from dreamer_helpers.errors import UserError
from dreamer_helpers.nets import (
    MLP,
    BlockLinear,
    ContinueHead,
    ConvDecoder,
    ConvEncoder,
    Layer,
    Linear,
    Norm,
    RMSNorm,
    TwoHotHead,
    norm_silu,
)  # fmt: skip
from dreamer_helpers.symlog import symexp, symlog

Observation = dict[str, Tensor]
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


# ------------------------------------------------------------------------------------------- sequence model


class BlockGRU(nn.Module):
    """The sequence model: a GRU whose recurrent weights are block-diagonal, so that h can be long and cheap.

    h, z and a each pass a layer; every block of h then sees itself and all three. ``h' = u c + (1 - u) h`` with
    update gate u and candidate c. Source: code, rssm.py, _core; tests/golden/rssm_step.npz.
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
        return self.advance(deter, stoch, self.embed_action(action), self.weights())

    def embed_action(self, action: Tensor) -> Tensor:
        """What the cell makes of actions (..., A), for all steps at once: (..., units)."""
        return self.from_action(action / action.detach().abs().clamp(min=1.0))  # clips to [-1, 1]

    def weights(self) -> tuple[Tensor, Tensor]:
        """The weights of ``hidden`` in two parts, made once a sequence.

        Those by which each block reads its own part of h, (g, D/g, D/g), and, blocks side by side, those by which all
        blocks read what they share, (3 units, D).
        """
        own, shared = self.hidden.weight.tensor_split([self.hidden.weight.shape[2]], 1)
        return own, shared.transpose(0, 1).flatten(1)

    def advance(self, deter: Tensor, stoch: Tensor, action: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """:meth:`forward` from what :meth:`embed_action` and :meth:`weights` have prepared, for a loop over steps."""
        own, shared = weights
        inputs = torch.cat([self.from_deter(deter), self.from_stoch(stoch), action], -1)  # (B, 3 units)
        x = torch.addmm(self.hidden.bias, inputs, shared)  # every block sees all inputs
        x = norm_silu(self.norm, x + fast.block_product(deter, own))  # and its own part of h
        x, deter = fast.in_blocks(x, self.blocks), fast.in_blocks(deter, self.blocks)  # (g, B, D/g)
        gates = torch.baddbmm(self.gates.bias.view(self.blocks, 1, -1), x, self.gates.weight).float()
        reset, candidate, update = gates.chunk(3, -1)
        candidate = 2.0 * torch.sigmoid(2.0 * torch.sigmoid(reset) * candidate) - 1.0  # tanh, faster on a CPU
        return fast.side_by_side(torch.lerp(deter, candidate, torch.sigmoid(update - 1.0)))  # at first, remember


class StepCell(nn.Module):
    """Lets the RSSM use a sequence model that has only ``forward(h, z, a) -> h``, as one writes it first."""

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        return self.cell(deter, stoch, action)

    def embed_action(self, action: Tensor) -> Tensor:
        """Actions as they are."""
        return action

    def weights(self) -> None:
        """Nothing to prepare."""

    def advance(self, deter: Tensor, stoch: Tensor, action: Tensor, weights: None) -> Tensor:
        """One step."""
        return self.cell(deter, stoch, action)


class RSSM(nn.Module):
    """Recurrent state-space model: the sequence model with its prior and posterior over z.

    Source: code, rssm.py; tests/golden/rssm_step.npz, rssm_observe.npz, rssm_imagine.npz.
    """

    def __init__(
        self, config: Config, embed_dim: int, action_dim: int, *, norm: Norm = RMSNorm,
        cell: Callable[..., nn.Module] = BlockGRU,
    ):  # fmt: skip
        super().__init__()
        self.latents, self.classes, self.unimix = config.num_categoricals, config.num_categories, config.unimix
        self.deter_dim, self.stoch_dim = config.rnn_hidden_dim, self.latents * self.classes
        units = config.hidden_dim
        self.cell = cell(self.deter_dim, self.stoch_dim, action_dim, units, config.blocks, norm)
        if isinstance(getattr(self.cell, "gates", None), (Linear, BlockLinear)):
            # spreads the gates: some units forget at once, some hardly ever
            with torch.no_grad():
                self.cell.gates.weight.mul_(config.gate_init_scale)
        if not hasattr(self.cell, "advance"):
            self.cell = StepCell(self.cell)
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
        return self._latent(self.prior_net(deter))

    def posterior(self, deter: Tensor, embed: Tensor) -> OneHot:
        """q(z | h, e): what the model believes after it looked. (..., D), (..., E) -> one-hot over (..., S, C)."""
        return self._latent(self.posterior_net(torch.cat([deter, embed], -1)))

    def _latent(self, logits: Tensor) -> OneHot:
        return OneHot(logits.unflatten(-1, (self.latents, self.classes)), self.unimix)

    def observe(self, carry: State, embeds: Tensor, prev_actions: Tensor, is_first: Tensor) -> tuple[State, OneHot]:
        """Follow a recorded sequence: states (B, T, ...) and the posterior that each z was drawn from.

        carry is the state before the first step; embeds (B, T, E), prev_actions (B, T, A), is_first (B, T). For each
        step this is ``dynamics_step``, ``posterior``, ``sample``. What does not depend on the step before, actions
        and the embeddings' part of the posterior, is computed for all steps at once.
        """
        keep = 1.0 - is_first.float()[..., None]  # (B, T, 1)
        actions, weights = self.cell.embed_action(prev_actions * keep), self.cell.weights()
        first, *layers = (*self.posterior_net[0], self.posterior_net[1])
        of_deter, of_embed = first[0].weight.split([self.deter_dim, embeds.shape[-1]], 1)
        seen = F.linear(embeds, of_embed, first[0].bias)  # (B, T, units)
        rest = nn.Sequential(*layers)
        deters, stochs, logits = [], [], []
        with fast.few_rows(embeds):
            for see, action, kept in zip(seen.unbind(1), actions.unbind(1), keep.unbind(1), strict=True):
                deter = self.cell.advance(carry.deter * kept, carry.stoch.flatten(1) * kept, action, weights)
                posterior = self._latent(rest(first.finish(torch.addmm(see, deter, of_deter.t()))))
                carry = State(deter, posterior.sample())
                deters.append(deter), stochs.append(carry.stoch), logits.append(posterior.logits)
        states, of_posterior = State(torch.stack(deters, 1), torch.stack(stochs, 1)), torch.stack(logits, 1)
        fast.few_rows_backward(seen, of_posterior)
        return states, OneHot(of_posterior, self.unimix)

    def imagine(self, start: State, policy: Callable[[State], Tensor], horizon: int) -> tuple[State, Tensor]:
        """Dream: act by ``policy(state) -> action (B, A)`` and let the prior answer, for ``horizon`` steps.

        Returns states (B, horizon + 1, ...), the first of them the start, and the action taken in each (B, horizon
        + 1, A), also in the last.
        """
        state, action = start, policy(start)
        states, actions, weights = [state], [action], self.cell.weights()
        with fast.few_rows(action):
            for _ in range(horizon):
                embedded = self.cell.embed_action(action)
                deter = self.cell.advance(state.deter, state.stoch.flatten(1), embedded, weights)
                state = State(deter, self.prior(deter).sample())
                action = policy(state)
                states.append(state), actions.append(action)
        stacked = State(*(torch.stack(part, 1) for part in zip(*states, strict=True)))
        return stacked, torch.stack(actions, 1)


def kl_loss(posterior: OneHot, prior: OneHot, free_nats: float) -> Losses:
    """The two halves of the KL divergence, in nats, each (B, T): who moves towards whom.

    ``dyn`` pulls the prior towards the posterior (learn to predict), ``rep``, with a smaller scale, the posterior
    towards the prior (be predictable). The KL is summed over the latents; below ``free_nats`` a step costs a
    constant and teaches nothing. The maximum is taken for each step, before any average. Source: paper, equation 5;
    tests/golden/kl_balance.npz.
    """
    dyn = posterior.detach().kl(prior).sum(-1)
    rep = posterior.kl(prior.detach()).sum(-1)
    return {"dyn": dyn.clamp(min=free_nats), "rep": rep.clamp(min=free_nats)}


# ------------------------------------------------------------------------------- observations in and out


def _entries(space: spaces.Dict) -> tuple[dict[str, tuple[int, ...]], dict[str, int], dict[str, list[int]]]:
    """The images (shape), vectors (length) and discrete entries (classes of each component) of a space."""
    images, vectors, discrete = {}, {}, {}
    for key, entry in sorted(space.items()):
        if isinstance(entry, spaces.MultiDiscrete):
            discrete[key] = entry.nvec.tolist()
        elif entry.dtype == "uint8":
            images[key] = entry.shape
        else:
            vectors[key] = entry.shape[0]
    if len({shape[:2] for shape in images.values()}) > 1:
        raise UserError(f"the images of an observation must be of one size, not {images}")
    return images, vectors, discrete


class Encoder(nn.Module):
    """An observation to one embedding: {key: (N, ...)} -> (N, E).

    Vectors (after symlog) and one-hot discrete entries pass an MLP, images (stacked by channel) a convolutional net.
    Source: tests/golden/encoder.npz.
    """

    def __init__(
        self, config: Config, space: spaces.Dict, norm: Norm = RMSNorm, squash: Callable[[Tensor], Tensor] = symlog
    ):
        super().__init__()
        self.images, self.vectors, self.discrete = _entries(space)
        self.squash, self.outputs = squash, 0
        inputs = sum(self.vectors.values()) + sum(map(sum, self.discrete.values()))
        if inputs:
            self.mlp = MLP(inputs, config.hidden_dim, config.mlp_layers, norm)
            self.outputs += config.hidden_dim
        if self.images:
            shape = (*next(iter(self.images.values()))[:2], sum(s[2] for s in self.images.values()))
            self.cnn = ConvEncoder(
                shape, config.cnn_depth, config.cnn_mults, config.cnn_kernel, config.convolution, norm,
                config.image_patch,
            )  # fmt: skip
            self.outputs += self.cnn.outputs

    def _vector(self, obs: Observation, key: str) -> Tensor:
        if key in self.vectors:
            return self.squash(obs[key].float())
        return torch.cat([_one_hot(i, n) for i, n in zip(obs[key].unbind(-1), self.discrete[key], strict=True)], -1)

    def forward(self, obs: Observation) -> Tensor:
        parts = []
        if keys := sorted([*self.vectors, *self.discrete]):
            parts.append(self.mlp(torch.cat([self._vector(obs, key) for key in keys], -1)))
        if self.images:
            images = [obs[key] for key in self.images]
            parts.append(self.cnn(torch.cat(images, -1) if len(images) > 1 else images[0]))
        return torch.cat(parts, -1)


def _one_hot(index: Tensor, classes: int) -> Tensor:
    """(...) -> (..., classes). F.one_hot would look at the values, which makes a GPU wait."""
    return (index[..., None] == torch.arange(classes, device=index.device)).float()


class Decoder(nn.Module):
    """A latent state to what each entry of the observation should be: (N, D), (N, S C) -> {key: (N, ...)}.

    Images come in [0, 1], vectors in symlog space, discrete entries as logits, components side by side. Source:
    tests/golden/decoder.npz.
    """

    def __init__(
        self, config: Config, space: spaces.Dict, norm: Norm = RMSNorm,
        image_output: Callable[[Tensor], Tensor] = torch.sigmoid,
    ):  # fmt: skip
        super().__init__()
        self.images, self.vectors, self.discrete = _entries(space)
        deter, stoch = config.rnn_hidden_dim, config.num_categoricals * config.num_categories
        widths = {**self.vectors, **{key: sum(sizes) for key, sizes in self.discrete.items()}}
        if widths:
            self.mlp = MLP(deter + stoch, config.hidden_dim, config.mlp_layers, norm)
            # module names cannot hold dots, so outputs are kept in the order of the keys
            self.keys = sorted(widths)
            self.outputs = nn.ModuleList(Linear(config.hidden_dim, widths[key]) for key in self.keys)
        if self.images:
            shape = (*next(iter(self.images.values()))[:2], sum(s[2] for s in self.images.values()))
            self.cnn = ConvDecoder(
                deter, stoch, shape, config.hidden_dim, config.blocks, config.cnn_depth, config.cnn_mults,
                config.cnn_kernel, config.convolution, norm, image_output, config.image_patch,
            )  # fmt: skip

    def forward(self, deter: Tensor, stoch: Tensor) -> Observation:
        result: Observation = {}
        if self.vectors or self.discrete:
            hidden = self.mlp(torch.cat([stoch, deter], -1))
            result |= {key: out(hidden).float() for key, out in zip(self.keys, self.outputs, strict=True)}
        if self.images:
            channels = [shape[2] for shape in self.images.values()]
            result |= dict(zip(self.images, self.cnn(deter, stoch).split(channels, -1), strict=True))
        return result


# ---------------------------------------------------------------------------------------------- world model


class WorldModel(nn.Module):
    """Encoder, RSSM, decoder, reward and continue heads, trained together.

    ``observation_space`` is a canonical one (``envs.canonical_space``), ``action_dim`` the length A of an action in
    model form. The keyword arguments are the parts that a learner or a variant may replace.
    """

    def __init__(
        self, config: Config, observation_space: spaces.Dict, action_dim: int, *,
        norm: Norm = RMSNorm,
        cell: Callable[..., nn.Module] = BlockGRU,
        scalar_head: Callable[..., nn.Module] = TwoHotHead,
        continue_head: Callable[..., nn.Module] = ContinueHead,
        kl_loss: Callable[[OneHot, OneHot, float], Losses] = kl_loss,
        symlog: Callable[[Tensor], Tensor] = symlog,
        symexp: Callable[[Tensor], Tensor] = symexp,
        image_output: Callable[[Tensor], Tensor] = torch.sigmoid,
    ):  # fmt: skip
        super().__init__()
        norm = partial(norm, eps=config.norm_eps)
        self.config, self.space = config, observation_space
        self.kl_loss, self.symlog, self.symexp = kl_loss, symlog, symexp
        self.encoder = Encoder(config, observation_space, norm, symlog)
        self.rssm = RSSM(config, self.encoder.outputs, action_dim, norm=norm, cell=cell)
        self.decoder = Decoder(config, observation_space, norm, image_output)
        self.feature_dim = self.rssm.deter_dim + self.rssm.stoch_dim
        units, layers = config.hidden_dim, config.head_layers
        self.reward = scalar_head(
            self.feature_dim, units, layers, norm, bins=config.num_bins, scale=config.value_init_scale
        )
        self.cont = continue_head(self.feature_dim, units, layers, norm, gamma=config.gamma)

    # The names of the lessons, in the order in which a step of the model uses them.

    def initial(self, batch_size: int) -> State:
        """The state before an episode, all zeros: (B, D) and (B, S, C)."""
        return self.rssm.initial(batch_size)

    def encode(self, obs: Observation) -> Tensor:
        """Embeddings of a sequence of observations: {key: (B, T, ...)} -> (B, T, E)."""
        batch, time = next(iter(obs.values())).shape[:2]
        return self.encoder({key: obs[key].flatten(0, 1) for key in self.space}).unflatten(0, (batch, time))

    def dynamics_step(self, state: State, prev_action: Tensor, is_first: Tensor) -> Tensor:
        """See :meth:`RSSM.dynamics_step`."""
        return self.rssm.dynamics_step(state, prev_action, is_first)

    def prior(self, deter: Tensor) -> OneHot:
        """See :meth:`RSSM.prior`."""
        return self.rssm.prior(deter)

    def posterior(self, deter: Tensor, embed: Tensor) -> OneHot:
        """See :meth:`RSSM.posterior`."""
        return self.rssm.posterior(deter, embed)

    def observe(self, carry: State, embeds: Tensor, prev_actions: Tensor, is_first: Tensor) -> tuple[State, OneHot]:
        """See :meth:`RSSM.observe`."""
        return self.rssm.observe(carry, embeds, prev_actions, is_first)

    def imagine(self, start: State, policy: Callable[[State], Tensor], horizon: int) -> tuple[State, Tensor]:
        """See :meth:`RSSM.imagine`."""
        return self.rssm.imagine(start, policy, horizon)

    def decode(self, state: State) -> Observation:
        """What a state (B, T, ...) looks like: images in [0, 1], vectors in their own units, discrete as classes."""
        decoded = self._decode(state)
        for key in self.decoder.vectors:
            decoded[key] = self.symexp(decoded[key])
        for key, sizes in self.decoder.discrete.items():
            decoded[key] = torch.stack([part.argmax(-1) for part in decoded[key].split(sizes, -1)], -1)
        return decoded

    def _decode(self, state: State) -> Observation:
        flat = self.decoder(state.deter.flatten(0, 1), state.stoch.flatten(0, 1).flatten(1))
        return {key: value.unflatten(0, state.deter.shape[:2]) for key, value in flat.items()}

    def loss(self, batch: dict[str, Tensor], carry: State) -> tuple[Losses, State]:
        """All losses of the world model on a batch of sequences, each (B, T), and the states it went through.

        The batch holds the observation's entries, ``prev_action`` (B, T, A), ``is_first``, ``is_terminal`` and
        ``reward`` (B, T). carry is the state before the first step. The sum of the means, each times its scale, is
        what is minimised. Source: paper, equations 4 and 5.
        """
        states, posterior = self.follow(batch, carry)
        return self.losses(batch, states, posterior), states

    def follow(self, batch: dict[str, Tensor], carry: State) -> tuple[State, OneHot]:
        """The first half of :meth:`loss`: encode and observe. States and posterior, (B, T, ...)."""
        return self.observe(carry, self.encode(batch), batch["prev_action"], batch["is_first"])

    def losses(self, batch: dict[str, Tensor], states: State, posterior: OneHot) -> Losses:
        """The second half of :meth:`loss`: what the states should have predicted, each (B, T)."""
        prior = self.prior(states.deter)
        features = states.features
        losses = self.kl_loss(posterior, prior, self.config.free_nats)
        losses |= self.reconstruction_losses(states, batch)
        losses["reward"] = self.reward.loss(self.reward(features), batch["reward"])
        losses["continue"] = self.cont.loss(self.cont(features), batch["is_terminal"])
        return losses

    def reconstruction_losses(self, states: State, obs: Observation) -> Losses:
        """How far the decoded observation is from the real one, for each entry: (B, T).

        Squared errors are summed over pixels or features; discrete entries use cross-entropy. Source: code,
        outs.py, MSE: no factor 1/2, which the paper prints.
        """
        decoded, losses = self._decode(states), {}
        for key in self.decoder.images:
            error = (decoded[key] - obs[key] / 255.0).square().sum((-3, -2, -1))
            pixels = obs[key].shape[-3] * obs[key].shape[-2]
            losses[key] = error * (self.config.image_pixels / pixels if self.config.image_pixels else 1.0)
        for key in self.decoder.vectors:
            error = (decoded[key] - self.symlog(obs[key].float())).square().sum(-1)
            losses[key] = error * self.config.vector_scale
        for key, sizes in self.decoder.discrete.items():
            targets = obs[key].unbind(-1)
            parts = zip(decoded[key].split(sizes, -1), targets, strict=True)
            losses[key] = -sum(logits.log_softmax(-1).gather(-1, target[..., None])[..., 0] for logits, target in parts)
        return losses


if __name__ == "__main__":
    from dreamer_helpers import demos

    demos.world_model()
