"""The FP8 recipe of Llama 3.1: eight-bit floats for feed-forward weights and activations.

A row of weights and a row of activations each get a scale that spends the range of e4m3; products
are summed in float32 and leave as bfloat16. Activation scales are bounded, because a rare token
with one huge activation would push the rest of its row below the smallest number. A CPU computes
the same numbers that a GPU's matrix units do. Source: The Llama 3 Herd of Models, section 6.2;
Meta's FBGEMM for the row quantiser.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from puna.ops.gpu.choice import fp8_product as choose_product
from puna.ops.gpu.choice import gpu_of, rounds_to_fp8
from puna.ops.gpu.fp8 import fp8_row_product, round_rows
from puna.quant.codes import checked

E4M3 = torch.float8_e4m3fn
E4M3_MAX = 448.0  # the largest finite number of e4m3; the cast knows no saturation, so clamp first
ACTIVATION_BOUND = 1200.0  # of a row's largest activation, in its scale; the paper's section 6.2
_SMALLEST = 1e-12  # of a row's largest value, so that a row of zeros has a scale; FBGEMM

_ROWS = 4096  # of a weight that are widened at once on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8Weight:
    """A matrix in e4m3 with a scale for each row, and how its inputs are brought to e4m3."""

    codes: Float[Tensor, "out in"]  # float8_e4m3fn
    scales: Float[Tensor, "out parts"]  # float32, of a row or of equal parts of it; code * scale
    bound: float | None = ACTIVATION_BOUND  # of dynamic input scales
    input_scale: float | None = None  # one for all inputs; None: each row its own, as it comes

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes, with its share of the row's scale."""
        return 8 + 32 * self.scales.numel() / self.codes.numel()

    def weight(self) -> Float[Tensor, "out in"]:
        """Return the matrix that the codes stand for, in float32."""
        columns = self.codes.shape[1] // self.scales.shape[1]
        return self.codes.float() * self.scales.repeat_interleave(columns, dim=1)


def quantize_rows(
    x: Float[Tensor, "*N in"], bound: float | None = None
) -> tuple[Float[Tensor, "*N in"], Float[Tensor, "*N 1"]]:
    """Return e4m3 codes and the scale of each row, so that x = codes * scales.

    scale = min(max|row|, bound) / 448; what lies beyond the bound becomes +-448.
    """
    if rounds_to_fp8(gpu_of(x.device)):
        return round_rows(x, bound, _SMALLEST)
    return quantize_rows_reference(x, bound)


def quantize_rows_reference(
    x: Float[Tensor, "*N in"], bound: float | None = None
) -> tuple[Float[Tensor, "*N in"], Float[Tensor, "*N 1"]]:
    """Compute what `quantize_rows` returns, as it is written."""
    wide = x.float()
    largest = wide.abs().amax(-1, keepdim=True).clamp(min=_SMALLEST, max=bound)
    codes = (wide * (E4M3_MAX / largest)).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)
    return codes, largest / E4M3_MAX


def quantize_static(x: Float[Tensor, "*N in"], scale: float) -> Float[Tensor, "*N in"]:
    """Return e4m3 codes under one scale for all rows, saturated."""
    return (x.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)


def quantize_fp8(
    weight: Float[Tensor, "out in"],
    *,
    bound: float | None = ACTIVATION_BOUND,
    input_scale: float | None = None,
    where: str = "weight",
) -> Fp8Weight:
    """Bring a matrix to e4m3, row by row; weights know no bound.

    Raises:
        FormatError: the matrix holds NaN or an infinity.
    """
    codes, scales = quantize_rows(checked(weight, where))
    return Fp8Weight(codes=codes, scales=scales, bound=bound, input_scale=input_scale)


def fp8_product(
    x: Float[Tensor, "N in"],
    x_scales: Float[Tensor, "N 1"],
    weight: Float[Tensor, "out in"],
    weight_scales: Float[Tensor, "out 1"],
) -> Float[Tensor, "N out"]:
    """Multiply e4m3 codes with sums in float32, apply both scales and return bfloat16."""
    out, inner = weight.shape
    kind = choose_product(gpu_of(x.device), rows=len(x), inner=inner, out=out)
    if kind == "row":
        return fp8_row_product(x, x_scales, weight, weight_scales)
    if kind == "scaled_mm":
        return scaled_mm(x, x_scales, weight, weight_scales)
    return fp8_product_reference(x, x_scales, weight, weight_scales)


def scaled_mm(
    x: Float[Tensor, "N in"],
    x_scales: Float[Tensor, "N 1"],
    weight: Float[Tensor, "out in"],
    weight_scales: Float[Tensor, "out 1"],
) -> Float[Tensor, "N out"]:
    """Let torch multiply by rows: the second matrix column by column, scales [N, 1] and [1, out].

    Its fast way of adding keeps fewer bits of long sums than float32 has, so it stays off.
    """
    return torch._scaled_mm(
        x.contiguous(),
        weight.contiguous().t(),
        scale_a=x_scales.float().contiguous(),
        scale_b=weight_scales.float().t().contiguous(),
        out_dtype=torch.bfloat16,
        use_fast_accum=False,
    )


def fp8_product_reference(
    x: Tensor, x_scales: Tensor, weight: Tensor, weight_scales: Tensor
) -> Float[Tensor, "N out"]:
    """Compute `(x w^T) x_scale w_scale` as it is written, a run of weight rows at a time."""
    wide = x.float()
    parts = zip(torch.split(weight, _ROWS), torch.split(weight_scales, _ROWS), strict=True)
    sums = [F.linear(wide, rows.float()) * scales.t() for rows, scales in parts]
    return (torch.cat(sums, dim=-1) * x_scales).bfloat16()


class Fp8Linear(nn.Module):
    """A linear layer that multiplies in e4m3."""

    codes: Tensor
    scales: Tensor

    def __init__(self, weight: Fp8Weight) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("codes", weight.codes, persistent=False)
        self.register_buffer("scales", weight.scales.float(), persistent=False)
        self.bound, self.input_scale = weight.bound, weight.input_scale

    def forward(self, x: Float[Tensor, "*N in"]) -> Float[Tensor, "*N out"]:
        """Return x w^T, rounded to bfloat16, in the dtype of x."""
        rows = x.reshape(-1, self.in_features)
        parts = self.scales.shape[1]
        if parts == 1:
            out = self._product(rows, self.codes, self.scales)
        else:  # of a matrix that was cut by columns: each part by itself, as its device would
            cut = zip(rows.chunk(parts, 1), self.codes.chunk(parts, 1), strict=True)
            sums = [
                self._product(x, codes.contiguous(), self.scales[:, part : part + 1])
                for part, (x, codes) in enumerate(cut)
            ]
            out = torch.stack(sums).sum(0, dtype=torch.float32).bfloat16()
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _product(self, rows: Tensor, weight: Tensor, weight_scales: Tensor) -> Tensor:
        if self.input_scale is None:
            codes, scales = quantize_rows(rows, self.bound)
        else:
            codes = quantize_static(rows, self.input_scale)
            scales = rows.new_full((rows.shape[0], 1), self.input_scale, dtype=torch.float32)
        return fp8_product(codes, scales, weight, weight_scales)

    def stored(self) -> Fp8Weight:
        """Return the weight as it goes into a file."""
        return Fp8Weight(
            codes=self.codes, scales=self.scales, bound=self.bound, input_scale=self.input_scale
        )
