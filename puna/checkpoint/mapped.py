"""Tensors that are views of a file: mapped into memory, read by the system when they are touched.

Each call maps its own region, so that the pages of a tensor leave memory as soon as the tensor is
gone. The mapping is private: writing to such a tensor changes memory, never the file.
"""

import mmap
from pathlib import Path

import torch
from torch import Tensor


def map_bytes(path: Path, offset: int, count: int) -> Tensor:
    """Return `count` bytes of a file from `offset` on as a uint8 tensor that is not yet read."""
    if count == 0:
        return torch.empty(0, dtype=torch.uint8)
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        region = mmap.mmap(
            file.fileno(), offset - start + count, access=mmap.ACCESS_COPY, offset=start
        )
    return torch.frombuffer(region, dtype=torch.uint8, count=count, offset=offset - start)


def map_tensor(path: Path, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor of a file without reading it; copied only where its offset is not aligned."""
    count = dtype.itemsize
    for size in shape:
        count *= size
    region = map_bytes(path, offset, count)
    if offset % dtype.itemsize:
        region = region.clone()
    return region.view(dtype).view(shape)
