"""The one place that knows about hardware: which device, which precision, how many threads, where chance comes from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from dreamer_helpers.errors import UserError, did_you_mean


def select_device(name: str | None = None) -> torch.device:
    """The device to work on: ``name``, else the variable DREAMER_DEVICE, else CUDA, then MPS, then the CPU.

    ``name`` is cpu, cuda, cuda:N, mps or meta. Raises UserError if it is unknown or the machine has no such device:
    a device that somebody named is never silently replaced.
    """
    name = name or os.environ.get("DREAMER_DEVICE")
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdigit()):
        raise UserError(f"no device {name!r}{did_you_mean(kind, DEVICES)}; there are {', '.join(DEVICES)}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: this machine or this torch ({torch.__version__}) has no CUDA; use cpu")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UserError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA device(s), from cuda:0")
    if kind == "mps" and not _has_mps():
        raise UserError("device 'mps': this machine has no Apple GPU that torch can use; use cpu")
    return torch.device(name)


DEVICES = ("cpu", "cuda", "mps", "meta")


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_threads(threads: int = 1, fast_products: bool = False) -> None:
    """Use so many CPU threads; for the small nets of the course one is often fastest.

    ``fast_products`` lets torch hand float32 matrix products to oneDNN (``set_float32_matmul_precision("medium")``),
    which on some CPUs halves the time of large ones at an error of 1e-6. It does not pay for nets of 96 units, and on
    CPUs with AMX the same switch means bfloat16, with errors of 1e-2, so that it is left off there. torch lets the
    float32 products of a CUDA device use TF32 by the same switch.
    """
    torch.set_num_threads(threads)
    fast_products = fast_products and not torch.cpu._is_amx_tile_supported()
    torch.set_float32_matmul_precision("medium" if fast_products else "highest")
    keep_freed_memory()


def fast_products_pay(units: int) -> bool:
    """Whether nets of so many units have products so large that :func:`set_threads` should let oneDNN have them."""
    return units >= 256


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor. By default glibc gives large blocks back to the system
    and gets them again page by page, which costs more than the arithmetic of an element-wise operation."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 2**30)
    mallopt(m_trim_threshold, 2**31 - 1)


def precision(device: torch.device, name: str | None = None) -> contextlib.AbstractContextManager[object]:
    """The context that the nets run in: ``float32``, or ``bfloat16`` for automatic mixed precision.

    Parameters, losses, logits and distributions stay float32. The default is bfloat16 on CUDA devices that compute
    in it (not on a T4, which only imitates it), float32 elsewhere. Raises UserError for another name.
    """
    if name is None:
        name = "bfloat16" if _native_bfloat16(device) else "float32"
    if name not in ("float32", "bfloat16"):
        raise UserError(f"no precision {name!r}; there are float32, bfloat16")
    if name == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside of :func:`precision`: the context that gradients are computed in, each with the precision of its value."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def _native_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def new_generator(device: torch.device, seed: int) -> torch.Generator:
    """Random numbers of one's own on a device. The device ``meta`` has no values, so any will do there."""
    return torch.Generator("cpu" if device.type == "meta" else device).manual_seed(seed)


class DrawingFrom(TorchFunctionMode):
    """Inside, what torch draws in this thread without naming a generator comes from this one.

    For the making of nets, whose initialisers take none. Where time matters, generators are handed on instead.
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        takes_one = "generator" in kwargs or getattr(func, "__name__", "") in DRAWS  # the former: torch.nn.init
        if takes_one and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


DRAWS = {
    "rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli", "poisson", "uniform_", "normal_",
    "random_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_",
}  # fmt: skip
"""Functions and methods of torch that take a generator."""


def check_memory(needed: int, what: str, setting: str) -> None:
    """Raise UserError if so many bytes are more than three quarters of this machine's memory."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return
    if needed > 0.75 * memory:
        raise UserError(
            f"{what} would take {needed / 1e9:.1f} GB when full, and this machine has {memory / 1e9:.1f} GB; "
            f"choose a smaller {setting}"
        )
