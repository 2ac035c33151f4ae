"""A weight matrix as the native kernels read it, in numpy: views of the file that it lies in.

`puna.ops.lowbit.Packed` is the same in torch and says how the codes lie; both hand the kernels the
same eight numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from puna.ops import native

Array = NDArray[Any]
Format = Literal["f32", "bf16", "int8", "int4"]
NUMBERS: Mapping[str, int] = {"f32": 0, "bf16": 1, "int8": 2, "int4": 3}  # as native/kernels.h


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matrix:
    """One weight matrix [out, inner]; bfloat16 lies in words of 16 bits."""

    format: Format
    out: int
    inner: int
    group: int  # inputs that share a scale; `inner` or more: one scale an output
    codes: Array
    scales: Array | None = None
    zeros: Array | None = None
    scale_unit: float = 1.0

    def fields(self) -> tuple[int, int, int, int, int, int, int, float]:
        """Return what native/module.cpp takes; the caller keeps this object alive."""
        parts = (self.codes, self.scales, self.zeros)
        codes, scales, zeros = (native.array_address(part) for part in parts)
        number = NUMBERS[self.format]
        return number, self.out, self.inner, self.group, codes, scales, zeros, self.scale_unit
