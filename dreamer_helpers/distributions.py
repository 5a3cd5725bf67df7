"""The distributions of the agent: one-hot categoricals for latents and discrete actions, a normal for continuous ones.

Each has ``sample(generator)``, ``mode()``, ``log_prob(x)`` and ``entropy()``. Log-probabilities and entropies come in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor


def mix_uniform(probs: Tensor, share: float) -> Tensor:
    """Mix probabilities (..., classes) with a ``share`` of the uniform distribution: no class ever has none.

    Source: paper, section "World model learning" (unimix); tests/golden/onehot.npz.
    """
    return (1 - share) * probs + share / probs.shape[-1]


def straight_through(onehot: Tensor, probs: Tensor) -> Tensor:
    """The value of ``onehot``, the gradient of ``probs``. Source: tests/golden/onehot.npz, ``st_grad``."""
    return onehot + (probs - probs.detach()) if probs.requires_grad else onehot


def sample_one_hot(probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one class each from probabilities (..., classes): one-hot, with the gradient of the probabilities.

    By inverting the cumulative distribution: the class is the number of partial sums that a uniform number exceeds.
    """
    with torch.no_grad():
        uniform = torch.rand(probs.shape[:-1] + (1,), generator=generator, device=probs.device)
        index = (probs.cumsum(-1)[..., :-1] <= uniform).sum(-1, keepdim=True)  # in 0 .. classes - 1
        onehot = torch.zeros_like(probs).scatter_(-1, index, 1.0)
    return straight_through(onehot, probs)


class OneHot:
    """Independent categoricals with one-hot samples, mixed with a little of the uniform distribution.

    ``probs = (1 - unimix) * softmax(logits) + unimix / classes``, so that neither log-probabilities nor the KL
    divergence can blow up. ``logits`` has shape (..., classes); entropy, log_prob and kl have shape (...). Source:
    paper, section "World model learning"; tests/golden/onehot.npz.
    """

    mix = staticmethod(mix_uniform)
    draw = staticmethod(sample_one_hot)

    def __init__(self, logits: Tensor, unimix: float = 0.01):
        self.logits, self.unimix = logits.float(), unimix

    @cached_property
    def probs(self) -> Tensor:
        """Probabilities after mixing, (..., classes)."""
        return self.mix(torch.softmax(self.logits, -1), self.unimix)

    @cached_property
    def log_probs(self) -> Tensor:
        """Logarithm of :attr:`probs`, (..., classes)."""
        return torch.log(self.probs) if self.unimix else torch.log_softmax(self.logits, -1)  # exact at 0 as well

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A one-hot sample (..., classes) with straight-through gradient: backwards, it passes for the probabilities.

        Random numbers come from ``generator``, by default from torch's global one.
        """
        return self.draw(self.probs, generator)

    def mode(self) -> Tensor:
        """The most likely class as one-hot, (..., classes)."""
        index = self.logits.argmax(-1, keepdim=True)
        return straight_through(torch.zeros_like(self.probs).scatter_(-1, index, 1.0), self.probs)

    def log_prob(self, onehot: Tensor) -> Tensor:
        """Log-probability of one-hot vectors, (...)."""
        return (self.log_probs * onehot).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy, (...)."""
        return -(self.probs * self.log_probs).sum(-1)

    def kl(self, other: OneHot) -> Tensor:
        """KL divergence from this distribution to another, (...)."""
        return (self.probs * (self.log_probs - other.log_probs)).sum(-1)

    def detach(self) -> OneHot:
        """The same distribution, cut off from the gradient."""
        return type(self)(self.logits.detach(), self.unimix)


class DiscretePolicy:
    """A policy over discrete actions: one categorical for each component of a (Multi)Discrete action space.

    Actions are their one-hot vectors, concatenated: (..., sum(sizes)). log_prob and entropy are summed over the
    components: (...). The paper mixes 1 % of uniform into the policy too. Source: tests/golden/imag_loss_disc.npz.
    """

    def __init__(
        self, logits: Tensor, sizes: Sequence[int], unimix: float = 0.01,
        categorical: Callable[[Tensor, float], OneHot] = OneHot,
    ):  # fmt: skip
        self.sizes = list(sizes)
        self.components = [categorical(part, unimix) for part in logits.split(self.sizes, -1)]

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sampled action, (..., A), without gradient."""
        return torch.cat([part.sample(generator).detach() for part in self.components], -1)

    def mode(self) -> Tensor:
        """The most likely action, (..., A)."""
        return torch.cat([part.mode().detach() for part in self.components], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability of actions (..., A), summed over the components: (...)."""
        parts = action.split(self.sizes, -1)
        return sum(dist.log_prob(part) for dist, part in zip(self.components, parts, strict=True))

    def entropy(self) -> Tensor:
        """Entropy, summed over the components: (...)."""
        return sum(dist.entropy() for dist in self.components)


class BoundedNormal:
    """A policy over continuous actions: a normal whose mean lies in (-1, 1) and whose deviation is bounded.

    ``mean = tanh(m)``, ``std = (max_std - min_std) * sigmoid(s + 2) + min_std``. The sample itself is not squashed:
    it may leave [-1, 1] and is clipped by the environment. ``outputs`` (..., 2 A) holds m and s; actions are
    (..., A); log_prob and entropy are summed over A: (...). Source: tests/golden/bounded_normal.npz.
    """

    def __init__(self, outputs: Tensor, min_std: float = 0.1, max_std: float = 1.0):
        mean, std = outputs.float().chunk(2, -1)
        self.mean = torch.tanh(mean)
        self.std = (max_std - min_std) * torch.sigmoid(std + 2.0) + min_std

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sampled action (..., A) that carries the gradient of mean and deviation (reparametrised)."""
        return self.mean + self.std * torch.randn(self.mean.shape, generator=generator, device=self.mean.device)

    def mode(self) -> Tensor:
        """The mean, (..., A)."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density of actions (..., A): (...)."""
        z = (action - self.mean) / self.std
        return (-0.5 * z.square() - torch.log(self.std) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy of the normal, (...)."""
        return (torch.log(self.std) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
