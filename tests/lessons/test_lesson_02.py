"""Lesson 02: other right answers to its exercises, planted mistakes, and its explorers."""

from __future__ import annotations

from collections.abc import Callable

import attempts
from dreamer_helpers.course.lesson_02.widgets import LotteryExplorer, TwoHotExplorer
from dreamer_helpers.widgets import Explorer

RIGHT: attempts.Right = {
    "symexp_bins": [
        """
        def symexp_bins(n=255, limit=20.0):
            grid = torch.linspace(-limit, limit, n, dtype=torch.float64)
            grid = (grid - grid.flip(0)) / 2
            return (grid.sign() * grid.abs().expm1()).float()
    """
    ],
    "two_hot_encoding": [
        """
        def two_hot_encoding(x, bins):
            x = x.clamp(bins[0], bins[-1])[..., None]
            gaps = bins.diff()
            rising = ((x - bins[:-1]) / gaps).clamp(0, 1)  # how far x is past each gap
            one = torch.ones_like(x)
            return torch.cat([one, rising], -1) - torch.cat([rising, 0 * one], -1)
    """
    ],
    "two_hot_loss": [
        """
        def two_hot_loss(logits, target, bins):
            target = two_hot_encoding(target, bins).detach()
            return torch.logsumexp(logits, -1) - (target * logits).sum(-1)
    """
    ],
    "two_hot_mean": [
        """
        def two_hot_mean(logits, bins):
            terms = logits.softmax(-1) * bins
            return ((terms + terms.flip(-1)) / 2).sum(-1)
    """
    ],
}

MISTAKES: attempts.Mistakes = {
    "symexp_bins": {
        "return torch.linspace(-limit, limit, n)": "symexp_bins(255) gave -20.0 at .0., and -485200000.0 is right",
        "y = torch.linspace(-limit, limit, n); return y.sign() * y.abs().expm1()": "not exactly antisymmetric",
        "y = torch.linspace(-limit, limit, n); return y.exp() - 1": "symexp_bins(255) gave -1.0 at .0.",
        "y = torch.linspace(0, limit, n); return y.expm1()": "gave 0.0 at .0., and -4852",
        "y = torch.linspace(-20, 0, n // 2 + n % 2).abs().expm1(); return torch.cat([-y, y[: n // 2].flip(0)])": r"symexp_bins(5, 2.0) gave -485200000.0 at .0., and -6.389",
        "y = torch.linspace(-limit, 0, n // 2).abs().expm1(); return torch.cat([-y, y.flip(0)])": r"has shape (254,), not (255,)",
        "y = torch.linspace(0, limit, n // 2 + 1).expm1(); return torch.cat([-y.flip(0), y])": "has shape",
    },
    "two_hot_encoding": {
        "return torch.nn.functional.one_hot((x[..., None] - bins).abs().argmin(-1), len(bins)).float()": "two_hot_encoding(tensor(0.5), .*) gave 1.0 at .2., and 0.75 is right",
        "i = torch.searchsorted(bins, x, right=True); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "return torch.zeros(*x.shape, len(bins)).scatter(-1, (i - 1)[..., None], (1 - w)[..., None])": "index 5 is out of bounds",
        "d = 1 / ((x[..., None] - bins).abs() + 1e-6); return d / d.sum(-1, keepdim=True)": "is right",
        "i = torch.searchsorted(bins, x, right=True).clamp(1, 4); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "e = torch.zeros(*x.shape, len(bins)); e.scatter_(-1, (i - 1)[..., None], (1 - w)[..., None]); "
        "return e.scatter_(-1, i[..., None], w[..., None])": r"two_hot_encoding(tensor(99.0)",
        "i = torch.searchsorted(bins, x, right=True).clamp(1, 4); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "e = torch.zeros(*x.shape, len(bins)); e.scatter_(-1, (i - 1)[..., None], w[..., None]); "
        "return e.scatter_(-1, i[..., None], (1 - w)[..., None])": r"two_hot_encoding(tensor(2.0)",
    },
    "two_hot_loss": {
        "return -(two_hot_encoding(target, bins) * torch.softmax(logits, -1).log()).sum(-1)": "log_softmax",
        "return (two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum(-1)": "gave -1.609, and 1.609",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).mean(-1)": "gave 0.3219",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum()": "has shape",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, 0)).sum(-1)": "and 1.609 is right",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum(-1)": "a gradient reaches target",
        "return -(two_hot_encoding(target.detach(), bins) * torch.log_softmax(logits.detach(), -1)).sum(-1)": "no gradient flows back to logits",
    },
    "two_hot_mean": {
        "return (torch.softmax(logits, -1) * bins).sum(-1)": "two_hot_mean(zeros(255), symexp_bins(255)) gave .*, and 0.0 is right: .* pair each bin",
        "return (logits * bins).sum(-1)": "is right",
        "return bins[logits.argmax(-1)]": "is right",
        "return (torch.softmax(logits, 0) * bins).sum(-1)": "is right",
        "return (torch.softmax(logits, -1) * bins).mean(-1)": "is right",
        "t = torch.softmax(logits, -1) * bins; h = len(bins) // 2; "
        "return (t[..., :h].flip(-1) + t[..., len(bins) - h :]).sum(-1)": "is right",
    },
}

EXPLORERS: attempts.Explorers = {
    "TwoHotExplorer": (TwoHotExplorer, {"y": 0.0}, "x = 0 lies on a bin: 1.00 on 0; the mean is 0"),
    "LotteryExplorer": (
        LotteryExplorer,
        {"chance": 1.0, "power": 2.0},
        "is worth 100. The mean of raw bins says so; symlog bins",
    ),
}


@attempts.right_answers(RIGHT)
def test_another_right_answer_passes(name: str, source: str) -> None:
    attempts.assert_right(name, source)


@attempts.wrong_answers(MISTAKES)
def test_a_planted_mistake_is_named(name: str, body: str, words: str) -> None:
    attempts.assert_named(name, body, words)


@attempts.explorers(EXPLORERS)
def test_what_is_set_is_drawn_and_said(make: Callable[[], Explorer], values: dict, words: str) -> None:
    attempts.assert_moves(make, values, words)
