"""Matrices of few bits in safetensors: which tensors make one up, packed and unpacked.

int4 and int8 lie as compressed-tensors packs them (`weight_packed`, `weight_scale`,
`weight_zero_point`, `weight_shape`): codes without sign, eight or four to a 32-bit word, the first
column lowest; zeros packed along the rows. fp8 lies as e4m3 with a scale for each row, under the
names that compressed-tensors and FBGEMM share. puna.checkpoint.quantization says the same in
`config.json`. Source: compressed-tensors' pack_quantized and naive_quantized compressors.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from puna.checkpoint.names import Place
from puna.checkpoint.quantization import Quantization
from puna.checkpoint.stored import Low, StoredTensor
from puna.errors import FormatError
from puna.quant.codes import Codes, Format
from puna.quant.fp8 import Fp8Weight
from puna.quant.words import Words, pack_words, unpack_words

# What stands beside a weight, and whether it may.
_PARTS = ("packed", "scale", "zero_point", "shape", "g_idx")


def packed_parts(low: Low) -> dict[str, Tensor]:
    """Return the tensors of one matrix by the ends of their names."""
    if isinstance(low, Fp8Weight):
        parts = {"weight": low.codes, "weight_scale": low.scales.float()}
        if low.input_scale is not None:
            parts["input_scale"] = torch.tensor([low.input_scale])
        return {name: part.cpu().contiguous() for name, part in parts.items()}
    if isinstance(low, Codes):
        words = pack_words(_unsigned(low.codes, low.format), low.format)
    else:
        words = low.words
    parts = {
        "weight_packed": words,
        "weight_scale": low.scales.bfloat16(),
        "weight_shape": torch.tensor(low.shape),
    }
    if low.zeros is not None:
        zeros = low.zeros.round().to(torch.int16)
        zeros = zeros if low.format == "int4" else zeros + 128
        words = pack_words(zeros.to(torch.uint8).T.contiguous(), low.format)
        parts["weight_zero_point"] = words.T.contiguous()
    return parts


def join(
    found: dict[str, StoredTensor], place: Place, quantization: Quantization, *, where: str
) -> StoredTensor | None:
    """Return the matrix that several tensors of a file make up, or None where it is a plain one.

    The tensors used are taken out of `found`, the matrix under its plain name put in.
    Raises:
        FormatError: a part is missing, or has a shape or a dtype that makes no matrix.
    """
    base = place.name.removesuffix("weight")
    parts = {name: found.pop(f"{base}weight_{name}", None) for name in _PARTS}
    given = {name: part for name, part in parts.items() if part is not None}
    input_scale = found.pop(f"{base}input_scale", None)
    found.pop(f"{base}input_scale_ub", None)  # FBGEMM's copy of what the configuration says
    plain = found.get(place.name)
    if not given and (plain is None or plain.dtype not in ("F8_E4M3", "I8")):
        return None
    spot = f"{where}: '{base}weight'"
    if "g_idx" in given:
        raise FormatError(
            f"{spot} reorders its columns (g_idx); columns in their own order are expected. "
            "Choose a file made without activation reordering of groups."
        )
    if "scale" not in given or len(place.shape) != 2:
        raise FormatError(f"{spot} has no weight_scale, or is no matrix. Download it again.")
    shape = (place.shape[0], place.shape[1])
    low: Callable[[], Low]
    if "packed" in given:
        form = _form(given["packed"], shape, spot)
        low, dtype = partial(_codes, given, shape, form, quantization, spot), form.upper()
    elif plain is None:
        raise FormatError(f"{spot} is missing beside its scale. Download it again.")
    else:
        given["weight"], dtype = plain, plain.dtype
        if dtype == "I8":
            low = partial(_codes, given, shape, "int8", quantization, spot)
        else:
            low = partial(_fp8, given, input_scale, shape, quantization, spot)
    extra = [] if input_scale is None else [input_scale]
    joined = StoredTensor(
        shape=place.shape,
        dtype=dtype,
        stored_bytes=sum(part.stored_bytes for part in (*given.values(), *extra)),
        read=lambda dtype: low().weight().to(dtype or torch.float32),
        low=low,
    )
    found[place.name] = joined
    return joined


def _form(packed: StoredTensor, shape: tuple[int, int], spot: str) -> Format:
    rows, columns = shape
    forms: dict[tuple[int, ...], Format] = {
        (rows, -(-columns // 4)): "int8",
        (rows, -(-columns // 8)): "int4",
    }
    if packed.shape not in forms or packed.dtype != "I32":
        raise FormatError(
            f"{spot} is packed as {packed.dtype} {list(packed.shape)}; the configuration expects "
            f"{list(shape)} in I32 {' or '.join(str(list(s)) for s in forms)}. The two do not "
            "belong together."
        )
    return forms[packed.shape]


def _codes(
    parts: Mapping[str, StoredTensor],
    shape: tuple[int, int],
    form: Format,
    quantization: Quantization,
    spot: str,
) -> Codes | Words:
    """Read one matrix of whole numbers; packed ones stay mapped words."""
    if "shape" in parts and parts["shape"].read(None).tolist() != list(shape):
        raise FormatError(f"{spot}: weight_shape is not {list(shape)}. The file is damaged.")
    scales = _scales(parts["scale"], shape[0], spot)
    group = quantization.group_of(shape[1], scales.shape[1], where=spot)
    zeros = None
    if "zero_point" in parts:
        zeros = _zeros(parts["zero_point"], tuple(scales.shape), form, spot)
    if "packed" in parts:
        words = parts["packed"].read(None)
        return Words(format=form, words=words, shape=shape, scales=scales, zeros=zeros, group=group)
    codes = parts["weight"].read(None)
    return Codes(format=form, codes=codes, scales=scales, zeros=zeros, group=group)


def _zeros(part: StoredTensor, shape: tuple[int, ...], form: Format, spot: str) -> Tensor:
    words = part.read(None)
    if part.dtype == "I8" and tuple(words.shape) == shape:
        return words.float() + (8.0 if form == "int4" else 0.0)
    rows = -(-shape[0] * (4 if form == "int4" else 8) // 32)
    if part.dtype != "I32" or tuple(words.shape) != (rows, shape[1]):
        raise FormatError(
            f"{spot}: its zero points are {part.dtype} {list(words.shape)}; I32 "
            f"{[rows, shape[1]]} is expected. The file is damaged."
        )
    unsigned = unpack_words(words.T, form, shape[0]).T.float()
    return unsigned if form == "int4" else unsigned - 128.0


def _fp8(
    parts: Mapping[str, StoredTensor],
    input_scale: StoredTensor | None,
    shape: tuple[int, int],
    quantization: Quantization,
    spot: str,
) -> Fp8Weight:
    """Read one matrix of e4m3."""
    codes = parts["weight"].read(None)
    if tuple(codes.shape) != shape:
        raise FormatError(f"{spot} has shape {list(codes.shape)}; {list(shape)} is expected.")
    if bool(((codes.view(torch.uint8) & 127) == 127).any()):
        raise FormatError(f"{spot} holds NaN; finite numbers are expected. The file is damaged.")
    scales = _scales(parts["scale"], shape[0], spot)
    if scales.shape[1] != 1:
        raise FormatError(f"{spot} has {scales.shape[1]} scales a row; one is expected.")
    entry = None
    if input_scale is not None and not quantization.is_dynamic:
        entry = float(input_scale.read(torch.float32).max())
    return Fp8Weight(codes=codes, scales=scales, bound=quantization.bound, input_scale=entry)


def _scales(part: StoredTensor, rows: int, spot: str) -> Tensor:
    """Return scales [rows, groups]; one scale for the whole matrix is repeated."""
    scales = part.read(torch.float32)
    if scales.numel() == 1:
        scales = scales.reshape(1, 1).expand(rows, 1)
    if scales.ndim == 1:
        scales = scales[:, None]
    if scales.ndim != 2 or scales.shape[0] != rows:
        raise FormatError(
            f"{spot}: its scales have shape {list(part.shape)}; {rows} rows are expected."
        )
    if not bool((scales.isfinite() & (scales >= 0)).all()):
        raise FormatError(f"{spot}: a scale is negative or no number. The file is damaged.")
    return scales.contiguous()


def _unsigned(codes: Tensor, form: Format) -> Tensor:
    return codes if form == "int4" else (codes.to(torch.int16) + 128).to(torch.uint8)
