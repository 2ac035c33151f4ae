"""The files of a Meta folder: model-parallel shards, each a flat table of tensors.

`.pth` files are pickles. They are read with PyTorch's restricted unpickler, which builds tensors
and nothing else, and mapped into memory; a file that asks for more is refused, its code never runs.
"""

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from puna.checkpoint.safetensors_file import read_shard
from puna.errors import FormatError

_FLOATS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}

# Tensors of one byte, which mean something only beside scales (puna.checkpoint.meta_fp8).
_ONE_BYTE = {torch.float8_e4m3fn: "F8_E4M3", torch.int8: "I8", torch.uint8: "U8"}

# What damaged bytes make the unpickler and the archive reader raise.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class Shard(Protocol):
    """One file of a Meta folder."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped."""


def open_shard(path: Path, *, is_fp8: bool = False) -> Shard:
    """Open one `consolidated.NN.pth` or `.safetensors`.

    Args:
        is_fp8: scales lie beside the shards, so tensors of one byte may occur.
    """
    kind = PickledShard if path.suffix == ".pth" else SafetensorsShard
    return kind(path, is_fp8=is_fp8)


class SafetensorsShard:
    """A shard in safetensors."""

    def __init__(self, path: Path, *, is_fp8: bool = False) -> None:
        dtypes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
        self._tensors = read_shard(
            path, dtypes | dict.fromkeys(_ONE_BYTE.values(), 1) if is_fp8 else dtypes
        )
        self.shapes = {name: stored.shape for name, stored in self._tensors.items()}
        self.dtypes = {name: stored.dtype for name, stored in self._tensors.items()}

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped."""
        return self._tensors[name].read(None)


class PickledShard:
    """A shard as `torch.save` writes it.

    The file is mapped anew for each layer: tensors that were copied elsewhere then leave memory.
    """

    def __init__(self, path: Path, *, is_fp8: bool = False) -> None:
        self._path = path
        self._dtypes = _FLOATS | _ONE_BYTE if is_fp8 else _FLOATS
        tensors = load_pickle(path, self._dtypes)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.dtypes = {name: self._dtypes[tensor.dtype] for name, tensor in tensors.items()}
        self._group = ""
        self._tensors: dict[str, Tensor] = {}

    def read(self, name: str) -> Tensor:
        """Return one tensor, mapped."""
        group = ".".join(name.split(".")[:2])
        if group != self._group:
            self._tensors = {}  # the old mapping goes before the new one comes
            loaded = load_pickle(self._path, self._dtypes)
            self._tensors = {n: t for n, t in loaded.items() if n.startswith(f"{group}.")}
            self._tensors |= {name: loaded[name]}
            self._group = group
        return self._tensors[name]


def load_pickle(
    path: Path, dtypes: Mapping[torch.dtype, str] = MappingProxyType(_FLOATS)
) -> dict[str, Tensor]:
    """Map a `.pth` file of plain tensors.

    Args:
        dtypes: that may occur.

    Raises:
        FormatError: it is damaged, holds anything but tensors, or would run code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what is loaded is checked
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise FormatError(
            f"{path}: this pickle asks for more than plain tensors, and a pickle can run code; it "
            "was refused unread. Get the weights as safetensors, or from a source you trust as a "
            "plain table of tensors."
        ) from error
    except _DAMAGE as error:
        raise FormatError(
            f"{path}: this is not a whole PyTorch archive ({_first_line(error)}). Download it "
            "again."
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise FormatError(
            f"{path}: a table of named tensors is expected; something else was found."
        )
    for name, tensor in loaded.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise FormatError(f"{path}: '{name}' is no plain tensor; only plain tensors are read.")
        if tensor.dtype not in dtypes:
            raise FormatError(
                f"{path}: the tensor '{name}' is stored as {tensor.dtype}; "
                f"{', '.join(dtypes.values())} are read. Choose an unquantized checkpoint."
            )
    return loaded


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
