"""The actor and the critic: how the agent learns to behave inside its own dreams.

The critic predicts how much reward is still to come, the actor chooses actions. Both learn from imagined
trajectories: N dreams of H steps, so N x (H + 1) states, each with a predicted reward and a predicted continue (the
discount, or 0 at an end). Entry t of a reward or continue belongs to state t: both follow from action t - 1.

    lambda return       R_t = r_{t+1} + c_{t+1} ((1 - lambda) v_{t+1} + lambda R_{t+1}),   R_H = v_H
    weight              w_t = c_0 c_1 ... c_t                 the chance that the dream still runs, discounted
    return range        S = max(1, average(percentile(R, 95) - percentile(R, 5)))    a running average
    actor               w_t (- log pi(a_t) (R_t - v_t) / S  -  eta entropy)
    critic              w_t (cross-entropy with the two-hot encodings of R_t, and of what a slow copy says)

Run ``python -m dreamer_helpers.actor_critic`` to see them learn a game of one state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from dreamer_helpers.config import Config
from dreamer_helpers.distributions import BoundedNormal, DiscretePolicy, OneHot
from dreamer_helpers.nets import Head, Norm, RMSNorm, TwoHotHead
from dreamer_helpers.world_model import State, WorldModel


class Policy(Protocol):
    """What an actor puts out: a distribution over actions (..., A)."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sampled action, (..., A), by the random numbers of ``generator``."""

    def mode(self) -> Tensor:
        """The likeliest action, (..., A)."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of actions (..., A): (...)."""

    def entropy(self) -> Tensor:
        """Entropy, (...)."""


# --------------------------------------------------------------------------------------------- two networks


class Actor(nn.Module):
    """The policy pi(a | h, z): features (..., F) -> a distribution over actions (..., A).

    ``discrete`` with the choices of each component in ``sizes``, or continuous with ``sizes`` = (A,).
    """

    def __init__(
        self, config: Config, features: int, discrete: bool, sizes: tuple[int, ...], *, norm: Norm = RMSNorm,
        continuous_policy: Callable[..., Policy] = BoundedNormal, categorical: type[OneHot] = OneHot,
    ):  # fmt: skip
        super().__init__()
        self.config, self.discrete, self.sizes = config, discrete, sizes
        self.continuous_policy, self.categorical = continuous_policy, categorical
        norm, outputs = partial(norm, eps=config.norm_eps), sum(sizes) if discrete else 2 * sum(sizes)
        self.net = Head(features, outputs, config.hidden_dim, config.mlp_layers, norm, scale=config.actor_init_scale)

    def forward(self, features: Tensor) -> Policy:
        return self.policy(self.net(features))

    def policy(self, outputs: Tensor) -> Policy:
        """The distribution that outputs of the net (..., outputs) stand for."""
        if self.discrete:
            return DiscretePolicy(outputs, self.sizes, self.config.unimix, self.categorical)
        return self.continuous_policy(outputs, self.config.min_std, self.config.max_std)


class Critic(nn.Module):
    """The value of a state and a slow copy of it: features (..., F) -> logits of a scalar head.

    ``head`` learns; ``slow`` follows it by an exponential average and steadies it. Neither sees the other's gradient.
    Source: tests/golden/slow_ema.npz.
    """

    def __init__(
        self, config: Config, features: int, *, norm: Norm = RMSNorm,
        scalar_head: Callable[..., nn.Module] = TwoHotHead,
    ):  # fmt: skip
        super().__init__()
        self.rate = config.slow_rate
        self.head = scalar_head(
            features, config.hidden_dim, config.mlp_layers, partial(norm, eps=config.norm_eps), bins=config.num_bins,
            scale=config.value_init_scale,
        )  # fmt: skip
        self.slow = copy.deepcopy(self.head).requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(features)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The head's loss towards target (...): (...)."""
        return self.head.loss(logits, target)

    def mean(self, logits: Tensor) -> Tensor:
        """The value that logits stand for: (...)."""
        return self.head.mean(logits)

    @torch.no_grad()
    def slow_value(self, features: Tensor) -> Tensor:
        """The slow copy's value: (..., F) -> (...)."""
        return self.slow.mean(self.slow(features))

    @torch.no_grad()
    def update_slow(self) -> None:
        """Move the slow copy by ``rate`` of the way. Once after each update."""
        for slow, head in zip(self.slow.parameters(), self.head.parameters(), strict=True):
            slow.lerp_(head, self.rate)


# -------------------------------------------------------------------------------------------------- returns


def compute_returns(
    rewards: Tensor, values: Tensor, continues: Tensor, lambda_: float, *,
    last: Tensor | None = None, bootstrap: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Lambda returns: (B, T) each -> (B, T - 1).

    ``R_t = r_{t+1} + c_{t+1} ((1 - m_{t+1}) v_{t+1} + m_{t+1} R_{t+1})``, from the last value backwards. Entry t of
    every input belongs to state t; entry 0 of rewards, continues and last is not used here. ``continues`` holds the
    discount, and 0 after a terminal. The mix m is lambda, and 0 where ``last`` says that a recording breaks off: what
    comes after belongs to another episode, so the value stands for it. ``bootstrap`` (B, T) takes the place of the
    values. Source: code, agent.py, lambda_return; the paper prints r_t and c_t for what is r_{t+1} and c_{t+1} here;
    tests/golden/lambda_return.npz.
    """
    bootstrap = values if bootstrap is None else bootstrap
    mix = torch.full_like(rewards, lambda_) if last is None else lambda_ * (1.0 - last.float())
    returns = [bootstrap[:, -1]]
    for t in reversed(range(1, rewards.shape[1])):
        following = (1.0 - mix[:, t]) * bootstrap[:, t] + mix[:, t] * returns[0]
        returns.insert(0, rewards[:, t] + continues[:, t] * following)
    return torch.stack(returns[:-1], 1)


def return_scale(returns: Tensor, low: float = 5.0, high: float = 95.0, floor: float = 1.0) -> Tensor:
    """The range that most returns span, at least ``floor``: any shape -> scalar.

    Source: paper, section "Actor learning".
    """
    low_value, high_value = _percentiles(returns, low, high)
    return (high_value - low_value).clamp(min=floor)


def percentile_normalize(returns: Tensor, low: float = 5.0, high: float = 95.0, floor: float = 1.0) -> Tensor:
    """Returns divided by their :func:`return_scale`; the shape stays. Small returns are not blown up."""
    return returns / return_scale(returns, low, high, floor)


def _percentiles(x: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    x = x.detach().flatten()
    return torch.quantile(x, low / 100), torch.quantile(x, high / 100)


class ReturnNormalizer(nn.Module):
    """The running form of :func:`return_scale`: two percentiles, each followed at ``rate``, starting at 0.

    Starting at 0, the range is over a third too small after 100 updates, a twentieth after 300; where returns are of
    the order of the floor, it hides that. Source: tests/golden/retnorm.npz, ``perc``.
    """

    def __init__(self, low: float = 5.0, high: float = 95.0, rate: float = 0.01, floor: float = 1.0):
        super().__init__()
        self.percent, self.rate, self.floor = (low, high), rate, floor
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """Take in a batch of returns (any shape), then give the scale S (scalar)."""
        low, high = _percentiles(returns, *self.percent)
        self.low.lerp_(low, self.rate)
        self.high.lerp_(high, self.rate)
        return (self.high - self.low).clamp(min=self.floor)


# --------------------------------------------------------------------------------------------------- losses


def actor_loss(
    log_probs: Tensor, entropies: Tensor, returns: Tensor, values: Tensor, scale: Tensor, weights: Tensor,
    entropy_coef: float,
) -> Tensor:  # fmt: skip
    """REINFORCE with a baseline and an entropy bonus: (N, H) each -> (N, H).

    Makes an action likelier by how much better it went than expected, in units of the return range ``scale``.
    ``weights`` is the chance that the dream still runs, times the discount up to there. For discrete and continuous
    actions alike. Source: paper, section "Actor learning"; tests/golden/imag_loss_disc.npz, imag_loss_cont.npz.
    """
    advantage = (returns - values).detach() / scale
    return -weights * (log_probs * advantage + entropy_coef * entropies)


def critic_loss(
    critic: Critic, logits: Tensor, returns: Tensor, slow_values: Tensor, weights: Tensor, slow_coef: float = 1.0
) -> Tensor:
    """Pull the value towards the return and, ``slow_coef`` times as hard, towards the slow critic's: (N, H).

    logits (N, H, bins), all others (N, H). The slow critic only steadies: returns are made with the one that learns.
    Source: paper, section "Critic learning"; tests/golden/imag_loss_disc.npz.
    """
    loss = critic.loss(logits, returns.detach())
    if slow_coef:
        loss = loss + slow_coef * critic.loss(logits, slow_values)
    return weights * loss


def replay_critic_loss(
    critic: Critic, logits: Tensor, slow_values: Tensor, rewards: Tensor, is_terminal: Tensor, is_last: Tensor,
    bootstrap: Tensor, gamma: float, lambda_: float, slow_coef: float = 1.0, *,
    compute_returns: Callable[..., Tensor] = compute_returns, critic_loss: Callable[..., Tensor] = critic_loss,
) -> Tensor:  # fmt: skip
    """The critic loss on replayed steps, where rewards are real: (B, T, bins) and (B, T) -> (B, T - 1).

    ``bootstrap`` (B, T) is the return of the dream that started at each step. Through the logits the gradient of this
    loss reaches the world model too. Source: code, agent.py, repl_loss; tests/golden/repl_loss.npz.
    """
    continues = gamma * (1.0 - is_terminal.float())
    returns = compute_returns(rewards, bootstrap, continues, lambda_, last=is_last)
    weights = 1.0 - is_last[:, :-1].float()  # behind the last step of an episode there is no return
    return critic_loss(critic, logits[:, :-1], returns, slow_values[:, :-1], weights, slow_coef)


class Dream(NamedTuple):
    """N imagined trajectories. Entry t of each belongs to state t of H + 1, and the first state is a real one."""

    features: Tensor  # (N, H + 1, F)
    actions: Tensor  # (N, H + 1, A)
    rewards: Tensor  # (N, H + 1), entry 0 unused
    continues: Tensor  # (N, H + 1), discount included; entry 0 is 1, or 0 where the start is terminal


@torch.no_grad()
def dream(
    world_model: WorldModel, actor: Actor, starts: State, is_terminal: Tensor, horizon: int,
    generator: torch.Generator | None = None,
) -> Dream:  # fmt: skip
    """Imagine from N states (N, ...): act by sampling the policy, read rewards and continues off the model.

    REINFORCE needs no gradient through the dynamics, so none is kept. The continue of the start is known from the
    replayed step, ``is_terminal`` (N,), as in the code of 2023 and 2024; today's code takes the predicted one there.
    Source: paper, section "Actor learning"; code, agent.py.
    """

    def policy(state: State) -> Tensor:
        return actor(state.features).sample(generator)

    states, actions = world_model.imagine(starts, policy, horizon, generator)
    features = states.features
    rewards = world_model.reward.mean(world_model.reward(features))
    continues = world_model.cont.mean(world_model.cont(features))
    continues[:, 0] = 1.0 - is_terminal.float()
    return Dream(features, actions, rewards, continues)


def imagination_losses(
    dream: Dream, actor: Actor, critic: Critic, normalizer: nn.Module, config: Config, *,
    actor_loss: Callable[..., Tensor] = actor_loss, critic_loss: Callable[..., Tensor] = critic_loss,
    compute_returns: Callable[..., Tensor] = compute_returns,
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:  # fmt: skip
    """Actor and critic losses of a dream, each (N, H); its returns (N, H); and numbers to watch."""
    logits = critic(dream.features)  # (N, H + 1, bins)
    values = critic.mean(logits).detach()
    returns = compute_returns(dream.rewards, values, dream.continues, config.lambda_)
    weights = dream.continues[:, :-1].cumprod(1)  # a start that is terminal counts for nothing
    scale = normalizer(returns)
    features, actions = dream.features[:, :-1], dream.actions[:, :-1]  # behind the last state there is no return
    policy = actor(features)
    entropies = policy.entropy()
    losses = {
        "actor": actor_loss(
            policy.log_prob(actions), entropies, returns, values[:, :-1], scale, weights, config.entropy_coef
        ),
        "critic": critic_loss(
            critic, logits[:, :-1], returns, critic.slow_value(features), weights, config.slow_critic_coef
        ),
    }
    metrics = {"imagined_return": returns.mean(), "return_scale": scale, "entropy": entropies.detach().mean()}
    return losses, returns, metrics


if __name__ == "__main__":
    from dreamer_helpers import demos

    demos.actor_critic(Actor, Critic, ReturnNormalizer, Dream, imagination_losses)
