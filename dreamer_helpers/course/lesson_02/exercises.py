"""The exercises of lesson 02: bins, two-hot encoding, cross-entropy, mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamer_helpers.course.checking import is_tensor_like, runs_on_meta, same_values, show
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symexp_bins, two_hot_encoding, two_hot_loss, two_hot_mean

Function = Callable[..., Tensor]
FIVE = torch.tensor([-10.0, -2.0, 0.0, 2.0, 10.0])


# ---------------------------------------------------------------------------------------------- bins


def _bins(f: Function) -> None:
    for n in (255, 63):
        got, right = f(n), symexp_bins(n)
        is_tensor_like(got, right, f"symexp_bins({n})")
        falls = torch.nonzero(got.diff() <= 0).flatten().tolist()
        assert not falls, (
            f"symexp_bins({n}) does not rise: entry {falls[0]} is {got[falls[0]]:g}, the next {got[falls[0] + 1]:g}"
        )
        assert torch.isclose(got[-1], right[-1], rtol=1e-4), (
            f"the largest of symexp_bins({n}) is {got[-1]:g}, and symexp(20) = {right[-1]:g} is right"
        )
        off = torch.nonzero(~torch.isclose(got, right, rtol=1e-4, atol=1e-5)).flatten().tolist()
        assert not off, f"symexp_bins({n}) has {got[off[0]]:g} at {off[0]}, and {right[off[0]]:g} is right"


def _mirrored(f: Function) -> None:
    for n in (255, 63):
        bins = f(n)
        assert torch.equal(bins, -bins.flip(0)), (
            f"symexp_bins({n}) is not exactly antisymmetric; its middle is {show(bins[n // 2 - 1 : n // 2 + 2])}. "
            "linspace rounds its two halves differently: compute one half and mirror it"
        )


def _limit(f: Function) -> None:
    got = f(5, 2.0)
    right = symexp_bins(5, 2.0)
    assert torch.isclose(got[-1], right[-1], rtol=1e-4), (
        f"symexp_bins(5, 2.0) ends at {got[-1]:g}, and symexp(2) = {right[-1]:g} is right: use the limit"
    )


# ---------------------------------------------------------------------------------------------- encoding


def _on_a_bin(f: Function) -> None:
    same_values(f, two_hot_encoding, (torch.tensor([2.0]), FIVE), (torch.tensor([0.0]), FIVE))


def _between_bins(f: Function) -> None:
    same_values(f, two_hot_encoding, (torch.tensor([0.5]), FIVE), (torch.tensor([-4.0]), FIVE))


def _outside(f: Function) -> None:
    same_values(
        f, two_hot_encoding, (torch.tensor([99.0]), FIVE), (torch.tensor([-99.0]), FIVE), (torch.tensor([10.0]), FIVE)
    )


def _shapes_of_encoding(f: Function) -> None:
    same_values(f, two_hot_encoding, (torch.linspace(-12, 12, 6).reshape(2, 3), FIVE))
    runs_on_meta(f, torch.zeros(3), FIVE)


def _mean_is_kept(f: Function) -> None:
    bins = symexp_bins()
    for x in (0.3, -7.0, 1234.5, -1e6):
        mean = (f(torch.tensor([x]), bins).double() * bins).sum().item()
        assert abs(mean - x) < 1e-3 * abs(x), f"the mean of the encoding of {x:g} is {mean:g}, and {x:g} is right"


# ---------------------------------------------------------------------------------------------- loss


def _loss_values(f: Function) -> None:
    flat, sure = torch.zeros(1, 5), torch.tensor([[0.0, 0.0, 0.0, 8.0, 0.0]])
    for logits in (flat, sure):
        same_values(f, two_hot_loss, *((logits, torch.tensor([x]), FIVE) for x in (2.0, 0.5, -4.0)))


def _loss_shape(f: Function) -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    same_values(f, two_hot_loss, (logits, torch.linspace(-12, 12, 6).reshape(2, 3), FIVE))


def _large_logits(f: Function) -> None:
    loss = f(torch.tensor([[0.0, 0.0, 0.0, 200.0, 0.0]]), torch.tensor([0.0]), FIVE)
    assert torch.isclose(loss, torch.tensor(200.0)).all(), (
        f"with logits [0, 0, 0, 200, 0] and the target in the middle the loss is {show(loss)}, and [200.0] is right: "
        "the logarithm of a softmax that became 0 is lost; take log_softmax"
    )


def _gradient_to_logits_only(f: Function) -> None:
    logits = torch.tensor([[0.0, 0.0, 1.0, 2.0, 0.0]], requires_grad=True)
    target = torch.tensor([0.5], requires_grad=True)
    loss = f(logits, target, FIVE)
    assert loss.requires_grad, "no gradient reaches the logits"
    slopes = torch.autograd.grad(loss.sum(), [logits, target], allow_unused=True)
    right = torch.softmax(logits.detach(), -1) - torch.tensor([[0.0, 0.0, 0.75, 0.25, 0.0]])
    assert slopes[0] is not None and torch.allclose(slopes[0], right, atol=1e-5), (
        f"with logits [0, 0, 1, 2, 0] and the target 0.5 the gradient is {show(slopes[0])}, and {show(right)} is right"
    )
    assert slopes[1] is None or not slopes[1].any(), "a gradient reaches the target: detach it"


# ---------------------------------------------------------------------------------------------- mean


def _mean_values(f: Function) -> None:
    same_values(
        f, two_hot_mean, (torch.tensor([0.0, 0.0, 0.0, 20.0, 0.0]), FIVE), (torch.tensor([0.0, 0, 1, 1, 2]), FIVE),
        (torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), FIVE),
        (torch.tensor([0.0, 1, 3]), torch.tensor([-1.0, 0.5, 3.0])), (torch.tensor([1.0, 0, 0, 2]), FIVE[:4]),
    )  # fmt: skip


def _exact_zero(f: Function) -> None:
    for n in (255, 64):
        got = f(torch.zeros(n), symexp_bins(n))
        assert got.item() == 0.0, (
            f"flat logits over symexp_bins({n}) mean {got.item():.4g}, and exactly 0 is right. The bins reach to "
            "4.85e8, where float32 has no digits left for small sums: pair each bin with its mirror image first"
        )


register(
    Exercise(
        "symexp_bins", "02", symexp_bins, (_bins, _limit, _mirrored),
        (
            "Evenly spaced in symlog space from -limit to limit, then through symexp.",
            "`torch.linspace(-limit, 0, ...)` gives the lower half with the middle. How many entries is that, of n?",
            "Compute n // 2 + 1 entries from -limit to 0 and append the first n // 2 of them, flipped and with the "
            "other sign.",
        ),
        minutes=6, slot="symexp_bins", uses=("symexp",),
    ),
    Exercise(
        "two_hot_encoding", "02", two_hot_encoding,
        (_on_a_bin, _between_bins, _outside, _shapes_of_encoding, _mean_is_kept),
        (
            "Find the two neighbours first: `torch.searchsorted(bins, x, right=True)` counts the bins that are <= x.",
            "The weight of the upper neighbour is (x - below) / (above - below); the lower one gets the rest. Clamp "
            "both indices into 0 .. n - 1, and mind the gap of 0 that arises outside.",
            "Write the two weights into zeros with `scatter_add_(-1, index[..., None], weight[..., None])`: on the "
            "outermost bins both indices agree, and adding makes 1.",
        ),
        minutes=10, slot="two_hot_encoding",
    ),
    Exercise(
        "two_hot_loss", "02", two_hot_loss, (_loss_values, _loss_shape, _large_logits, _gradient_to_logits_only),
        (
            "Cross-entropy: minus the sum over bins of encoding times log-probability.",
            "`torch.log_softmax(logits, -1)` is safe where log(softmax) is not. Sum over the last axis only.",
            "The target is given: `two_hot_encoding(target.detach(), bins)`.",
        ),
        minutes=4, slot="two_hot_loss", uses=("two_hot_encoding",),
    ),
    Exercise(
        "two_hot_mean", "02", two_hot_mean, (_mean_values, _exact_zero),
        (
            "The expected bin: softmax, times bins, summed over the last axis.",
            "That passes all but one check. -4.85e8 and 4.85e8 have to cancel before anything small is added.",
            "Split probabilities and bins into lower half, middle (if n is odd) and upper half, and flip the lower "
            "halves. Then sum (p_up - p_low) * b_up + p_low * (b_up + b_low), and the middle's p * b.",
        ),
        minutes=6, slot="two_hot_mean",
    ),
)  # fmt: skip
