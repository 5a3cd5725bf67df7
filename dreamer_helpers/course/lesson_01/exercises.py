"""The exercises of lesson 01: symlog, its inverse, and what a mean of symlogs makes of chances."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamer_helpers.course.checking import is_tensor_like, runs_on_meta, same_gradients, same_values, show
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.symlog import learned_worth, symexp, symlog

Function = Callable[[Tensor], Tensor]
Tickets = Callable[[Tensor, Tensor], Tensor]
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


def _ordinary_worth(f: Tickets) -> None:
    chance = torch.tensor([[0.0], [0.1], [0.5], [1.0]])
    same_values(f, learned_worth, (torch.tensor(0.1), torch.tensor(1000.0)), (torch.tensor(0.5), torch.tensor(-20.0)))
    same_values(f, learned_worth, (torch.tensor(1.0), torch.tensor(7.0)), (torch.tensor(0.0), torch.tensor(7.0)))
    same_values(f, learned_worth, (chance, torch.tensor([0.0, 1e-3, -3.0, 1e8, -1e8])))
    same_values(f, learned_worth, (torch.tensor(0.3), torch.empty(0)), (torch.rand(2, 1, 3), torch.rand(4, 1)))


def _tiny_prizes(f: Tickets) -> None:
    chance, prize = torch.tensor([0.1, 0.5, 1.0]), torch.tensor([1e-8, -1e-8, 1e-6])
    same_values(f, learned_worth, (chance, prize), atol=0.0)


def _slope_of_worth(f: Tickets) -> None:
    chance, prize = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([1000.0, -20.0, 0.05])
    same_gradients(lambda p: f(chance, p), lambda p: learned_worth(chance, p), prize)
    same_gradients(lambda c: f(c, prize), lambda c: learned_worth(c, prize), chance)


def _double_worth(f: Tickets) -> None:
    x = torch.tensor([0.5], dtype=torch.float64)
    is_tensor_like(f(x, x), learned_worth(x, x), "learned_worth of float64 tensors")


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
    Exercise(
        "learned_worth", "01", learned_worth,
        (
            _ordinary_worth, _tiny_prizes, _slope_of_worth, _double_worth,
            lambda f: runs_on_meta(f, torch.ones(3), torch.ones(3)),
        ),
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
