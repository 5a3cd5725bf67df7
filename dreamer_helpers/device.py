"""The one place that knows about hardware: which device, which precision, how many threads, seeds, compilation."""

from __future__ import annotations

import contextlib
import os
import random
import warnings

import numpy as np
import torch

from dreamer_helpers import fast
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


def set_threads(threads: int = 1, fast_products: bool | None = None) -> None:
    """Use so many CPU threads; for the small nets of the course one is often fastest.

    ``fast_products`` lets torch hand float32 matrix products to oneDNN (``set_float32_matmul_precision("medium")``),
    which can more than halve their time at an error of 1e-6. On CPUs with AMX the same switch means bfloat16, with
    errors of 1e-2, so that the default is on elsewhere and off there. torch lets the float32 products of a CUDA device
    use TF32 by the same switch.
    """
    torch.set_num_threads(threads)
    if fast_products is None:
        fast_products = not torch.cpu._is_amx_tile_supported()
    torch.set_float32_matmul_precision("medium" if fast_products else "highest")
    fast.products["onednn"] = fast_products
    fast.keep_freed_memory()


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


def execution(name: str, device: torch.device) -> str:
    """How a gradient step is run: ``eager``, ``compile`` (by torch.compile) or ``graph`` (:class:`fast.RecordedStep`).

    A graph takes a CUDA device; elsewhere a warning says so and the step runs eagerly. Raises UserError for another
    name.
    """
    if name not in EXECUTIONS:
        raise UserError(f"no execution {name!r}{did_you_mean(name, EXECUTIONS)}; there are {', '.join(EXECUTIONS)}")
    if name == "graph" and device.type != "cuda":
        warnings.warn(f"execution 'graph' needs a CUDA device, not {device.type}; going on without", stacklevel=2)
        return "eager"
    return name


EXECUTIONS = ("eager", "compile", "graph")


def random_state(device: torch.device) -> torch.Tensor | None:
    """The state of a CUDA device's random numbers, None for others: the CPU's torch keeps apart, MPS's are not kept."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(device: torch.device, state: torch.Tensor | None) -> None:
    """Inverse of :func:`random_state`; a state from another kind of device is left aside."""
    if device.type == "cuda" and state is not None:
        torch.cuda.set_rng_state(state, device)


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
