"""A GPU on a machine that has none: tensors that claim to be there, and an error where the CPU meets them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
DEVICE, IS_CUDA = Tensor.device.__get__, Tensor.is_cuda.__get__  # type: ignore[attr-defined]


class WrongDevice(RuntimeError):
    """Tensors of two devices meet, as a GPU would refuse."""


class OnGpu(TorchFunctionMode):
    """Inside, the tensors that :meth:`put` marked seem to be on a GPU, and the values are there as they would be.

    A tensor that is made without a device stands on the CPU; where the two meet, :class:`WrongDevice` is raised, as a
    real GPU would do. Unlike on the device ``meta``, values can be read, so that masks and ``item`` work.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        """Whether something was seen in which marks are lost: ``torch.vmap`` and its like."""

    LEAVES = ("cpu", "tolist", "item", "numpy", "tensor", "__float__", "__int__", "__bool__", "__index__", "__len__")

    @staticmethod
    def put(tensor: Tensor) -> Tensor:
        """Mark a tensor as one on the GPU."""
        tensor._on_gpu = True  # type: ignore[attr-defined]
        return tensor

    @staticmethod
    def has(tensor: Any) -> bool:
        """Whether a tensor is marked."""
        return getattr(tensor, "_on_gpu", False)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func == DEVICE:
            return GPU if self.has(args[0]) else torch.device("cpu")
        if func == IS_CUDA:
            return self.has(args[0])
        if name in ("numpy", "__array__") and self.has(args[0]):
            raise WrongDevice("NumPy cannot reach a tensor on a GPU; keep to torch")
        target = self._target(name, args, kwargs)
        tensors = _tensors((args, kwargs))
        self.lost = self.lost or any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))
        if name not in ("to", "copy_", "cpu", "cuda", "tensor", "set_device"):
            self._meet(name, args, tensors)
        result = func(*_replaced(args), **_replaced(kwargs))
        there = target == GPU if target is not None else any(map(self.has, tensors)) and name not in self.LEAVES
        if name == "copy_":
            there = self.has(args[0])
        elif isinstance(result, Tensor) and any(result is one for one in tensors) and there != self.has(result):
            result = result.clone()  # `x.cpu()` gives x itself where there is no GPU
        if there:
            for tensor in _tensors(result):
                self.put(tensor)
        return result

    def _target(self, name: str, args: tuple, kwargs: dict[str, Any]) -> torch.device | None:
        """The device that a call asks for."""
        asked = [kwargs.get("device"), *(args[1:] if name == "to" else ())]
        if name == "cuda":
            return GPU
        for one in asked:
            if isinstance(one, torch.device) or (isinstance(one, str) and one.split(":")[0] in ("cpu", "cuda")):
                return GPU if torch.device(one).type == "cuda" else torch.device("cpu")
            if name == "to" and isinstance(one, Tensor):
                return GPU if self.has(one) else torch.device("cpu")
        return None

    def _meet(self, name: str, args: tuple, tensors: list[Tensor]) -> None:
        strangers = [tensor for tensor in tensors if not self.has(tensor) and tensor.ndim > 0]
        if not strangers or len(strangers) == len([t for t in tensors if t.ndim > 0 or self.has(t)]):
            return
        if name in ("__getitem__", "__setitem__") and self.has(args[0]):
            strangers = [tensor for tensor in strangers if tensor.dtype.is_floating_point]  # indices may be on the CPU
        if strangers:
            raise WrongDevice(
                "tensors on two devices meet; the one that is made inside your function stands on the CPU: write "
                "`device=x.device` where you make it"
            )


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [tensor for entry in value for tensor in _tensors(entry)]


def _replaced(value: Any) -> Any:
    """The same arguments with the CPU for the GPU."""
    if value == GPU if isinstance(value, torch.device) else isinstance(value, str) and value.split(":")[0] == "cuda":
        return torch.device("cpu")
    if type(value) in (tuple, list):
        return type(value)(_replaced(entry) for entry in value)
    return {key: _replaced(entry) for key, entry in value.items()} if type(value) is dict else value
