"""The exercise of lesson 00: a warm-up of one line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamer_helpers.course.checking import is_tensor_like, runs_on_meta, same_gradients, same_values
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symlog_slope

Function = Callable[[Tensor], Tensor]


def _slope(f: Function) -> None:
    same_values(f, symlog_slope, *((torch.tensor([x]),) for x in (0.0, 1.0, -1.0, 3.0, -3.0, 0.5, -0.5)))
    same_values(f, symlog_slope, (torch.tensor([999.0]),), (torch.tensor([-1e6]),), (torch.ones(2, 3),), rtol=1e-6)
    same_values(f, symlog_slope, (torch.tensor(2.0),), (torch.empty(0),))


def _gradient(f: Function) -> None:
    same_gradients(f, symlog_slope, torch.tensor([-100.0, -1.0, 0.5, 2.0]))


def _double(f: Function) -> None:
    x = torch.tensor([2.0], dtype=torch.float64)
    is_tensor_like(f(x), symlog_slope(x), "symlog_slope of a float64 tensor")


def _on_gpu(f: Function) -> None:
    runs_on_meta(f, torch.ones(3))


register(
    Exercise(
        "symlog_slope", "00", symlog_slope, (_slope, _gradient, _double, _on_gpu),
        (
            "A tensor can stand in a formula as a number does: `1 / x` divides 1 by every entry.",
            "torch.abs(x) takes the sign away; add 1, then divide 1 by the sum.",
        ),
        minutes=2, slot="",  # a warm-up; the agent leaves slopes to autograd
    ),
)  # fmt: skip
