"""The exercises of lesson 02: bins, two-hot encoding, cross-entropy, mean."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dreamer_helpers.course.checking import Call, Cases, Wrong, batches, call, show
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symexp_bins, two_hot_encoding, two_hot_loss, two_hot_mean

Function = Callable[..., Tensor]
FIVE = torch.tensor([-10.0, -2.0, 0.0, 2.0, 10.0])
UNEVEN = torch.tensor([-3.0, -1.0, 0.5, 4.0])  # even in number, and no mirror image of themselves


# ---------------------------------------------------------------------------------------------- bins


def _bins() -> list[Call]:
    return [call(*one) for one in ((255,), (63,), (), (5, 2.0), (63, 8.0), (255, 3.0), (3,), (9, 12.5))]


def _mirrored(f: Function) -> None:
    for n in (255, 63, 7):
        bins = f(n)
        if not torch.equal(bins, -bins.flip(0)):
            raise Wrong(
                f"symexp_bins({n}) is not exactly antisymmetric; its middle is {show(bins[n // 2 - 1 : n // 2 + 2])}. "
                "linspace computes its middle from one end and misses 0: compute one half and mirror it"
            )


# ---------------------------------------------------------------------------------------------- encoding


def _encoding() -> list[Call]:
    on = [(x,) for x in (2.0, 0.0, -2.0, 10.0, -10.0)]
    between = [(x,) for x in (0.5, -4.0, 1.0, -1.0, 6.0, -6.0, 9.9, 1e-4)]
    beyond = [(x,) for x in (99.0, -99.0, 10.5, 1e9, -1e9)]
    many = symexp_bins()
    middles, ends = (many[1:] + many[:-1]) / 2, torch.tensor([1e9, -1e9, 0.3, -7.0, 1234.5, -1e6])
    at = "two_hot_encoding({}, symexp_bins())"
    return [
        *batches(*on, *between, *beyond, shared=(FIVE,), empty=False),
        *batches(*between, shared=(UNEVEN,), empty=False),
        call(torch.tensor([math.inf, -math.inf]), FIVE, slopes=False),
        call(many, many, words=at.format("symexp_bins()"), slopes=False),
        call(middles, many, words=at.format("(bins[1:] + bins[:-1]) / 2"), slopes=False),
        call(ends, many, slopes=False),
    ]


def _not_a_number(f: Function) -> None:
    """NaN may stay NaN, give nothing, or be clipped to an end (torch sorts it behind all numbers); no bin between."""
    got = f(torch.tensor([float("nan")]), FIVE)
    if got[0, 1:-1].nan_to_num().any() and not got.isnan().any():
        raise Wrong(
            f"two_hot_encoding(tensor([nan]), ...) gave {show(got[0])}: what is no number must not become an ordinary "
            "one, or a fault elsewhere is never seen; let it stay NaN"
        )


# ---------------------------------------------------------------------------------------------- loss


def _rows(*scales: float, n: int = 5) -> list[Tensor]:
    """Rows of logits, one of each size."""
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(n, generator=generator) for scale in scales]


def _loss() -> list[Call]:
    flat, sure = torch.zeros(5), torch.tensor([0.0, 0.0, 0.0, 8.0, 0.0])
    plain = [(row, torch.tensor(x)) for row in (flat, sure) for x in (2.0, 0.5, -4.0)]
    targets = torch.tensor([0.5, -4.0, 99.0, -10.0, 10.0, 1.0, -99.0])
    rows = list(zip(_rows(1.0, 1.0, 3.0, 0.01, 1.0, 10.0, 2.0), targets, strict=True))
    lost = "the logarithm of a softmax that became 0 is lost, and exp overflows; `log_softmax` does neither"
    large = [(200.0 * torch.eye(5)[3], torch.tensor(0.0)), (1000.0 * torch.eye(5)[1], torch.tensor(9.0)),
             (-1000.0 * torch.eye(5)[4], torch.tensor(-0.5)), (torch.full((5,), -1000.0), torch.tensor(1.0)),
             (torch.tensor([1000.0, -1000.0, 0.0, 999.0, 3.0]), torch.tensor(0.3))]  # fmt: skip
    many = torch.tensor([0.3, -1e6, 1e9])
    return [
        *batches(*plain, shared=(FIVE,), empty=False),
        *batches(*rows, shared=(FIVE,), empty=False, nan=True),
        *batches(*large, *rows[:2], shared=(FIVE,), empty=False, why=lost, slopes=False),
        *batches(*((row[:4], x) for row, x in rows[:4]), shared=(UNEVEN,), empty=False),
        call(torch.stack(_rows(1.0, 5.0, 30.0, n=255)), many, symexp_bins(), slopes=False),
    ]


# ---------------------------------------------------------------------------------------------- mean


def _mean() -> list[Call]:
    plain = [torch.tensor(row) for row in ([0.0, 0, 0, 20, 0], [0.0, 0, 1, 1, 2], [3.0, 0, 0, 0, 1])]
    rows = _rows(1.0, 3.0, 0.3, 10.0)
    large = [1000.0 * torch.eye(5)[3], -1000.0 * torch.eye(5)[0], torch.full((5,), 1000.0), *_rows(300.0, 1.0)]
    little = "two_hot_mean(logits of little spread, symexp_bins())"
    over = "exp overflows, or leaves nothing; `softmax` does neither"
    return [
        *batches(*plain, shared=(FIVE,), empty=False),
        *batches(*rows, shared=(FIVE,), empty=False, nan=True),
        *batches(*large, shared=(FIVE,), empty=False, why=over, slopes=False),
        *batches(*(row[:4] for row in rows), shared=(UNEVEN,), empty=False),
        *batches(*(row[:4] for row in rows), shared=(FIVE[[0, 1, 3, 4]],), empty=False),
        call(torch.tensor([0.0, 1, 3]), torch.tensor([-1.0, 0.5, 3.0])),
        *_cancelling(),
        *(call(row, symexp_bins(), words=little, slopes=False, double=False) for row in _rows(0.01, 0.001, n=255)),
        call(torch.stack(_rows(1.0, 5.0, 30.0, n=255)), symexp_bins(), slopes=False, double=False),
    ]


def _cancelling() -> list[Call]:
    """Logits that mirror themselves, at all bins or at all but a few: what is large has to cancel to nothing."""
    why = (
        "the bins reach to 4.85e8, where float32 has no digits left for small sums: pair each bin with its mirror "
        "image before anything is added"
    )
    calls = []
    for n in (255, 64):
        bins, words = symexp_bins(n), f"two_hot_mean({{}}, symexp_bins({n}))"
        (half,) = _rows(1.0, n=n)
        wide = (half + half.flip(0)) / 2  # its own mirror image
        near, far = wide.clone(), wide.clone()
        near[n // 2 + 8] += 1.0
        far[bins.abs() > 2e8] = -26.0
        far[-1] += 1.0
        for logits, name in (
            (torch.zeros(n), f"zeros({n})"), (wide, "logits that mirror themselves"),
            (near, "logits that mirror themselves but for one, at a small bin"),
            (far, "logits that mirror themselves but for one, at a hardly likely bin"),
        ):  # fmt: skip
            calls.append(call(logits, bins, words=words.format(name), why=why, slopes=False, double=False))
    return calls


register(
    Exercise(
        "symexp_bins", "02", symexp_bins, (Cases(_bins, atol=1e-5), _mirrored),
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
        (Cases(_encoding, atol=1e-5, gradient=("x",), double=False), _not_a_number),
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
        "two_hot_loss", "02", two_hot_loss,
        (Cases(_loss, atol=1e-5, double_rtol=1e-6, gradient=("logits", "target")),),
        (
            "Cross-entropy: minus the sum over bins of encoding times log-probability.",
            "`torch.log_softmax(logits, -1)` is safe where log(softmax) is not. Sum over the last axis only.",
            "The target is given: `two_hot_encoding(target.detach(), bins)`.",
        ),
        minutes=4, slot="two_hot_loss", uses=("two_hot_encoding",),
    ),
    Exercise(
        "two_hot_mean", "02", two_hot_mean, (Cases(_mean, rtol=1e-3, gradient=("logits",)),),
        (
            "The expected bin: softmax, times bins, summed over the last axis.",
            "That passes all but one check. -4.85e8 and 4.85e8 have to cancel before anything small is added.",
            "Split probabilities and bins into lower half, middle (if n is odd) and upper half, and flip the lower "
            "halves. Then sum (p_up - p_low) * b_up + p_low * (b_up + b_low), and the middle's p * b.",
        ),
        minutes=6, slot="two_hot_mean",
    ),
)  # fmt: skip
