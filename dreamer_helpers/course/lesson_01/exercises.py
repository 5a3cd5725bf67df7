"""The exercises of lesson 01: symlog, its inverse, its slope."""

from __future__ import annotations

from dreamer_helpers.course.checking import Call, Cases, batches, magnitudes
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symexp, symlog, symlog_slope

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


def _symlog_slope() -> list[Call]:
    return [*batches(*PLAIN, 9.0, -99.0, 999.0), *batches(*magnitudes(), slopes=False)]


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
        "symlog_slope", "01", symlog_slope, (Cases(_symlog_slope, atol=0.0),),
        (
            "For positive x: what is the derivative of log(1 + x)?",
            "1 / (1 + x). symlog is odd, and the slope of an odd function is the same on both sides: use |x|.",
        ),
        minutes=2, slot="",  # explains why symlog teaches small and large alike; the agent leaves slopes to autograd
    ),
)  # fmt: skip
