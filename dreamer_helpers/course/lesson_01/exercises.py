"""The exercises of lesson 01: symlog, its inverse, its slope."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamer_helpers.course.checking import is_tensor_like, runs_on_meta, same_gradients, same_values, show
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import symexp, symlog, symlog_slope

Function = Callable[[Tensor], Tensor]
ONES = [torch.tensor([x]) for x in (0.0, 1.0, -1.0, 3.0, -3.0, 0.5, -0.5)]


def _ordinary_symlog(f: Function) -> None:
    same_values(f, symlog, *((x,) for x in ONES))
    same_values(f, symlog, (torch.tensor([1e6]),), (torch.tensor([-1e6]),), (torch.ones(2, 3),))


def _tiny_symlog(f: Function) -> None:
    for x in (1e-8, -1e-8):
        got = f(torch.tensor([x]))
        assert abs(got.item() - x) < 1e-10, (
            f"symlog([{x:g}]) gave {show(got)}, and [{x:g}] is right: near 0 symlog is the identity. In float32, "
            "1 + 1e-8 is 1, so that adding 1 yourself loses small numbers"
        )


def _slope_of_symlog(f: Function) -> None:
    same_gradients(f, symlog, torch.tensor([-100.0, -1.0, 0.5, 2.0, 100.0]))


def _double(f: Function, right: Function, name: str) -> None:
    x = torch.tensor([2.0], dtype=torch.float64)
    is_tensor_like(f(x), right(x), f"{name} of a float64 tensor")


def _on_gpu(f: Function) -> None:
    runs_on_meta(f, torch.ones(3))


def _ordinary_symexp(f: Function) -> None:
    same_values(f, symexp, *((x,) for x in ONES))
    same_values(f, symexp, (torch.tensor([10.0]),), (torch.tensor([-10.0]),), (torch.ones(2, 3),))


def _tiny_symexp(f: Function) -> None:
    for x in (1e-8, -1e-8):
        got = f(torch.tensor([x]))
        assert abs(got.item() - x) < 1e-10, (
            f"symexp([{x:g}]) gave {show(got)}, and [{x:g}] is right. In float32, exp(1e-8) is 1, so that subtracting "
            "1 yourself leaves nothing"
        )


def _round_trip(f: Function) -> None:
    x = torch.tensor([-1e8, -1000.0, -0.01, 0.0, 7.0, 1e8])
    back = f(symlog(x))
    for before, after in zip(x.tolist(), back.tolist(), strict=True):
        assert abs(after - before) <= 1e-4 * abs(before) + 1e-6, (
            f"symexp(symlog({before:g})) gave {after:.6g}, and {before:g} is right"
        )


register(
    Exercise(
        "symlog", "01", symlog,
        (_ordinary_symlog, _tiny_symlog, _slope_of_symlog, lambda f: _double(f, symlog, "symlog"), _on_gpu),
        (
            "Two factors: one carries the sign, the other the size. `torch.sign` and `torch.abs` give you both halves.",
            "The size is log(1 + |x|): 0 at 0, and growing ever more slowly.",
            "torch has a function for log(1 + y) that stays exact for small y: `torch.log1p`.",
        ),
        minutes=3, slot="symlog",
    ),
    Exercise(
        "symexp", "01", symexp,
        (_ordinary_symexp, _tiny_symexp, _round_trip, lambda f: _double(f, symexp, "symexp"), _on_gpu),
        (
            "Undo symlog: solve y = log(1 + x) for x first, for positive numbers.",
            "x = exp(y) - 1; for negative numbers work with |y| and put the sign back.",
            "`torch.expm1` is exp(y) - 1, exact for small y.",
        ),
        minutes=3, slot="symexp",
    ),
)  # fmt: skip
