"""The exercise of lesson 00: a warm-up of one line."""

from __future__ import annotations

from dreamer_helpers.course.checking import Call, Cases, batches, magnitudes
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symlog_slope

KNOWN = ((lambda x: 1 / (1 + x), "below 0 this is another curve; take the size of x, |x|"),)


def _sizes() -> list[Call]:
    return [
        *batches(0.0, 1.0, -1.0, 3.0, -0.5, 9.0, -99.0, 999.0, slopes=False),
        *batches(*magnitudes(), slopes=False),
        *batches(0.7, -0.3, 2.6, -5.3),  # off the points at which a right formula may divide by zero on its way back
        *batches(*magnitudes(-2, 6)),
    ]


register(
    Exercise(
        "symlog_slope", "00", symlog_slope, (Cases(_sizes, atol=0.0, known=KNOWN),),
        (
            "A tensor can stand in a formula as a number does: `1 / x` divides 1 by every entry.",
            "torch.abs(x) takes the sign away; add 1, then divide 1 by the sum.",
        ),
        minutes=2, slot="",  # a warm-up; the agent leaves slopes to autograd
    ),
)  # fmt: skip
