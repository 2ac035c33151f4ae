"""Products with weights of few bits: four formats, how they lie in memory, and what they mean.

`pack` lays a matrix out for the kernels of native/, `linear` multiplies by it, and
`linear_reference` says in torch what the product is. puna.quant decides the codes;
`puna.infer.runner` hands packed matrices to the native decoder as they are.

Weights in int8 and int4 meet inputs in int8: each row is rounded by groups of 128 inputs (or of one
weight group, where that is longer), symmetrically, with a scale of its own. A rounded input differs
from the true one by at most max |group| / 254.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from puna.errors import RequestError
from puna.ops import native
from puna.ops.gpu.matrix import GpuMatrix
from puna.ops.gpu.run import product
from puna.ops.matrix import NUMBERS, Format

LANES = 16  # outputs of a panel; the registers of native/levels hold as many
INPUT_GROUP = 128  # inputs that share a scale, at least
LARGEST = {"int8": 127, "int4": 15}
MIDDLE = {"int8": 0, "int4": 8}  # the code of zero where no zeros are given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """One weight matrix as the kernels read it; weight = (code - zero) * scale.

    f32 and bf16 keep the [out, inner] tensor itself. int8 and int4 lie in panels of 16 outputs:
    `codes` [panels, words, 16, 4] holds for every four inputs the bytes of 16 outputs (int8: code
    plus 128; int4: eight inputs in four bytes, the first four in the low nibbles). `scales` and
    `zeros` are float16 [panels, groups, 16]; scales are in units of `scale_unit`, a power of two,
    so that float16's range is never the limit, and zeros are relative to `MIDDLE`.
    """

    format: Format
    out: int
    inner: int
    group: int  # inputs that share a scale; `inner` or more: one scale an output
    codes: Tensor
    scales: Tensor | None = None
    zeros: Tensor | None = None
    scale_unit: float = 1.0

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads."""
        parts = (self.codes, self.scales, self.zeros)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)

    @property
    def input_group(self) -> int:
        """Inputs that share a scale when a row is rounded to int8."""
        if self.group >= self.inner:
            return INPUT_GROUP
        return self.group * -(-INPUT_GROUP // self.group)

    def dequantize(self) -> Float[Tensor, "out inner"]:
        """Return the matrix in float32."""
        return self.rows(torch.arange(self.out))

    def rows(self, index: Int[Tensor, "*n"]) -> Float[Tensor, "*n inner"]:
        """Return some rows in float32: an embedding looks its tokens up with this."""
        if self.scales is None:
            return self.codes[index].float()
        flat = index.flatten()
        panel, lane = flat // LANES, flat % LANES
        codes = self.codes[panel, :, lane]  # [n, words, 4]
        if self.format == "int4":
            codes = torch.stack((codes & 15, codes >> 4), dim=2)
        middle = 8 if self.format == "int4" else 128
        values = codes.flatten(1)[:, : self.inner].float() - middle
        groups = torch.arange(self.inner) // self.group
        if self.zeros is not None:
            values -= self.zeros[panel, :, lane].float()[:, groups]
        values *= (self.scales[panel, :, lane].float() * self.scale_unit)[:, groups]
        return values.view(*index.shape, self.inner)

    def fields(self) -> tuple[int, int, int, int, int, int, int, float]:
        """Return what native/module.cpp takes; the caller keeps this object alive."""
        places = (native.address(part) for part in (self.codes, self.scales, self.zeros))
        codes, scales, zeros = places
        number = NUMBERS[self.format]
        return number, self.out, self.inner, self.group, codes, scales, zeros, self.scale_unit


def pack(
    format: Format,
    codes: Tensor,
    scales: Tensor | None = None,
    zeros: Tensor | None = None,
    group: int = 32,
) -> Packed:
    """Lay a weight matrix out for the kernels.

    Scales are kept as float16 times one power of two: a relative error of at most 2^-11, none where
    they were float16 before.

    Args:
        codes: the weight itself for f32 and bf16; int8 -127 .. 127, or uint8 0 .. 15 for int4.
        scales: float32 [out, groups], groups being inner / group, rounded up.
        zeros: the same shape, or None for symmetric codes (0 in int8, 8 in int4).
        group: inputs that share a scale; a multiple of 8, or at least `inner`.
    Raises:
        RequestError: shapes or values do not fit the format.
    """
    if codes.ndim != 2 or not codes.numel():
        raise RequestError(
            f"pack: codes of shape {list(codes.shape)} were given; [out, in] is expected."
        )
    out, inner = codes.shape
    if format in ("f32", "bf16"):
        dtype = torch.float32 if format == "f32" else torch.bfloat16
        weight = codes.detach().to(dtype).contiguous()
        return Packed(format=format, out=out, inner=inner, group=inner, codes=weight)
    _require_codes(format, codes)
    scales = _require_scales((out, inner), scales, zeros, group)
    panels = -(-out // LANES)
    words = -(-inner // 8) * 2
    shifted = codes.to(torch.int16) + 128 if format == "int8" else codes
    full = torch.zeros(panels * LANES, words * 4, dtype=torch.uint8)
    full[:out, :inner] = shifted.to(torch.uint8)
    if format == "int8":
        lanes = full.view(panels, LANES, words, 4).transpose(1, 2)
    else:
        pairs = full.view(panels, LANES, words // 2, 2, 4)
        lanes = (pairs[:, :, :, 0] | (pairs[:, :, :, 1] << 4)).transpose(1, 2)
    return of_panels(format, lanes.contiguous(), (out, inner), scales, zeros, group)


def pack_words(
    format: Literal["int8", "int4"],
    words: Int[Tensor, "out words"],
    inner: int,
    scales: Tensor,
    zeros: Tensor | None = None,
    group: int = 32,
) -> Packed:
    """Lay out a matrix whose codes lie in 32-bit words, as files hold them.

    It gives what `pack` gives of the single codes, in a fraction of the time: int8 words are those
    of the panels; in int4 words the nibbles 0 1 2 3 4 5 6 7 become 0 4 1 5 2 6 3 7.

    Args:
        words: int32; eight int4 codes or four int8 codes plus 128, the first in the lowest bits.
        inner: inputs; the last word is filled with zeros.
        scales: as in `pack`; so are zeros and group.
    Raises:
        RequestError: shapes or values do not fit the format.
    """
    out, each = words.shape[0], 8 if format == "int4" else 4
    if words.dtype != torch.int32 or words.shape[1] != -(-inner // each):
        raise RequestError(
            f"pack_words: {words.dtype} {list(words.shape)} were given for {inner} inputs in "
            f"{format}; int32 {[out, -(-inner // each)]} is expected."
        )
    scales = _require_scales((out, inner), scales, zeros, group)
    panels, columns = -(-out // LANES), -(-inner // 8) * (8 // each)
    full = F.pad(words, (0, columns - words.shape[1], 0, panels * LANES - out))
    lanes = full.view(panels, LANES, columns).transpose(1, 2).contiguous()
    if format == "int4":
        for shift, mask in ((8, 0x0000FF00), (4, 0x00F000F0)):  # swap the middle of each run
            moved = (lanes >> shift).bitwise_xor_(lanes).bitwise_and_(mask)
            lanes.bitwise_xor_(moved).bitwise_xor_(moved.bitwise_left_shift_(shift))
    octets = lanes[..., None].view(torch.uint8)
    return of_panels(format, octets, (out, inner), scales, zeros, group)


def of_panels(
    format: Format,
    codes: Tensor,
    shape: tuple[int, int],
    scales: Tensor,
    zeros: Tensor | None,
    group: int,
) -> Packed:
    """Return the matrix whose codes lie in panels already; scales and zeros are as in `pack`."""
    panels, unit = codes.shape[0], unit_of(scales)
    return Packed(
        format=format,
        out=shape[0],
        inner=shape[1],
        group=min(group, shape[1]) if scales.shape[1] == 1 else group,
        codes=codes,
        scales=_by_lane(scales / unit, panels),
        zeros=None if zeros is None else _by_lane(zeros - MIDDLE[format], panels),
        scale_unit=unit,
    )


def _require_codes(format: str, codes: Tensor) -> None:
    dtype = torch.int8 if format == "int8" else torch.uint8
    if codes.dtype != dtype:
        raise RequestError(f"pack: {format} codes are {codes.dtype}; {dtype} is expected.")
    low = -LARGEST[format] if format == "int8" else 0
    if int(codes.min()) < low or int(codes.max()) > LARGEST[format]:
        raise RequestError(
            f"pack: {format} codes reach from {int(codes.min())} to {int(codes.max())}; "
            f"{low} to {LARGEST[format]} is expected."
        )


def _require_scales(
    matrix: tuple[int, int], scales: Tensor | None, zeros: Tensor | None, group: int
) -> Tensor:
    out, inner = matrix
    if group < 1 or (group < inner and group % 8):
        raise RequestError(
            f"pack: group={group} was given for {inner} inputs; a multiple of 8, or at least the "
            "number of inputs, is expected."
        )
    shape = [out, -(-inner // group)]
    for name, given in (("scales", scales), ("zeros", zeros)):
        if given is None and name == "zeros":
            continue
        if given is None or list(given.shape) != shape or not bool(given.isfinite().all()):
            found = "none" if given is None else f"{list(given.shape)}"
            raise RequestError(f"pack: {name} {found} were given; finite {shape} are expected.")
    assert scales is not None
    return scales


def unit_of(scales: Tensor) -> float:
    """Return the power of two that brings the largest scale to 2^14, near float16's end."""
    peak = float(scales.abs().max())
    if peak == 0:
        return 1.0
    return 2.0 ** int(torch.tensor(peak).log2().floor().item() - 14)


def _by_lane(values: Tensor, panels: int) -> Tensor:
    full = torch.zeros(panels * LANES, values.shape[1], dtype=torch.float16)
    full[: values.shape[0]] = values.to(torch.float16)
    return full.view(panels, LANES, -1).transpose(1, 2).contiguous()


def linear(x: Float[Tensor, "*n inner"], weight: Packed | GpuMatrix) -> Float[Tensor, "*n out"]:
    """Return `x` times the matrix transposed, in the dtype of `x`; no gradients.

    On a GPU the inputs are not rounded (puna.ops.gpu): there int8 inputs would save nothing.
    """
    if isinstance(weight, GpuMatrix):
        return product(x, weight)
    level = native.level()
    on_cpu = x.device.type == "cpu" and weight.codes.device.type == "cpu"
    if level is None or not on_cpu or x.shape[-1] != weight.inner:
        return linear_reference(x, weight)
    rows = x.detach().to(torch.float32).reshape(-1, weight.inner).contiguous()
    y = torch.empty(rows.shape[0], weight.out)
    native.extension().linear(
        level, weight.fields(), rows.data_ptr(), rows.shape[0], y.data_ptr(), native.threads()
    )
    return y.view(*x.shape[:-1], weight.out).to(x.dtype)


def linear_reference(x: Float[Tensor, "*n inner"], weight: Packed) -> Float[Tensor, "*n out"]:
    """Compute the product as it is defined: rounded inputs, true weights, sums in float32."""
    rounded = x.float()
    if weight.format == "bf16":
        rounded = rounded.bfloat16().float()
    elif weight.format != "f32":
        rounded = round_inputs(rounded, weight.input_group)
    return F.linear(rounded, weight.dequantize().to(x.device)).to(x.dtype)


def round_inputs(x: Float[Tensor, "*n inner"], group: int) -> Float[Tensor, "*n inner"]:
    """Round each group of a row to 255 steps of max |group| / 127.

    A group with a NaN or an infinity becomes NaN, so that nobody takes the result for a number; one
    whose numbers are all below 1e-30 becomes zeros.
    """
    inner = x.shape[-1]
    grouped = F.pad(x, (0, -inner % group)).view(*x.shape[:-1], -1, group)
    peak = grouped.abs().amax(-1, keepdim=True)
    tiny = peak <= 1e-30
    scale = torch.where(peak.isfinite(), peak / 127, torch.nan)
    inverse = torch.full_like(peak, 127) / peak  # torch takes 127 / peak for 127 * (1 / peak)
    codes = torch.where(tiny, 0.0, grouped * inverse).round()
    return torch.where(tiny, 0.0, codes * scale).flatten(-2)[..., :inner]
