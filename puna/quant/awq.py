"""Activation-aware scaling: columns that meet large activations are rounded on a finer grid.

Scaling a column of a matrix up and the channel that feeds it down changes nothing that the model
computes, yet the column's rounding error becomes smaller beside its group. The scales are folded
into what stands before: a norm's weight, or the rows of the matrix before. puna.quant.calibrate
measures the activations. Source: Lin et al. 2023, AWQ, arXiv:2306.00978; the search over the
exponent from section 3.2.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from puna.quant.codes import Scheme, quantize_weight

_EXPONENTS = tuple(step / 20 for step in range(20))  # the authors' grid of twenty
_SAMPLE = 1024  # rows of a matrix that the error is measured on


def search_scales(
    weights: Sequence[Float[Tensor, "out in"]],
    hessian: Float[Tensor, "in in"],
    scheme: Scheme,
    *,
    heads: tuple[int, int] | None = None,
) -> Float[Tensor, "in"]:
    """Return by what each column is multiplied before rounding, so that the outputs change least.

    The trial scales are rms(x)^a over their geometric mean, a in 0 .. 0.95; the error is
    `tr((W - Q) H (W - Q)^T)` summed over the matrices, which read the same inputs. Of a large
    matrix rows at even distances stand for all.

    Args:
        hessian: the mean of x x^T over the inputs.
        heads: H and K where the columns are heads whose values K heads feed: query heads of one
            group then share their scales, as they share the channel.
    """
    square = hessian.diagonal().clamp(min=0.0)
    if heads is not None:
        by_group = square.view(heads[1], heads[0] // heads[1], -1)
        square = by_group.mean(1, keepdim=True).expand_as(by_group).reshape(-1)
    rms = square.sqrt()
    rms = (rms / rms.mean().clamp(min=1e-12)).clamp(1e-3, 1e3)
    rows = torch.cat([weight[:: -(-len(weight) // _SAMPLE)] for weight in weights])
    best, chosen = float("inf"), torch.ones_like(rms)
    for exponent in _EXPONENTS:
        scales = rms.pow(exponent)
        scales = scales / scales.log().mean().exp()
        error = _error(rows, scales, hessian, scheme)
        if error < best:
            best, chosen = error, scales
    return chosen


def products_of_search(out: int, columns: int) -> int:
    """Return how many floating-point operations the products of one search take."""
    return len(_EXPONENTS) * 2 * min(out, _SAMPLE) * columns**2


def _error(weight: Tensor, scales: Tensor, hessian: Tensor, scheme: Scheme) -> float:
    lost = quantize_weight(weight * scales, scheme).weight() / scales - weight
    return float(((lost @ hessian) * lost).sum())
