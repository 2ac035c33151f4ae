"""One safetensors file: its header checked and listed, its tensors mapped when they are asked for.

Hugging Face folders and shards of Meta's layout are made of these. Tensors are mapped, one mapping
each, so that a tensor that has been converted leaves memory.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from puna.checkpoint.mapped import map_typed
from puna.checkpoint.stored import StoredTensor
from puna.errors import FormatError, NotFoundError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
LOW_BITS = {
    "F8_E4M3": 1,
    "I8": 1,
    "U8": 1,
    "I32": 4,
    "I64": 8,
}  # that quantized matrices are made of
# As numpy and as torch have it; numpy knows neither bfloat16 nor e4m3 and holds their bits.
_KINDS: Mapping[str, tuple[Any, str]] = {
    "F64": (np.float64, "float64"),
    "F32": (np.float32, "float32"),
    "F16": (np.float16, "float16"),
    "BF16": (np.uint16, "bfloat16"),
    "F8_E4M3": (np.uint8, "float8_e4m3fn"),
    "I8": (np.int8, "int8"),
    "U8": (np.uint8, "uint8"),
    "I32": (np.int32, "int32"),
    "I64": (np.int64, "int64"),
}
NO_WEIGHTS = re.compile(r".*rotary_emb\.inv_freq")  # a table that old files carry along


def read_shard(path: Path, dtypes: Mapping[str, int] = FLOATS) -> dict[str, StoredTensor]:
    """List the tensors of one safetensors file; only floating-point ones are known by themselves.

    Args:
        dtypes: that may occur, with their bytes.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
        heads = _header(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; the model folder is incomplete.") from error
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise FormatError(
            f"{path}: this is not a whole safetensors file ({error}). Download it again."
        ) from error
    tensors = {}
    for name in names:
        shape, dtype, begin = heads[name]
        if dtype not in dtypes and not NO_WEIGHTS.fullmatch(name):
            raise FormatError(
                f"{path}: the tensor '{name}' is stored as {dtype}; "
                f"{', '.join(dtypes)} are read. Choose an unquantized checkpoint."
            )
        count = dtypes.get(dtype, 1)
        for size in shape:
            count *= size
        array = partial(_array, path, name, begin, shape, dtype)
        read = partial(_read, array, dtype)
        tensors[name] = StoredTensor(
            shape=shape, dtype=dtype, stored_bytes=count, read=read, array=array
        )
    return tensors


def _header(path: Path) -> dict[str, tuple[tuple[int, ...], str, int]]:
    """Return shape, dtype and first byte of each tensor of a file that safetensors has checked.

    The library would read its header anew for every tensor: half a second for a model of 16 layers.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(size))
    table.pop("__metadata__", None)
    return {
        name: (tuple(row["shape"]), row["dtype"], 8 + size + row["data_offsets"][0])
        for name, row in table.items()
    }


def _array(
    path: Path, name: str, begin: int, shape: tuple[int, ...], stored: str
) -> "np.ndarray[Any, Any]":
    try:
        return map_typed(path, begin, shape, _KINDS[stored][0])
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{path}: '{name}' cannot be read ({error}). Is it still there?"
        ) from error


def _read(
    array: "Callable[[], np.ndarray[Any, Any]]", stored: str, dtype: "torch.dtype | None"
) -> "Tensor":
    import torch

    tensor = torch.from_numpy(array()).view(getattr(torch, _KINDS[stored][1]))
    return tensor if dtype is None else tensor.to(dtype)
