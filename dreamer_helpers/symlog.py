"""Symlog and two-hot: predict numbers of any size with one set of hyperparameters.

The two ideas of this file:

* ``symlog`` squeezes large numbers and leaves small ones alone, for either sign. Vector observations go through it.
* ``two_hot``: a network that predicts rewards or values puts out a distribution over fixed bins, trained by
  cross-entropy. The size of the gradient then does not depend on the size of the number predicted.

Run ``python -m dreamer_helpers.symlog`` to see both at work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def symlog(x: Tensor) -> Tensor:
    """Symmetric logarithm, ``sign(x) * log(1 + |x|)``, elementwise.

    Odd, monotone, close to x near 0 and close to a logarithm far away. ``log1p`` keeps small x exact, where
    ``log(1 + |x|)`` rounds them away. Source: paper, section "Robust predictions"; tests/golden/symlog.npz.
    """
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    """Inverse of :func:`symlog`, ``sign(x) * (exp(|x|) - 1)``, elementwise.

    In float32 it overflows to infinity for |x| above 88.7. Source: paper, section "Robust predictions";
    tests/golden/symlog.npz.
    """
    return torch.sign(x) * torch.expm1(torch.abs(x))


def symlog_slope(x: Tensor) -> Tensor:
    """Derivative of :func:`symlog`, ``1 / (1 + |x|)``, elementwise: how much a change of x still counts at x."""
    return 1 / (1 + torch.abs(x))


def learned_worth(chance: Tensor, prize: Tensor) -> Tensor:
    """What a learner says of a ticket that pays ``prize`` with ``chance``, else nothing, if it minimises the squared
    error of symlogs: ``symexp(chance * symlog(prize))``, elementwise; the shapes broadcast.

    What minimises a squared error is a mean, here the mean of symlogs, and the blank adds ``symlog(0) = 0`` to it. The
    ticket is worth ``chance * prize``. Source: arithmetic; lesson 01 trains such a learner.
    """
    return symexp(chance * symlog(prize))


def symexp_bins(n: int = 255, limit: float = 20.0) -> Tensor:
    """The n bins of the two-hot distribution, ``symexp(linspace(-limit, limit, n))`` for odd n: shape (n,), rising.

    One half is computed and mirrored, so that the bins are exactly antisymmetric. With n even, both halves end at 0, as
    in the official code. The outermost bins of the default are -4.85e8 and 4.85e8. Raises ValueError for fewer than 2
    bins. Source: tests/golden/bins.npz.
    """
    if n < 2:
        raise ValueError(f"symexp_bins needs at least 2 bins, not {n}")
    odd = n % 2
    half = symexp(torch.linspace(-limit, 0.0, n // 2 + odd))  # with n odd, the last entry is the centre, 0
    return torch.cat([half, -half[: n // 2].flip(0)])


def neighbours(x: Tensor, bins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the two bins around x, and the weight of the upper one, all of the shape of x.

    Beyond the outermost bins both are the outermost one, and no gradient reaches x. Where x is NaN, so is the weight.
    """
    right = torch.searchsorted(bins, x.contiguous(), right=True)  # how many bins are <= x
    below = (right - 1).clamp(0, len(bins) - 1)
    above = right.clamp(0, len(bins) - 1)
    gap = bins[above] - bins[below]
    beyond = gap == 0
    weight = (x - bins[below]) / torch.where(beyond, 1.0, gap)  # 0 / 0 would give a gradient of NaN, even if not taken
    return below, above, torch.where(beyond & ~x.isnan(), 0.0, weight)


def two_hot_encoding(x: Tensor, bins: Tensor) -> Tensor:
    """Share each number between its two neighbouring bins so that the mean is the number: (...) -> (..., n).

    x lies in the space of the bins (raw numbers for :func:`symexp_bins`); beyond the outermost bins it is clipped.
    Source: paper, section "Robust predictions"; tests/golden/twohot.npz.
    """
    below, above, weight = neighbours(x, bins)
    encoding = torch.zeros(*x.shape, len(bins), dtype=bins.dtype, device=x.device)
    encoding.scatter_add_(-1, below[..., None], (1 - weight)[..., None])
    return encoding.scatter_add_(-1, above[..., None], weight[..., None])


def two_hot_mean(logits: Tensor, bins: Tensor) -> Tensor:
    """The number that a distribution over bins stands for, ``sum_i p_i b_i``: (..., n) -> (...).

    Bins reach from -4.85e8 to 4.85e8, and float32 has no digits left for small sums of such terms. So each bin is
    paired with its mirror image, ``p_up b_up + p_low b_low = (p_up - p_low) b_up + p_low (b_up + b_low)``: where bins
    are antisymmetric the last term is 0, and flat logits then give exactly 0, in any order of summation and whether or
    not products are rounded before they are added. Added from left to right, the terms give -0.25. Source:
    tests/golden/twohot.npz.
    """
    half = len(bins) // 2
    parts = half, len(bins) - 2 * half, half  # with n odd there is one in the middle
    p_low, p_middle, p_up = torch.softmax(logits, -1).split(parts, -1)
    b_low, b_middle, b_up = bins.split(parts)
    p_low, b_low = p_low.flip(-1), b_low.flip(-1)
    pairs = (p_up - p_low) * b_up + p_low * (b_up + b_low)
    return (p_middle * b_middle).sum(-1) + pairs.sum(-1)


def two_hot_loss(logits: Tensor, target: Tensor, bins: Tensor) -> Tensor:
    """Cross-entropy between logits (..., n) and the two-hot encoding of target (...): shape (...), in nats.

    No gradient reaches the target. Source: paper, section "Robust predictions"; tests/golden/twohot.npz.
    """
    return -(two_hot_encoding(target.detach(), bins) * torch.log_softmax(logits, -1)).sum(-1)


class TwoHot(NamedTuple):
    """The functions of this file that a scalar head is made of, so that each can be replaced."""

    bins: Callable[[int], Tensor] = symexp_bins
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = two_hot_loss
    mean: Callable[[Tensor, Tensor], Tensor] = two_hot_mean


def visualize_symlog(limit: float = 1000.0) -> Figure:
    """Draw symlog beside the identity, its slope, and a round trip. Returns a matplotlib Figure."""
    from matplotlib.figure import Figure

    x = torch.linspace(-limit, limit, 2001)
    near = torch.linspace(-3, 3, 601)
    fig = Figure(figsize=(10, 3), layout="constrained")
    wide, close, slope = fig.subplots(1, 3)
    wide.plot(x, symlog(x), color="#0072B2")
    wide.set(title="far away: logarithmic", xlabel="x", ylabel="symlog(x)")
    close.plot(near, near, ":", color="#999999", label="x")
    close.plot(near, symlog(near), color="#0072B2", label="symlog(x)")
    close.plot(near, symexp(near), color="#D55E00", label="symexp(x)")
    close.set(title="near 0: the identity", xlabel="x", ylim=(-3, 3))
    close.legend()
    slope.plot(x, symlog_slope(x), color="#009E73")
    slope.set(title="slope: 1 / (1 + |x|)", xlabel="x", yscale="log")
    return fig


if __name__ == "__main__":
    from dreamer_helpers import demos

    demos.symlog(symlog, symexp, symexp_bins(), two_hot_encoding, two_hot_mean)
