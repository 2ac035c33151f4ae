"""Products that read the same input, as one: a GPU is filled better by one large one.

The layers stay in the model; their weights become parts of the common one, so that nothing is in
memory twice. `puna.infer.graphs` joins queries, keys and values, and gate and up.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.ops.gpu.matrix import GpuMatrix, stacked
from puna.ops.gpu.run import product
from puna.quant.fp8 import Fp8Linear
from puna.quant.linear import QuantLinear

Product = Callable[[Tensor], Tensor]


def joined(layers: Sequence[nn.Module]) -> Product:
    """Return what multiplies by all of the layers and lays the results side by side."""
    if all(type(layer) is nn.Linear for layer in layers):
        return _dense(layers)
    packed = [layer.packed for layer in layers if isinstance(layer, QuantLinear)]
    matrices = [matrix for matrix in packed if isinstance(matrix, GpuMatrix)]
    if len(matrices) == len(layers) and (whole := stacked(matrices)) is not None:
        return _low(layers, whole)
    if all(isinstance(layer, Fp8Linear) for layer in layers):
        found = _fp8([layer for layer in layers if isinstance(layer, Fp8Linear)])
        if found is not None:
            return found
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def _dense(layers: Sequence[nn.Module]) -> Product:
    weights = [layer.get_parameter("weight") for layer in layers]
    if len({weight.dtype for weight in weights}) > 1:
        return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)
    whole = torch.cat([weight.detach() for weight in weights])
    parts = torch.split(whole, [len(weight) for weight in weights])
    for layer, part in zip(layers, parts, strict=True):
        layer.weight = nn.Parameter(part, requires_grad=False)
    return lambda x: F.linear(x, whole)


def _low(layers: Sequence[nn.Module], whole: GpuMatrix) -> Product:
    begin = 0
    for layer in layers:
        assert isinstance(layer, QuantLinear)
        rows = slice(begin, begin + layer.out_features)
        begin += layer.out_features
        layer.packed = replace(
            whole,
            out=layer.out_features,
            words=whole.words[rows],
            scales=whole.scales[rows],
            zeros=None if whole.zeros is None else whole.zeros[rows],
            units=whole.units[rows],
        )
    return lambda x: product(x, whole)


def _fp8(layers: Sequence[Fp8Linear]) -> Product | None:
    """Join layers that bring their inputs to e4m3 in one and the same way."""
    kinds = {(layer.bound, layer.input_scale, layer.scales.shape[1]) for layer in layers}
    if len(kinds) > 1:
        return None
    first = layers[0].stored()
    whole = Fp8Linear(
        replace(
            first,
            codes=torch.cat([layer.codes.view(torch.uint8) for layer in layers]).view(
                first.codes.dtype
            ),
            scales=torch.cat([layer.scales for layer in layers]),
        )
    )
    begin = 0
    for layer in layers:
        rows = slice(begin, begin + layer.out_features)
        begin += layer.out_features
        layer.codes, layer.scales = whole.codes[rows], whole.scales[rows]
    return whole
