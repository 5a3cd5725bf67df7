"""Lesson 01: other right answers to its exercises, planted mistakes, and its explorers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import attempts
from dreamer_helpers.course.lesson_01.widgets import RewardHistogram, SymlogExplorer
from dreamer_helpers.widgets import Explorer

RIGHT: attempts.Right = {
    "symlog": ["def symlog(x):\n    return torch.log1p(x.clamp(min=0)) - torch.log1p(-x.clamp(max=0))"],
    "symexp": ["def symexp(x):\n    return torch.expm1(x.clamp(min=0)) - torch.expm1(-x.clamp(max=0))"],
    "learned_worth": [
        "def learned_worth(chance, prize):\n    return prize.sign() * torch.expm1(chance * torch.log1p(prize.abs()))",
        "def learned_worth(chance, prize):\n    mean = chance * symlog(prize) + (1 - chance) * symlog(torch.zeros_like(prize))\n    return symexp(mean)",
    ],
}

MISTAKES: attempts.Mistakes = {
    "symlog": {
        "return torch.log(1 + x)": r"symlog(tensor(-1.0))",
        "return torch.log1p(torch.abs(x))": r"symlog(tensor(-1.0)) gave 0.6931, and -0.6931 is right",
        "return torch.sign(x) * torch.log(torch.abs(x))": "symlog(tensor(1.0)) gave 0.0, and 0.6931 is right",
        "return torch.sign(x) * torch.log(1 + torch.abs(x))": "near 0 symlog is the identity",
        "return torch.sign(x) * torch.log10(1 + torch.abs(x))": r"symlog(tensor(1.0)) gave 0.301, and 0.6931 is right",
        "torch.sign(x) * torch.log1p(torch.abs(x))": "gave None: is there a `return`",
        "return (torch.sign(x) * torch.log1p(torch.abs(x))).detach()": "no gradient flows back",
        "return torch.tensor([v.sign() * v.abs().log1p() for v in x.flatten()]).reshape(x.shape)": "no gradient|GPU",
        "return float(x.sum())": "gave float, not a tensor",
        "return (torch.sign(x) * torch.log1p(torch.abs(x))).float()": "is of type torch.float32, not torch.float64",
        "return x.sign_() * torch.log1p(x.abs_())": "changed its input",
        "return torch.sing(x)": "AttributeError.*in the line `return torch.sing",
    },
    "symexp": {
        "return torch.exp(x) - 1": r"symexp(tensor(-1.0))",
        "return torch.sign(x) * torch.exp(torch.abs(x))": r"symexp(tensor(1.0)) gave 2.718, and 1.718 is right",
        "return torch.sign(x) * (torch.exp(torch.abs(x)) - 1)": "subtracting 1 yourself leaves nothing",
        "return torch.sign(x) * torch.expm1(x)": r"symexp(tensor(-1.0)) gave 0.6321, and -1.718 is right",
        "return torch.expm1(torch.abs(x))": r"symexp(tensor(-1.0)) gave 1.718, and -1.718 is right",
        "return torch.sign(x) * torch.expm1(torch.abs(x)).clamp(max=1e6)": r"symexp(tensor(-18.4)) gave -1000000.0, and",
    },
    "learned_worth": {
        "return chance * prize": "learned_worth(.*0.1.*1000.0.*) gave 100.*, and 0.9955 is right",
        "return symexp(symlog(chance * prize))": "learned_worth(.*0.1.*1000.0.*) gave 100.*, and 0.9955 is right",
        "return chance * symlog(prize)": "learned_worth(.*0.1.*1000.0.*) gave 0.6909, and 0.9955 is right",
        "return chance * symexp(symlog(prize))": "gave 100",
        "return symlog(chance) * symexp(prize)": "gave inf",
        "return symexp(symlog(chance) * symlog(prize))": "and 0.9955 is right",
        "return (1 + prize.abs()) ** chance - 1": "-20.0.*gave 0.3559, and -0.3559 |-20.0.*gave 3.583, and -3.583 ",
        "return prize.sign() * ((1 + prize.abs()) ** chance - 1)": "1e-09",
        "return symexp(chance * symlog(prize.clamp(-1e6, 1e6)))": "is right",
        "return symexp(chance * symlog(prize)).detach()": "no gradient flows back",
        "return symexp(chance * symlog(prize.detach()))": "no gradient flows back",
        "return symexp(torch.tensor([c * symlog(p) for c, p in zip(chance, prize)]))": "TypeError|0-d|is right|shape",
        "return symexp(chance.float() * symlog(prize.float()))": "is of type torch.float32, not torch.float64",
    },
}

REWARDS = {"maze": np.array([0.0, 1.0]), "treasure": np.array([1.0, 1e5])}
EXPLORERS: attempts.Explorers = {
    "SymlogExplorer": (
        SymlogExplorer,
        {"power": 3.0, "sign": "-"},
        "At x = -1000, symlog is -6.909, 99 % short of x; its slope is 0.001",
    ),
    "RewardHistogram": (lambda: RewardHistogram(REWARDS), {"shown": "symlog"}, "maze 6 %, treasure 94 %"),
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
