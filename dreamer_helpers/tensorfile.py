"""Files of tensors with a JSON header, in the safetensors format: written whole or not at all, read piece by piece.

The library writes them. It reads by mapping a file into memory, where each page that was touched counts until the file
is closed; here the bytes go straight to where they are wanted, so that a replay is never held twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dreamer_helpers.errors import UserError

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


class Outline(NamedTuple):
    """What a tensor is but for its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a file beside its place first, then rename it, so that the old one or the new one is there, whole.

    Raises UserError if it cannot be written; the old one is then still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, {"header": json.dumps(header)})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old one's place, should the power fail
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"cannot write the checkpoint {path}: {error}") from None
    with contextlib.suppress(OSError):  # some systems open no folders; there the name is on the disk a little later
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class TensorFile:
    """A file that is open for reading: ``header`` at once, tensors when they are asked for.

    Raises UserError if there is none, or if it is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"no checkpoint at {path}")
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        try:
            self._read_header()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.close()
            raise UserError(f"{path} is damaged or no checkpoint: {error}") from None

    def _read_header(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("its header is incomplete")
        entries = json.loads(self._file.read(length))
        self.header = json.loads(dict(entries.pop("__metadata__", {})).get("header", "{}"))
        self._outlines, self._begins = {}, {}
        for name, entry in entries.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            outline = Outline(tuple(entry["shape"]), DTYPES[entry["dtype"]])
            if begin < 8 + length or end - begin != outline.nbytes or end > size:
                raise ValueError(f"{name} is incomplete")
            self._outlines[name], self._begins[name] = outline, begin

    def names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._outlines)

    def outline(self, name: str) -> Outline:
        """Shape and dtype of a tensor."""
        if name not in self._outlines:
            raise UserError(f"{self.path} is damaged: it has no {name}")
        return self._outlines[name]

    def read(self, name: str) -> Tensor:
        """A tensor, on the CPU."""
        tensor = torch.empty(self.outline(name).shape, dtype=self.outline(name).dtype)
        self.read_into(name, [tensor.reshape(-1).view(torch.uint8).numpy()])
        return tensor

    def read_into(self, name: str, pieces: list[np.ndarray]) -> None:
        """Fill contiguous arrays, one after the other, with the bytes of a tensor; it must have as many as they."""
        if sum(piece.nbytes for piece in pieces) != self.outline(name).nbytes:
            raise UserError(f"{self.path} is damaged: {name} has another size than it should")
        try:
            self._file.seek(self._begins[name])
            for piece in pieces:
                if self._file.readinto(flat(piece)) != piece.nbytes:
                    raise UserError(f"{self.path} is damaged: {name} is incomplete")
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file. It can be closed more than once."""
        self._file.close()


def flat(array: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array, in the same memory."""
    return array.reshape(-1).view(np.uint8)


def pack(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """A tree of dicts, lists and plain values as JSON can hold it; its tensors and arrays go to ``tensors``."""
    if isinstance(value, (Tensor, np.ndarray)):
        tensors[path] = torch.as_tensor(value).detach().cpu().contiguous()
        return {"tensor" if isinstance(value, Tensor) else "array": path}
    if isinstance(value, dict):
        return {"dict": [[key, pack(entry, tensors, f"{path}/{key}")] for key, entry in value.items()]}
    if isinstance(value, (list, tuple)):
        return [pack(entry, tensors, f"{path}/{i}") for i, entry in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def unpack(value: Any, read: Callable[[str], Any]) -> Any:
    """Inverse of :func:`pack`, with what ``read`` gives for the name of a tensor; tuples come back as lists."""
    if isinstance(value, list):
        return [unpack(entry, read) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "dict":
        return {key: unpack(entry, read) for key, entry in inner}
    found = read(inner)
    return found.numpy() if kind == "array" and isinstance(found, Tensor) else found
