"""Checks of exercises: each says which input gave which wrong value, shape, type, device or gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def show(value: Any) -> str:
    """A value as a learner would write it: short, four digits."""
    if not isinstance(value, Tensor):
        return f"{value:g}" if isinstance(value, float) else repr(value)
    if value.numel() > 8:
        return f"a tensor of shape {tuple(value.shape)}"
    return str(_rounded(value.detach().tolist()))


def _rounded(value: Any) -> Any:
    return [_rounded(entry) for entry in value] if isinstance(value, list) else float(f"{value:.4g}")


def call(name: str, arguments: tuple[Any, ...]) -> str:
    """A call in words."""
    return f"{name}({', '.join(show(argument) for argument in arguments)})"


def is_tensor_like(got: Any, right: Tensor, what: str) -> None:
    """Raise AssertionError unless ``got`` is a tensor of the right shape, dtype and device."""
    assert got is not None, f"{what} gave None: is there a `return`?"
    assert isinstance(got, Tensor), f"{what} gave {type(got).__name__}, not a tensor"
    assert got.shape == right.shape, f"{what} has shape {tuple(got.shape)}, not {tuple(right.shape)}"
    assert got.dtype == right.dtype, f"{what} is of type {got.dtype}, not {right.dtype}"
    assert got.device == right.device, f"{what} is on {got.device}, not on {right.device}"


def same_values(
    attempt: Callable[..., Any], right: Callable[..., Tensor], *cases: tuple[Any, ...], rtol: float = 1e-4,
    atol: float = 1e-6,
) -> None:  # fmt: skip
    """Raise AssertionError at the first case, a tuple of arguments, in which the two differ."""
    name = right.__name__
    for arguments in cases:
        given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]  # kept from harm
        got, wanted, what = attempt(*given), right(*arguments), call(name, arguments)
        is_tensor_like(got, wanted, what)
        for value, kept in zip(given, arguments, strict=True):
            if isinstance(value, Tensor):
                assert torch.equal(value.nan_to_num(), kept.nan_to_num()), f"{what} changed its input"
        close = torch.isclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
        if not close.all():
            place = tuple(torch.nonzero(~close)[0].tolist())
            where = f" at {list(place)}" if len(place) > 1 or wanted.numel() > 1 else ""
            raise AssertionError(f"{what} gave {show(got[place])}{where}, and {show(wanted[place])} is right")


def same_gradients(
    attempt: Callable[[Tensor], Tensor], right: Callable[[Tensor], Tensor], inputs: Tensor, rtol: float = 1e-4
) -> None:
    """Raise AssertionError where the slope of the attempt differs from the right one."""
    slopes = []
    for function in (attempt, right):
        x = inputs.clone().requires_grad_()
        result = function(x)
        assert isinstance(result, Tensor) and result.requires_grad, "no gradient flows back: was the tensor detached?"
        slopes.append(torch.autograd.grad(result.sum(), x)[0])
    for x, got, wanted in zip(inputs.tolist(), *(slope.tolist() for slope in slopes), strict=True):
        assert abs(got - wanted) <= rtol * abs(wanted) + 1e-6, (
            f"the slope at {x:g} is {got:.4g}, and {wanted:.4g} is right"
        )


def runs_on_meta(attempt: Callable[..., Any], *arguments: Any) -> None:
    """Raise AssertionError if a call makes tensors of its own on the wrong device, or reads a value.

    The device ``meta`` has shapes and no values; it stands for a GPU.
    """
    moved = [value.to("meta") if isinstance(value, Tensor) else value for value in arguments]
    try:
        result = attempt(*moved)
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"on a GPU it would stop or wait: {str(error).splitlines()[0]}") from None
    assert result.device.type == "meta", "its result is on the CPU whatever device the input is on"
