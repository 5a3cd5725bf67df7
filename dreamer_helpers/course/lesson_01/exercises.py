"""The exercises of lesson 01: symlog, its inverse, and what a mean of symlogs makes of chances."""

from __future__ import annotations

import torch

from dreamer_helpers.course.checking import Call, Cases, batches, call, magnitudes
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import learned_worth, symexp, symlog

PLAIN = (1.0, -1.0, 3.0, -3.0, 0.5, -2.5, 0.0)


def _symlog() -> list[Call]:
    tiny = "near 0 symlog is the identity. In float32, 1 + 1e-8 is 1, so that adding 1 yourself loses small numbers"
    return [
        *batches(*PLAIN),
        *batches(*magnitudes(-18, -2), why=tiny, slopes=False),
        *batches(*magnitudes(0, 18), slopes=False),
    ]


def _symexp() -> list[Call]:
    tiny = "near 0 symexp is the identity. In float32, exp(1e-8) is 1, so that subtracting 1 yourself leaves nothing"
    return [
        *batches(*PLAIN),
        *batches(*magnitudes(-18, -2), why=tiny, slopes=False),
        *batches(7.0, -7.0, 13.8, -18.4, 20.0, -20.5, 30.0, -41.0, 60.0, 80.0, -80.0, slopes=False),
    ]


def _learned_worth() -> list[Call]:
    chances, prizes = (0.1, 0.5, 1.0, 0.0), (1000.0, -20.0, 7.0, 0.0)
    tickets = [(torch.tensor(chance), torch.tensor(prize)) for prize in prizes for chance in chances]
    sizes = [(torch.tensor(0.3), torch.tensor(prize)) for prize in magnitudes(-8, 8)]
    column, row = torch.tensor([[0.0], [0.1], [1.0]]), torch.tensor([1e-3, -3.0, 1e8, -1e8])
    return [*batches(*tickets), *batches(*sizes), call(column, row), call(torch.tensor(0.3), row)]


register(
    Exercise(
        "symlog", "01", symlog, (Cases(_symlog, atol=0.0),),
        (
            "Two factors: one carries the sign, the other the size. `torch.sign` and `torch.abs` give you both halves.",
            "The size is log(1 + |x|): 0 at 0, and growing ever more slowly.",
            "torch has a function for log(1 + y) that stays exact for small y: `torch.log1p`.",
        ),
        minutes=3, slot="symlog",
    ),
    Exercise(
        "symexp", "01", symexp, (Cases(_symexp, atol=0.0),),
        (
            "Undo symlog: solve y = log(1 + x) for x first, for positive numbers.",
            "x = exp(y) - 1; for negative numbers work with |y| and put the sign back.",
            "`torch.expm1` is exp(y) - 1, exact for small y.",
        ),
        minutes=3, slot="symexp",
    ),
    Exercise(
        "learned_worth", "01", learned_worth, (Cases(_learned_worth, atol=0.0),),
        (
            "Which one number has the smallest squared error to many numbers? Write down for two numbers a and b what "
            "minimises (y - a)^2 + (y - b)^2, then let a come nine times as often as b.",
            "It is the mean. The learner sees symlogs: symlog(prize) with the chance, and symlog(0) = 0 otherwise. "
            "What is their mean?",
            "Their mean is chance * symlog(prize). What the learner says is read through symexp.",
        ),
        minutes=6, slot="", uses=("symlog", "symexp"),  # explains the trap that two-hot avoids; no piece of the agent
    ),
)  # fmt: skip
