"""Matrices of few bits as the kernels read them, so that a folder runs from where it lies.

Each is a tensor of panels, one of scales, perhaps one of zeros (puna.ops.lowbit says how they
lie), and a form of eight numbers: bits, rows, columns, group, the exponent of the scales' unit, and
three zeros. Loading maps the file and copies nothing. The layout is puna's own;
puna.checkpoint.compressed keeps the one that other programs share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from puna.checkpoint.names import Place
from puna.checkpoint.stored import Low, StoredTensor
from puna.errors import ConfigError, FormatError
from puna.ops.matrix import Array, Format, Matrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from puna.ops.lowbit import Packed

METHOD = "puna_panels"  # in `quantization_config`
VERSION = 1
_FORM, _PANELS, _SCALES, _ZEROS = "form", "panels", "panel_scales", "panel_zeros"
_BITS: dict[int, Format] = {4: "int4", 8: "int8"}
_ENDLESS = 0x7C00  # bits of float16 from which on there are infinities and NaN
_CHUNK = 2**18  # numbers that a cache holds while they are looked at
_UNITS = 126  # exponents of float32's whole numbers reach so far


def panel_rules(left: list[str]) -> dict[str, Any]:
    """Return `quantization_config` of such a folder.

    Args:
        left: modules that keep their bits.
    """
    return {"quant_method": METHOD, "version": VERSION, "modules_to_not_convert": left}


def panel_parts(low: Low) -> "dict[str, Tensor]":
    """Return the tensors of one matrix by the ends of their names.

    Raises:
        ConfigError: the matrix is fp8, which has no panels.
    """
    import torch

    from puna.quant.fp8 import Fp8Weight
    from puna.quant.linear import packed_of

    if isinstance(low, Fp8Weight):
        raise ConfigError(
            "panels hold int4 and int8; fp8 was given. Choose the compressed-tensors layout."
        )
    packed = packed_of(low)
    assert packed.scales is not None
    bits = next(bits for bits, form in _BITS.items() if form == packed.format)
    exponent = int(torch.tensor(packed.scale_unit).log2())
    form = [bits, packed.out, packed.inner, packed.group, exponent, 0, 0, 0]
    parts = {_FORM: torch.tensor(form), _PANELS: packed.codes, _SCALES: packed.scales}
    if packed.zeros is not None:
        parts[_ZEROS] = packed.zeros
    return {f"weight_{name}": part for name, part in parts.items()}


def join_panels(found: dict[str, StoredTensor], place: Place, *, where: str) -> StoredTensor | None:
    """Return the matrix that several tensors of a file make up, or None where it is a plain one.

    The tensors used are taken out of `found`, the matrix under its plain name put in.
    Raises:
        FormatError: a part is missing, or of a shape that makes no such matrix.
    """
    parts = {
        name: part
        for name in (_FORM, _PANELS, _SCALES, _ZEROS)
        if (part := found.pop(f"{place.name}_{name}", None)) is not None
    }
    if not parts:
        return None
    spot = f"{where}: '{place.name}'"
    if not {_FORM, _PANELS, _SCALES} <= parts.keys() or parts[_FORM].shape != (8,):
        raise FormatError(f"{spot} has no form, no panels or no scales. The file is damaged.")
    bits, rows, columns, group, exponent, *rest = _array(parts[_FORM]).tolist()
    is_known = bits in _BITS and not any(rest) and abs(exponent) <= _UNITS
    if (rows, columns) != place.shape or not is_known or not 0 < group <= columns:
        raise FormatError(
            f"{spot}: its form says {rows} x {columns} in {bits} bits and groups of {group}; the "
            f"configuration expects {list(place.shape)}. The two do not belong together."
        )
    panels, words = -(-rows // 16), -(-columns // 8) * (1 if bits == 4 else 2)
    scales = (panels, -(-columns // group), 16)
    expected = {_PANELS: (panels, words, 16, 4), _SCALES: scales, _ZEROS: scales}
    kinds = {_PANELS: "U8", _SCALES: "F16", _ZEROS: "F16"}
    for name, part in parts.items():
        if name != _FORM and (part.shape != expected[name] or part.dtype != kinds[name]):
            raise FormatError(
                f"{spot}: its {name} are {part.dtype} {list(part.shape)}; {kinds[name]} "
                f"{list(expected[name])} are expected. The file is damaged."
            )
    matrix = Panels(
        parts=parts, format=_BITS[bits], rows=rows, columns=columns, group=group,
        unit=2.0**exponent, where=spot,
    )  # fmt: skip
    joined = StoredTensor(
        shape=place.shape,
        dtype=_BITS[bits].upper(),
        stored_bytes=sum(part.stored_bytes for part in parts.values()),
        read=matrix.widened,
        low=matrix.packed,
        panels=matrix,
    )
    found[place.name] = joined
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """A matrix of a file in panels; each look at it maps it anew."""

    parts: Mapping[str, StoredTensor]
    format: Format
    rows: int
    columns: int
    group: int
    unit: float  # of the scales
    where: str

    def matrix(self) -> Matrix:
        """Map the matrix; its scales and zeros are read, to see that they are numbers.

        Raises:
            FormatError: one of them is none.
        """
        arrays = {name: _array(part) for name, part in self.parts.items()}
        for name in arrays.keys() & {_SCALES, _ZEROS}:
            if not _is_finite(arrays[name]):
                raise FormatError(
                    f"{self.where}: its {name} hold NaN or infinities; finite numbers are "
                    "expected. The file is damaged: quantize again."
                )
        return Matrix(
            format=self.format,
            out=self.rows,
            inner=self.columns,
            group=self.group,
            codes=arrays[_PANELS],
            scales=arrays[_SCALES],
            zeros=arrays.get(_ZEROS),
            scale_unit=self.unit,
        )

    def packed(self) -> "Packed":
        """Map the matrix as torch has it; as `matrix`."""
        import torch

        from puna.ops.lowbit import Packed

        matrix = self.matrix()
        assert matrix.scales is not None
        return Packed(
            format=matrix.format,
            out=matrix.out,
            inner=matrix.inner,
            group=matrix.group,
            codes=torch.from_numpy(matrix.codes),
            scales=torch.from_numpy(matrix.scales),
            zeros=None if matrix.zeros is None else torch.from_numpy(matrix.zeros),
            scale_unit=matrix.scale_unit,
        )

    def widened(self, dtype: "torch.dtype | None") -> "Tensor":
        """Return the matrix in wide numbers, float32 where none are named."""
        import torch

        return self.packed().dequantize().to(dtype or torch.float32)


def _array(part: StoredTensor) -> Array:
    assert part.array is not None, "a part of a file is mapped as it lies"
    return part.array()


def _is_finite(halves: Array) -> bool:
    """Say whether there is no NaN and no infinity among float16 numbers."""
    bits = halves.view(np.int16).reshape(-1)
    chunks = (bits[at : at + _CHUNK] for at in range(0, len(bits), _CHUNK))
    return all(int((chunk & 0x7FFF).max()) < _ENDLESS for chunk in chunks)
