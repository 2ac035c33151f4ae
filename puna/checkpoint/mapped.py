"""Arrays and tensors that are views of a file: read by the system when they are touched.

Each call maps its own region, so that the pages of a tensor leave memory as soon as the tensor is
gone. The mapping is private: writing to such a tensor changes memory, never the file.
"""

import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor


def map_array(path: Path, offset: int, count: int) -> "NDArray[np.uint8]":
    """Return `count` bytes of a file from `offset` on as an array that is not yet read."""
    if count == 0:
        return np.empty(0, dtype=np.uint8)
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        region = mmap.mmap(
            file.fileno(), offset - start + count, access=mmap.ACCESS_COPY, offset=start
        )
    return np.frombuffer(region, dtype=np.uint8, count=count, offset=offset - start)


def map_typed(
    path: Path, offset: int, shape: tuple[int, ...], dtype: Any
) -> "np.ndarray[Any, Any]":
    """Return an array of a file without reading it; copied only where its offset is not aligned."""
    kind = np.dtype(dtype)
    region = map_array(path, offset, int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
    if offset % kind.itemsize:
        region = region.copy()
    array: np.ndarray[Any, Any] = region.view(kind).reshape(shape)
    return array


def read_ahead(path: Path) -> None:
    """Have the system read a file from now on, while the processor does something else."""
    if hasattr(os, "posix_fadvise"):  # not on every system; elsewhere it is read when it is touched
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


def map_bytes(path: Path, offset: int, count: int) -> "Tensor":
    """Return `count` bytes of a file from `offset` on as a uint8 tensor that is not yet read."""
    import torch

    return torch.from_numpy(map_array(path, offset, count))


def map_tensor(path: Path, offset: int, shape: tuple[int, ...], dtype: "torch.dtype") -> "Tensor":
    """Return a tensor of a file without reading it; copied only where its offset is not aligned."""
    count = dtype.itemsize
    for size in shape:
        count *= size
    region = map_bytes(path, offset, count)
    if offset % dtype.itemsize:
        region = region.clone()
    return region.view(dtype).view(shape)
