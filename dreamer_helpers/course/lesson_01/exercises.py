"""The exercises of lesson 01: symlog, its inverse, and what a mean of symlogs makes of chances."""

from __future__ import annotations

import torch

from dreamer_helpers.course.checking import Call, Cases, batches, call, magnitudes
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import learned_worth, symexp, symlog

PLAIN = (1.0, -1.0, 3.0, -3.0, 0.5, -2.5, 0.0)


SIGN = "below 0 the sign is lost; symlog and symexp mirror what they do above"
SIZE = "below 0 this is another curve; compute with the size |x|, and let the sign come back as a factor"
NO_SYMLOG = ((lambda x: x.abs().log1p(), SIGN), (lambda x: x.log1p(), SIZE), (lambda x: x.sign() * x.log1p(), SIZE))
NO_SYMEXP = ((lambda x: x.abs().expm1(), SIGN), (lambda x: x.expm1(), SIZE), (lambda x: x.sign() * x.expm1(), SIZE))
NO_WORTH = (
    (lambda chance, prize: chance * prize, "that is the true worth; what does the learner of symlogs see?"),
    (lambda chance, prize: chance * symlog(prize), "that is still in symlog space; read it through symexp"),
)


def _symlog() -> list[Call]:
    tiny = "near 0 symlog is the identity. 1 + 1e-8 is 1 in float32, so that adding 1 yourself loses small numbers"
    return [
        *batches(*PLAIN),
        *batches(*magnitudes(-18, -2), why=tiny, slopes=False),
        *batches(*magnitudes(0, 18), slopes=False),
        *batches(*magnitudes(-6, 6)),
    ]


def _symexp() -> list[Call]:
    tiny = "near 0 symexp is the identity. exp(1e-8) is 1 in float32, so that subtracting 1 yourself leaves nothing"
    far = (85.0, -85.0, 88.5, -88.5, 89.0, -89.0, 100.0, -100.0, 200.0, -200.0)
    over = "a result that does not fit is infinite, and float64 holds more than float32"
    return [
        *batches(*PLAIN),
        *batches(*magnitudes(-18, -2), why=tiny, slopes=False),
        *batches(7.0, -7.0, 13.8, -18.4, 20.0, -20.5, 30.0, -41.0, 60.0, 80.0, -80.0),
        *batches(*magnitudes(-6, 0)),
        *batches(*far, why=over, slopes=False),
    ]


def _learned_worth() -> list[Call]:
    chances, prizes = (0.1, 0.5, 1.0, 0.0), (1000.0, -20.0, 7.0, 0.0)
    tickets = [(torch.tensor(chance), torch.tensor(prize)) for prize in prizes for chance in chances]
    sizes = [(torch.tensor(0.3), torch.tensor(prize)) for prize in magnitudes(-8, 8)]
    column, row = torch.tensor([[0.0], [0.1], [1.0]]), torch.tensor([1e-3, -3.0, 1e8, -1e8])
    return [*batches(*tickets), *batches(*sizes), call(column, row), call(torch.tensor(0.3), row)]


register(
    Exercise(
        "symlog", "01", symlog, (Cases(_symlog, atol=0.0, known=NO_SYMLOG),),
        (
            "Two factors: one carries the sign, the other the size. `torch.sign` and `torch.abs` give you both halves.",
            "The size is log(1 + |x|): 0 at 0, and growing ever more slowly.",
            "torch has a function for log(1 + y) that stays exact for small y: `torch.log1p`.",
        ),
        minutes=3, slot="symlog",
    ),
    Exercise(
        "symexp", "01", symexp, (Cases(_symexp, atol=0.0, known=NO_SYMEXP),),
        (
            "Undo symlog: solve y = log(1 + x) for x first, for positive numbers.",
            "x = exp(y) - 1; for negative numbers work with |y| and put the sign back.",
            "`torch.expm1` is exp(y) - 1, exact for small y.",
        ),
        minutes=3, slot="symexp",
    ),
    Exercise(
        "learned_worth", "01", learned_worth, (Cases(_learned_worth, atol=0.0, known=NO_WORTH),),
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
