"""Alternatives to single pieces of the algorithm: what other versions of DreamerV3 do, or what the default guards
against.

A variant replaces settings, parts, or both, and is chosen by name in ``config.variants``. The presets ``card`` and
``v2023`` are made of them. The other modules name none of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from inspect import unwrap
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_helpers.actor_critic import (
    Actor,
    Critic,
    Dream,
    ReturnNormalizer,
    compute_returns,
    dream,
    imagination_losses,
)  # fmt: skip
from dreamer_helpers.config import Config
from dreamer_helpers.distributions import OneHot
from dreamer_helpers.errors import UserError, did_you_mean
from dreamer_helpers.nets import ContinueHead, Head, Layer, Linear, Norm, RMSNorm, Shifting, TwoHotHead
from dreamer_helpers.optim import Trainable, Uncompiled
from dreamer_helpers.symlog import TwoHot, symexp, symlog
from dreamer_helpers.world_model import Losses, State, WorldModel

# ----------------------------------------------------------------------------------------------------- nets


class LayerNorm(Shifting, nn.Module):
    """Subtract the mean, divide by the deviation, scale and shift, over the last axis; inside, in float32.

    Source: code of 2023; tests/golden/layernorm.npz.
    """

    def __init__(self, features: int, eps: float = 1e-3):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), x.shape[-1:], self.scale, self.shift, self.eps).to(x.dtype)


class DenseGRU(nn.Module):
    """The sequence model of 2023: one layer for z and a, then a dense GRU with a norm over all three gates.

    Same shapes as ``BlockGRU``; ``blocks`` is not used. Source: code of 2023, nets.py, GRU.
    """

    def __init__(self, deter: int, stoch: int, action: int, units: int, blocks: int, norm: Norm = RMSNorm):
        super().__init__()
        self.inputs = Layer(stoch + action, units, norm)
        self.norm = norm(3 * deter)
        self.gates = Linear(deter + units, 3 * deter, bias=not isinstance(self.norm, Shifting))

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        """One step: h (B, D), z flat (B, S C) and a (B, A) -> the next h (B, D)."""
        action = action / action.detach().abs().clamp(min=1.0)  # clips to [-1, 1]
        x = self.inputs(torch.cat([stoch, action], -1))
        reset, candidate, update = self.norm(self.gates(torch.cat([deter, x], -1))).float().chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)  # at first, rather remember
        return update * candidate + (1.0 - update) * deter

    @torch.no_grad()
    def scale_gates(self, factor: float) -> None:
        """As in ``BlockGRU``."""
        self.gates.weight.mul_(factor)


class SymlogTwoHotHead(TwoHotHead):
    """Two-hot as in 2023: bins evenly spaced in symlog space, ``symexp`` of the mean.

    Under uncertainty it estimates something like a median, where the default estimates the mean. Source:
    tests/golden/twohot_v1.npz.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, norm: Norm = RMSNorm, bins: int = 255, scale: float = 0.0,
        two_hot: TwoHot = TwoHot(),  # noqa: B008  a tuple: nothing can be changed in it
    ):  # fmt: skip
        super().__init__(inputs, units, layers, norm, bins, scale, two_hot)
        self.bins.copy_(symlog(self.bins))  # evenly spaced; through symexp, so that the middle is exactly 0

    @torch.no_grad()
    def lower_far_bins(self, slope: float) -> None:
        """As in :class:`TwoHotHead`; these bins are in symlog space already."""
        self[1].bias.copy_(-slope * self.bins.abs())

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy with the two-hot encoding of symlog(target): (...)."""
        return super().loss(logits, symlog(target))

    def mean(self, logits: Tensor) -> Tensor:
        """symexp of the mean in symlog space: (...)."""
        return symexp(super().mean(logits))


class MSEHead(Head):
    """Predicts a number by squared error: (..., inputs) -> (..., 1). Large targets give large gradients."""

    def __init__(self, inputs: int, units: int, layers: int, norm: Norm = RMSNorm, bins: int = 255, scale: float = 0.0):
        super().__init__(inputs, 1, units, layers, norm, scale)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Squared error, (...)."""
        return (logits[..., 0] - target).square()

    def mean(self, logits: Tensor) -> Tensor:
        """The prediction, (...)."""
        return logits[..., 0]


class SymlogMSEHead(MSEHead):
    """Predicts symlog of a number by squared error. For random targets ``symexp`` of the mean is not the mean.

    Source: tests/golden/heads.npz, vec.
    """

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Squared error in symlog space, (...)."""
        return super().loss(logits, symlog(target))

    def mean(self, logits: Tensor) -> Tensor:
        """symexp of the prediction, (...)."""
        return symexp(super().mean(logits))


class HardContinueHead(ContinueHead):
    """The continue predictor of 2023: the target is 0 or 1, the prediction too, and the discount is applied after."""

    def loss(self, logits: Tensor, is_terminal: Tensor) -> Tensor:
        """Binary cross-entropy, (...)."""
        target = 1.0 - is_terminal.float()
        return F.binary_cross_entropy_with_logits(logits[..., 0], target, reduction="none")

    def mean(self, logits: Tensor) -> Tensor:
        """gamma where the episode more likely goes on, else 0: (...)."""
        return (logits[..., 0] > 0).float() * self.gamma


def shifted_image(x: Tensor) -> Tensor:
    """The image output of 2023: no sigmoid, pixels predicted around 0.5."""
    return x + 0.5


class TanhNormal:
    """A normal squashed by tanh: actions lie inside (-1, 1), and the density pays for the squashing.

    ``log pi(a) = log N(u) - sum log(1 - tanh(u)²)`` with ``a = tanh(u)``; the last term is computed as
    ``2 (log 2 - u - softplus(-2u))``, which does not round to 0. The entropy has no closed form: what the squashing
    takes from that of the normal is an integral over u, computed by Gauss and Hermite's rule at ``NODES`` places.
    Bounds of the deviation as in ``BoundedNormal``.
    """

    LIMIT = 1 - 1e-6  # a float32 sample rounds to 1 far out; its inverse must stay finite
    NODES = 16

    def __init__(self, outputs: Tensor, min_std: float = 0.1, max_std: float = 1.0):
        self.center, std = outputs.float().chunk(2, -1)
        self.std = (max_std - min_std) * torch.sigmoid(std + 2.0) + min_std

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sampled action (..., A) in (-1, 1), reparametrised."""
        noise = torch.randn(self.center.shape, generator=generator, device=self.center.device)
        return torch.tanh(self.center + self.std * noise).clamp(-self.LIMIT, self.LIMIT)

    def mode(self) -> Tensor:
        """tanh of the centre, (..., A)."""
        return torch.tanh(self.center)

    def log_prob(self, action: Tensor) -> Tensor:
        """Exact log-density of actions (..., A) inside (-1, 1): (...)."""
        u = torch.atanh(action.clamp(-self.LIMIT, self.LIMIT))
        normal = -0.5 * ((u - self.center) / self.std).square() - torch.log(self.std) - 0.5 * math.log(2 * math.pi)
        return (normal - _log_slope_of_tanh(u)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy, (...)."""
        squashed = torch.zeros_like(self.center)
        for place, weight in zip(*np.polynomial.hermite_e.hermegauss(self.NODES), strict=True):
            share = float(weight) / math.sqrt(2 * math.pi)
            squashed = squashed + share * _log_slope_of_tanh(self.center + self.std * float(place))
        normal = torch.log(self.std) + 0.5 * math.log(2 * math.pi * math.e)
        return (normal + squashed).sum(-1)


def _log_slope_of_tanh(u: Tensor) -> Tensor:
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


# --------------------------------------------------------------------------------------------- world model


def single_kl(posterior: OneHot, prior: OneHot, free_nats: float) -> Losses:
    """One KL divergence that moves both sides alike, (B, T): no balance between learning and being predictable."""
    return {"dyn": posterior.kl(prior).sum(-1).clamp(min=free_nats)}


def kl_free_nats_after_mean(posterior: OneHot, prior: OneHot, free_nats: float) -> Losses:
    """The two KL losses averaged first and compared with the free nats after, (): a common mistake.

    Quiet steps are pulled as hard as surprising ones, or none is.
    """
    dyn = posterior.detach().kl(prior).sum(-1).mean()
    rep = posterior.kl(prior.detach()).sum(-1).mean()
    return {"dyn": dyn.clamp(min=free_nats), "rep": rep.clamp(min=free_nats)}


# ------------------------------------------------------------------------------------------- actor, critic


class DebiasedNormalizer(ReturnNormalizer):
    """The range divided by the weight of the batches so far, which makes good for its start at 0.

    A choice in the official code. Source: tests/golden/retnorm.npz, ``perc_debias``.
    """

    def __init__(self, *settings: float):
        super().__init__(*settings)
        self.register_buffer("weight", torch.zeros(()))

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """Take in a batch of returns (any shape), then give the scale S (scalar)."""
        super().forward(returns)
        self.weight.lerp_(torch.ones_like(self.weight), self.rate)
        return ((self.high - self.low) / self.weight).clamp(min=self.floor)


class Abs95Normalizer(ReturnNormalizer):
    """``max(1, percentile(|returns|, 95))`` of the batch alone. A large constant return makes it large as well, and
    the differences that matter vanish."""

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """The scale of a batch of returns (any shape): scalar."""
        return torch.quantile(returns.abs().flatten(), self.percent[1] / 100).clamp(min=self.floor)


class StdNormalizer(ReturnNormalizer):
    """The running standard deviation of the returns. Sparse rewards make it tiny, and noise is blown up."""

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """Take in a batch of returns (any shape), then give the scale S (scalar)."""
        self.low.lerp_(returns.mean(), self.rate)  # here: running mean and mean square
        self.high.lerp_(returns.square().mean(), self.rate)
        return (self.high - self.low.square()).clamp(min=1e-8).sqrt()


class NoNormalizer(ReturnNormalizer):
    """Returns as they are."""

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """1, whatever the returns."""
        return torch.ones_like(self.high)


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through these modules, but none reaches their parameters."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def differentiable_dream(
    world_model: WorldModel, actor: Actor, starts: State, is_terminal: Tensor, horizon: int,
    generator: torch.Generator | None = None,
) -> Dream:  # fmt: skip
    """As ``actor_critic.dream``, but for continuous actions the gradient of the actions is kept through the dynamics.

    The policy reads states without gradient, as in the code of 2023.
    """
    if actor.discrete:
        return dream(world_model, actor, starts, is_terminal, horizon, generator)

    def policy(state: State) -> Tensor:
        return actor(state.detach().features).sample(generator)

    with frozen(world_model):
        states, actions = world_model.imagine(starts, policy, horizon, generator)
        features = states.features
        rewards = world_model.reward.mean(world_model.reward(features))
        continues = world_model.cont.mean(world_model.cont(features))
    continues = torch.cat([1.0 - is_terminal.float()[:, None], continues[:, 1:]], 1)
    return Dream(features, actions, rewards, continues)


def backprop_losses(
    imagined: Dream, actor: Actor, critic: Critic, normalizer: nn.Module, config: Config, *,
    compute_returns: Callable[..., Tensor] = compute_returns, **parts: Callable[..., Tensor],
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:  # fmt: skip
    """As ``actor_critic.imagination_losses``, but continuous actions climb the return through the learned dynamics.

    Discrete actions use REINFORCE, as everywhere.
    """
    still = Dream(*(part.detach() for part in imagined))
    result, returns, metrics = imagination_losses(
        still, actor, critic, normalizer, config, compute_returns=compute_returns, **parts
    )
    if actor.discrete:
        return result, returns, metrics
    with frozen(critic):
        values = critic.mean(critic(imagined.features))
    climbed = compute_returns(imagined.rewards, values, imagined.continues, config.lambda_)
    weights = still.continues[:, :-1].cumprod(1)
    advantage = (climbed - values[:, :-1]) / metrics["return_scale"]
    entropy = actor(still.features[:, :-1]).entropy()
    result["actor"] = -weights * (advantage + config.entropy_coef * entropy)
    return result, returns, metrics


# ----------------------------------------------------------------------------------------------- optimisers


class ClippedAdam(Uncompiled, torch.optim.Adam):
    """Adam with the gradients of each group of parameters clipped to a global norm."""

    def __init__(self, groups: Iterable[dict[str, Any]], **settings: Any):
        super().__init__(groups, **settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Clip, then one update of Adam."""
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], group["clip"])
        unwrap(torch.optim.Adam.step)(self)


def one_adam(agent: Trainable) -> ClippedAdam:
    """One Adam for everything, one global norm."""
    config = agent.config
    params = [p for p in agent.parameters() if p.requires_grad]
    group = {"params": params, "lr": config.learning_rate, "eps": config.adam_eps, "clip": config.gradient_clip}
    return ClippedAdam([group], betas=(config.beta1, config.beta2))


def three_adams(agent: Trainable) -> ClippedAdam:
    """The optimisers of 2023 as three groups, each clipped by itself: world model, actor, critic.

    Actor and critic: eps 1e-5, clipped at 100. Source: code of 2023, configs.yaml.
    """
    config = agent.config
    model = {"lr": config.learning_rate, "eps": config.adam_eps, "clip": config.gradient_clip}
    actor = {"lr": config.actor_learning_rate or config.learning_rate, "eps": 1e-5, "clip": 100.0}
    critic = {"lr": config.critic_learning_rate or config.learning_rate, "eps": 1e-5, "clip": 100.0}
    groups = [
        {"params": list(agent.world_model.parameters()), **model},
        {"params": list(agent.actor.parameters()), **actor},
        {"params": list(agent.critic.head.parameters()), **critic},
    ]
    return ClippedAdam(groups, betas=(config.beta1, config.beta2))


# ------------------------------------------------------------------------------------------------ the names


@dataclass(frozen=True)
class Variant:
    """What a name replaces: parts, settings, or both; and why one would want to see it."""

    why: str
    parts: dict[str, Callable[..., Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    "layer_norm": Variant("the norm of 2023", {"norm": LayerNorm}),
    "dense_gru": Variant("the sequence model of 2023", {"cell": DenseGRU}),
    "symlog_two_hot": Variant("the two-hot heads of 2023", {"scalar_head": SymlogTwoHotHead}),
    "symlog_mse": Variant("heads without a distribution", {"scalar_head": SymlogMSEHead}),
    "mse": Variant("heads without symlog either", {"scalar_head": MSEHead}),
    "hard_continue": Variant("the continue predictor of 2023", {"continue_head": HardContinueHead}),
    "linear_image_output": Variant("the image output of 2023", {"image_output": shifted_image}),
    "tanh_normal": Variant("a squashed continuous policy", {"continuous_policy": TanhNormal}),
    "single_kl": Variant("no KL balance", {"kl_loss": single_kl}),
    "free_nats_after_mean": Variant("a common mistake", {"kl_loss": kl_free_nats_after_mean}),
    "no_free_nats": Variant("every nat counts", settings={"free_nats": 0.0}),
    "no_unimix": Variant("KL and log-probabilities may blow up", settings={"unimix": 0.0}),
    "no_zero_init": Variant("first predictions are anything", settings={"value_init_scale": 1.0}),
    "no_slow_critic": Variant("nothing steadies the critic", settings={"slow_critic_coef": 0.0}),
    "no_replay_critic": Variant("the critic learns in dreams alone", settings={"replay_critic_coef": 0.0}),
    "debiased_returns": Variant("a range right from the start", {"return_normalizer": DebiasedNormalizer}),
    "abs95": Variant("a simpler return scale", {"return_normalizer": Abs95Normalizer}),
    "std_returns": Variant("the usual return scale", {"return_normalizer": StdNormalizer}),
    "raw_returns": Variant("no return scale", {"return_normalizer": NoNormalizer}),
    "adam": Variant("one Adam, clipped by the global norm", {"optimizer": one_adam}),
    "three_adams": Variant("the optimisers of 2023", {"optimizer": three_adams}),
    "dynamics_backprop": Variant(
        "the continuous actor of 2023", {"dream": differentiable_dream, "imagination_losses": backprop_losses}
    ),
}  # fmt: skip
"""Every variant by name. Later ones win where two replace the same thing."""

AnyParts = TypeVar("AnyParts")


def apply(config: Config, parts: AnyParts) -> tuple[Config, AnyParts]:
    """Config and parts (``parts.Parts``) after all of ``config.variants``. Raises UserError for an unknown name."""
    for name in config.variants:
        if name not in VARIANTS:
            raise UserError(f"no variant {name!r}{did_you_mean(name, VARIANTS)}; there are {', '.join(VARIANTS)}")
        config = dataclasses.replace(config, **VARIANTS[name].settings)
        parts = dataclasses.replace(parts, **VARIANTS[name].parts)
    return config, parts
