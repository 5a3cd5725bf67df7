"""Speed that is no part of the algorithm: the same numbers in less time. Twins of readable forms, and tested to be.

What was measured stands beside it; what is for GPUs was not. S1 is a step of 16 sequences of 64 with 1,024 dreams and
nets of 256 units, as in ``tests/benchmarks``. Nothing here needs to be read to understand DreamerV3.
"""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

# ------------------------------------------------------------------------------------------ matrix products


def block_product(x: Tensor, weight: Tensor) -> Tensor:
    """(N, inputs) times a block-diagonal matrix, given as its blocks (g, inputs/g, outputs/g): (N, outputs)."""
    return side_by_side(torch.bmm(in_blocks(x, len(weight)), weight))


def in_blocks(x: Tensor, count: int) -> Tensor:
    """Each row cut into blocks, blocks first, as ``torch.bmm`` takes them: (N, inputs) -> (count, N, inputs/count)."""
    return x.unflatten(-1, (count, -1)).transpose(0, 1)


def side_by_side(x: Tensor) -> Tensor:
    """Inverse of :func:`in_blocks`: (count, N, outputs/count) -> (N, outputs)."""
    return x.transpose(0, 1).flatten(1)


products = {"onednn": False, "few": 128}
"""Whether oneDNN has the float32 products (``device.set_threads``), and how many rows are few."""


def _switches(batch: Tensor) -> bool:
    return products["onednn"] and batch.device.type == "cpu" and len(batch) <= products["few"]


@contextlib.contextmanager
def few_rows(batch: Tensor) -> Iterator[None]:
    """Inside, oneDNN's products are off if a batch has so few rows that its preparations cost more than it saves.

    Measured, rows times 96 x 96: 16 rows take 19 us with it and 6 without, 256 rows 40 and 50; on another CPU 128 rows
    42 and 27, 256 rows times 192 x 96 107 and 98. In the cpu preset a step of the sequence model has 16 rows, one of
    its dreams 128; acting has one for each environment.
    """
    if not _switches(batch):
        yield
        return
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(usual)


def few_rows_backward(first: Tensor, last: Tensor) -> None:
    """:func:`few_rows` for the way back: from the arrival of the gradient of ``last`` to that of ``first``."""
    if not _switches(first) or not (first.requires_grad and last.requires_grad):
        return
    usual = torch.get_float32_matmul_precision()
    last.register_hook(lambda _: torch.set_float32_matmul_precision("highest"))
    first.register_hook(lambda _: torch.set_float32_matmul_precision(usual))


def lowered(x: Tensor) -> Tensor:
    """x in the precision that autocast multiplies with, so that several products need not each make a copy."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if kind != "meta" and torch.is_autocast_enabled(kind) else x


def many_dreams(starts: Tensor) -> bool:
    """Whether there are so many starts of dreams that the actor should rather keep its gradient while it dreams than be
    asked once more for its loss: for the way back that is more operations, each of fewer rows.

    Measured on a CPU, gradient steps with 1,024 dreams (S1): 2 to 7 % less time, by preset and precision; with 256
    dreams (the cpu preset, dreaming from all states): 7 % more.
    """
    return starts.device.type == "cpu" and len(starts) >= MANY


MANY = 512
"""Fewest dreams for which :func:`many_dreams` says yes."""


class Ones(NamedTuple):
    """Where the ones are in one-hot latents that lie side by side: ``rows`` (..., S) in 0 .. width - 1."""

    rows: Tensor
    width: int

    @classmethod
    def of(cls, stoch: Tensor) -> Ones | None:
        """The ones of latents (..., S, C), or None where a product with many zeros is faster than to look rows up."""
        latents, classes = stoch.shape[-2:]
        few = latents * classes < LOOKUP or stoch.shape[:-2].numel() < LOOKUP
        if stoch.device.type != "cpu" or torch.is_autocast_enabled("cpu") or few:
            return None
        index = torch.mv(stoch.reshape(-1, classes), torch.arange(classes, dtype=stoch.dtype))  # faster than argmax
        rows = index.long().view(-1, latents) + torch.arange(latents) * classes
        return cls(rows.view(stoch.shape[:-1]), latents * classes)

    @staticmethod
    def stack(steps: list[Ones | None]) -> Ones | None:
        """Those of steps (N, S) for a sequence of them (N, T, S)."""
        return Ones(torch.stack([step.rows for step in steps], 1), steps[0].width) if steps[0] else None


LOOKUP = 128
"""Fewest columns and rows for which :class:`Lookup` pays."""


class Lookup(torch.autograd.Function):
    """``x @ W + b`` where the last columns of x are one-hot: their part is a sum of rows of the weights, one a latent.

    Measured on a CPU, 15,360 rows times 512 x 256, 16 latents of 16 classes: 12 ms instead of 19; with 32 of 32, 14
    instead of 48. Backwards the plain products are as fast.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, width: int) -> Tensor:
        # (N, inputs), (N, S), (outputs, inputs), (outputs) -> (N, outputs)
        ctx.save_for_backward(x, weight)
        dense = x.shape[1] - width
        looked_up = F.embedding_bag(rows, weight[:, dense:].t().contiguous(), mode="sum")
        looked_up = looked_up if bias is None else looked_up.add_(bias)
        return looked_up.addmm_(x[:, :dense], weight[:, :dense].t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, _, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            grad @ weight if to_x else None, None, grad.t() @ x if to_weight else None,
            grad.sum(0) if to_bias else None, None,
        )  # fmt: skip


# --------------------------------------------------------------------------------------- norms and memory


def rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    """``F.rms_norm`` over the last axis; on a CPU, where that is seven operations, in four."""
    if x.device.type != "cpu":
        return F.rms_norm(x, scale.shape, scale, eps)
    return x / root_mean_square(x, eps) * scale


def root_mean_square(x: Tensor, eps: float) -> Tensor:
    """``sqrt(mean(x²) + eps)`` over the last axis, which stays: (..., F) -> (..., 1).

    By the length of a vector, which takes one pass over x and no memory of its size. Measured on a CPU, gradient steps:
    1 % less time in the cpu preset, 3 % in the default at the size of S1.
    """
    root = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
    return torch.hypot(root, torch.full((), eps**0.5, dtype=x.dtype, device=x.device))


class RMSNormSiLU(torch.autograd.Function):
    """``silu(x / rms * scale)`` with its gradient written out.

    A third of the time of the RMS norm under autograd, and one tensor fewer is kept for the way back: what goes into
    SiLU is computed again. With ``n = x / rms``: d x = (g - n mean(g n)) / rms, where g = scale d silu.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        rms = root_mean_square(x, eps)
        normed = x / rms
        ctx.save_for_backward(normed, rms, scale)
        return F.silu(normed * scale, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, rms, scale = ctx.saved_tensors
        grad = _silu_backward_(grad, normed * scale)
        of_scale = grad * normed
        shared = (of_scale @ scale).div_(-len(scale)).unsqueeze(-1)
        return grad.mul_(scale).addcmul_(normed, shared).div_(rms), of_scale.flatten(0, -2).sum(0), None


class LayerNormSiLU(torch.autograd.Function):
    """``silu(layer_norm(x))``, keeping one tensor fewer for the way back: what goes into SiLU is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        normed, mean, inverse = torch.native_layer_norm(x, scale.shape, scale, shift, eps)
        ctx.save_for_backward(x, mean, inverse, scale, shift)
        ctx.eps = eps
        return F.silu(normed, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, shift = ctx.saved_tensors
        normed = torch.native_layer_norm(x, scale.shape, scale, shift, ctx.eps)[0]
        grad = _silu_backward_(grad, normed)
        wanted = list(ctx.needs_input_grad[:3])
        back = torch.ops.aten.native_layer_norm_backward
        return *back(grad, x, scale.shape, mean, inverse, scale, shift, wanted), None


def _silu_backward_(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of ``silu(x)`` for x, written over x."""
    return torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=x)


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


# ----------------------------------------------------------------------------------------- whole steps on a GPU


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as torch.compile makes it. If that fails, a warning says why, and it goes on as it is.

    For GPUs, where its gain has not been measured; on a CPU it did not pay.
    """
    forms = [torch.compile(function, dynamic=False), function]

    def call(*arguments: Any) -> Any:
        try:
            return forms[0](*arguments)
        except Exception as error:
            if len(forms) == 1:
                raise
            warnings.warn(f"torch.compile failed, going on without: {str(error).splitlines()[0]}", stacklevel=2)
            del forms[0]
            return call(*arguments)

    return call


class RecordedStep:
    """A gradient step recorded as one CUDA graph: the host then sends one command in place of thousands of kernels.

    ``step`` is a function of a batch {key: tensor} that gives tensors (tuples and dicts of them) and never makes the
    host wait. The first calls run as they are, the next is recorded, and all later ones are played back with the new
    batch, and with the numbers that Python held when it was recorded: the learning rate, say. Where recording fails, a
    warning says why, and the step goes on as it is. Its gain has not been measured.
    """

    WARM_UP = 3

    def __init__(self, step: Callable[[dict[str, Tensor]], Any], record: Callable[..., Any] | None = None):
        self.step, self.record = step, record or record_cuda
        self.calls, self.play = 0, None

    def __call__(self, batch: dict[str, Tensor]) -> Any:
        self.calls += 1
        if self.calls == self.WARM_UP + 1:
            self._prepare(batch)
        if self.play is None:
            return self.step(batch)
        for key, value in batch.items():
            self.inputs[key].copy_(value, non_blocking=True)
        self.play()
        return tree_map(torch.clone, self.results)  # the next call writes where these are

    def _prepare(self, batch: dict[str, Tensor]) -> None:
        self.inputs = {key: value.clone() for key, value in batch.items()}
        try:
            self.play, self.results = self.record(lambda: self.step(self.inputs))
        except (RuntimeError, AssertionError) as error:
            warnings.warn(f"the step cannot be recorded and goes on as it is: {error}", stacklevel=3)


def record_cuda(work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Record what ``work`` would do on the GPU: a function that does it, and the tensors that it writes to."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    return graph.replay, results
