"""Matrices of few bits as the kernels read them, so that a folder runs from where it lies.

Each is a tensor of panels, one of scales, perhaps one of zeros (puna.ops.lowbit says how they
lie), and a form of eight numbers: bits, rows, columns, group, the exponent of the scales' unit, and
three zeros. Loading maps the file and copies nothing. The layout is puna's own;
puna.checkpoint.compressed keeps the one that other programs share.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from puna.checkpoint.names import Place
from puna.checkpoint.stored import Low, StoredTensor
from puna.errors import ConfigError, FormatError
from puna.ops.lowbit import Format, Packed
from puna.quant.fp8 import Fp8Weight
from puna.quant.linear import packed_of

METHOD = "puna_panels"  # in `quantization_config`
VERSION = 1
_FORM, _PANELS, _SCALES, _ZEROS = "form", "panels", "panel_scales", "panel_zeros"
_BITS: dict[int, Format] = {4: "int4", 8: "int8"}
_ENDLESS = 0x7C00  # bits of float16 from which on there are infinities and NaN
_UNITS = 126  # exponents of float32's whole numbers reach so far


def panel_rules(left: list[str]) -> dict[str, Any]:
    """Return `quantization_config` of such a folder.

    Args:
        left: modules that keep their bits.
    """
    return {"quant_method": METHOD, "version": VERSION, "modules_to_not_convert": left}


def panel_parts(low: Low) -> dict[str, Tensor]:
    """Return the tensors of one matrix by the ends of their names.

    Raises:
        ConfigError: the matrix is fp8, which has no panels.
    """
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
    bits, rows, columns, group, exponent, *rest = parts[_FORM].read(None).tolist()
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
    low = partial(_packed, parts, _BITS[bits], group, 2.0**exponent, spot)
    joined = StoredTensor(
        shape=place.shape,
        dtype=_BITS[bits].upper(),
        stored_bytes=sum(part.stored_bytes for part in parts.values()),
        read=lambda dtype: low().dequantize().to(dtype or torch.float32),
        low=low,
    )
    found[place.name] = joined
    return joined


def _packed(
    parts: dict[str, StoredTensor], form: Format, group: int, unit: float, spot: str
) -> Packed:
    """Map the matrix; its scales and zeros are read, to see that they are numbers."""
    rows, columns = parts[_FORM].read(None).tolist()[1:3]
    for name in parts.keys() & {_SCALES, _ZEROS}:
        if int((parts[name].read(None).view(torch.int16) & 0x7FFF).max()) >= _ENDLESS:
            raise FormatError(
                f"{spot}: its {name} hold NaN or infinities; finite numbers are expected. The file "
                "is damaged: quantize again."
            )
    return Packed(
        format=form,
        out=rows,
        inner=columns,
        group=group,
        codes=parts[_PANELS].read(None),
        scales=parts[_SCALES].read(None),
        zeros=parts[_ZEROS].read(None) if _ZEROS in parts else None,
        scale_unit=unit,
    )
