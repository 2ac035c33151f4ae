"""Error-compensating rounding: what one column loses, the columns after it make good.

Rounding to the nearest code minimises the error of each weight; this minimises the error of the
layer's output on calibration text, `||W X' - Q X||^2`: X are the inputs behind the layers that are
rounded already, X' those of the original model, so that later layers mend what earlier ones lost.
puna.quant.calibrate measures both. Three steps: the best real matrix for the drifted inputs, a
column-by-column rounding of it, and sweeps that reconsider every code and scale given the others.
Sources: Frantar et al. 2022, GPTQ, arXiv:2210.17323, algorithm 1; Li et al. 2025, GPTAQ,
arXiv:2504.02692, for the target; Behdin et al. 2023, QuantEase, arXiv:2309.01885, for the sweeps.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from puna.errors import ConfigError
from puna.quant.codes import (
    RANGES,
    Codes,
    Scheme,
    checked,
    code_dtype,
    fit_grid,
    round_to,
    spread,
    to_scale,
)

_BLOCK = 128  # columns between two updates of the rest; GPTQ's lazy batch
_ROWS = 4096  # that are rounded at once: rows do not depend on each other
_SHRINKS = tuple(1.0 - step / 32 for step in range(17))  # how far a range may be drawn in
# Of the mean diagonal, when the target is solved for. On stories260K (int4, groups of 32) 10 % left
# 0.168 of perplexity lost where 1 % left 0.182, without sweeps.
_TARGET_DAMPING = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Gptq:
    """The choices of error-compensating rounding."""

    damping: float = 0.01  # of the mean diagonal, added to it; GPTQ's 1 %
    act_order: bool = True  # columns that meet the largest activations are rounded first
    sweeps: int = 3  # that reconsider each code and each scale; 0 is GPTQ alone

    def __post_init__(self) -> None:
        if not 0 < self.damping < 1:
            raise ConfigError(f"damping={self.damping}; a share above 0 and below 1 is expected.")
        if self.sweeps < 0:
            raise ConfigError(f"sweeps={self.sweeps}; 0 or more are expected.")


def gptq(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    scheme: Scheme,
    choices: Gptq | None = None,
    *,
    drift: Float[Tensor, "in in"] | None = None,
    where: str = "weight",
) -> Codes:
    """Round a matrix so that its products with the calibration inputs change least.

    Groups keep their columns whatever the order, so the codes have the layout of plain rounding.

    Args:
        hessian: the mean of x x^T over the inputs that the layer will meet.
        drift: the mean of (x' - x) x^T, x' being the input in the original model; None for none.
    Raises:
        FormatError: the matrix or the inputs hold NaN or infinities.
    """
    choices = choices or Gptq()
    curvature = _safe(checked(hessian, f"{where} inputs"))
    factor, order = _inverse_factor(curvature, choices)
    shift = None
    if drift is not None:
        damped = _damped(curvature, _TARGET_DAMPING)
        shift = torch.linalg.solve(damped, checked(drift, f"{where} drift"), left=False)
    pieces = []
    for rows in torch.split(checked(weight, where), _ROWS):
        target = rows if shift is None else rows + rows @ shift
        scales, zeros = search_grid(target, curvature.diagonal(), scheme)
        codes = _round_columns(target, scales, zeros, scheme, factor, order)
        for _ in range(choices.sweeps):
            codes, scales = _sweep(
                target, codes, scales, zeros, scheme, _damped(curvature, choices.damping)
            )
        pieces.append((codes, scales, zeros))
    return Codes(
        format=scheme.format,
        codes=torch.cat([codes for codes, _, _ in pieces]).to(code_dtype(scheme.format)),
        scales=torch.cat([scales for _, scales, _ in pieces]),
        zeros=None if scheme.symmetric else torch.cat([z for *_, z in pieces if z is not None]),
        group=scheme.group,
    )


def nearest(
    weight: Float[Tensor, "out in"],
    hessian: Float[Tensor, "in in"],
    scheme: Scheme,
    *,
    where: str = "weight",
) -> Codes:
    """Round to the nearest codes of a grid that suits the columns with large activations."""
    wide, importance = checked(weight, where), checked(hessian, f"{where} inputs").diagonal()
    scales, zeros = search_grid(wide, importance, scheme)
    codes = round_to(wide, scales, zeros, scheme)
    return Codes(format=scheme.format, codes=codes, scales=scales, zeros=zeros, group=scheme.group)


def search_grid(
    weight: Float[Tensor, "out in"], importance: Float[Tensor, "in"], scheme: Scheme
) -> tuple[Tensor, Tensor | None]:
    """Draw each group's range in as far as makes the weighted squared error least.

    Args:
        importance: of each column, its mean squared activation.
    """
    importance = importance + importance.mean() * 1e-3 + torch.finfo(torch.float32).tiny
    rows, columns = weight.shape
    best, chosen = torch.full((rows, 1), torch.inf), torch.ones(rows, 1)
    for shrink in _SHRINKS:
        scales, zeros = fit_grid(weight, scheme, shrink)
        codes = round_to(weight, scales, zeros, scheme)
        squared = (_value(codes.float(), scales, zeros, scheme) - weight).square() * importance
        padded = F.pad(squared, (0, -columns % scheme.group))
        error = padded.reshape(rows, -1, scheme.group).sum(-1)
        chosen = torch.where(error < best, shrink, chosen)
        best = torch.minimum(best, error)
    return fit_grid(weight, scheme, chosen)


def _round_columns(
    target: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    scheme: Scheme,
    factor: Tensor,
    order: Tensor,
) -> Float[Tensor, "out in"]:
    """Round one column after the other, and spread what each loses over those that are left."""
    columns = target.shape[1]
    first, last, zero = RANGES[scheme.format]
    steps = spread(scales, scheme.group, columns)[:, order]
    shifts = None if zeros is None else spread(zeros, scheme.group, columns)[:, order]
    work = target[:, order]
    codes = torch.empty_like(work)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors = torch.empty(work.shape[0], stop - start)
        for at in range(start, stop):
            shift = zero if shifts is None else shifts[:, at]
            code = (work[:, at] / steps[:, at] + shift).round().clamp(first, last)
            error = (work[:, at] - (code - shift) * steps[:, at]) / factor[at, at]
            work[:, at:stop].addr_(error, factor[at, at:stop], alpha=-1)
            codes[:, at], errors[:, at - start] = code, error
        work[:, stop:].addmm_(errors, factor[start:stop, stop:], alpha=-1)
    return codes[:, order.argsort()]


def _sweep(
    target: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    scheme: Scheme,
    curvature: Tensor,
) -> tuple[Tensor, Tensor]:
    """Give every code, then every group's scale, its best value while all others stand still."""
    first, last, zero = RANGES[scheme.format]
    codes, scales = codes.clone(), scales.clone()
    value = _value(codes, scales, zeros, scheme)
    pull = (target - value) @ curvature  # minus half the gradient of the error
    columns = target.shape[1]
    for group in range(scales.shape[1]):
        low, high = group * scheme.group, min(columns, (group + 1) * scheme.group)
        inner = curvature[low:high, low:high]
        scale = scales[:, group]
        shift = zero if zeros is None else zeros[:, group]
        near = pull[:, low:high].clone()
        for at in range(high - low):
            wish = value[:, low + at] + near[:, at] / inner[at, at]
            code = (wish / scale + shift).round().clamp(first, last)
            moved = (code - codes[:, low + at]) * scale
            codes[:, low + at] = code
            near.addr_(moved, inner[at], alpha=-1)
        steps = codes[:, low:high] - (zero if zeros is None else zeros[:, group : group + 1])
        size = ((steps @ inner) * steps).sum(1)
        better = to_scale(scale + (steps * near).sum(1) / size.clamp(min=1e-30))
        sound = (size > 1e-30) & (better > scale / 2) & (better < scale * 2)
        scales[:, group] = torch.where(sound, better, scale)
        fresh = steps * scales[:, group : group + 1]
        pull.addmm_(fresh - value[:, low:high], curvature[low:high], alpha=-1)
        value[:, low:high] = fresh
    return codes, scales


def _value(codes: Tensor, scales: Tensor, zeros: Tensor | None, scheme: Scheme) -> Tensor:
    columns = codes.shape[1]
    zero = RANGES[scheme.format][2]
    shift = zero if zeros is None else spread(zeros, scheme.group, columns)
    return (codes - shift) * spread(scales, scheme.group, columns)


def _safe(curvature: Tensor) -> Tensor:
    """Give channels that the text never woke the mean curvature: they are rounded by themselves."""
    safe = curvature.clone()
    diagonal = safe.diagonal()
    diagonal[diagonal <= 0] = float(diagonal.mean()) or 1.0
    return safe


def _damped(curvature: Tensor, share: float) -> Tensor:
    damped = curvature.clone()
    damped.diagonal().add_(share * float(curvature.diagonal().mean()))
    return damped


def _inverse_factor(curvature: Tensor, choices: Gptq) -> tuple[Float[Tensor, "in in"], Tensor]:
    """Return the upper Cholesky factor of the inverse, and the order of columns it is for."""
    order = torch.arange(curvature.shape[0])
    if choices.act_order:
        order = curvature.diagonal().argsort(descending=True, stable=True)
    ordered, damping = curvature[order][:, order].double(), choices.damping
    while True:
        lower, failed = torch.linalg.cholesky_ex(_damped(ordered, damping))
        if int(failed) == 0:
            break
        damping *= 10.0  # nearly dependent channels
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True).float(), order
