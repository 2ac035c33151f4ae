"""Layer by layer over calibration text: each matrix is rounded for the inputs it will really meet.

Two streams of hidden states walk through the model, one behind the rounded layers and one behind
the original ones. Of every matrix only the moments of its inputs are kept, [in, in]; one block is
in memory in float32 at a time, so memory is bounded whatever the text and the depth.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from puna.errors import RequestError
from puna.log import progress
from puna.model.llama import Llama, View
from puna.quant.awq import search_scales
from puna.quant.codes import Codes, Scheme
from puna.quant.gptq import Gptq, gptq, nearest

Method = Literal["gptq", "awq", "awq+gptq"]

# What feeds which matrices of a block, in the order of the computation.
STAGES = (
    ("attn_norm", ("attn.wq", "attn.wk", "attn.wv")),
    ("attn.wv", ("attn.wo",)),
    ("mlp_norm", ("mlp.gate", "mlp.up")),
    ("mlp.up", ("mlp.down",)),
)

_ROWS_AT_ONCE = 8  # of calibration text that pass through a block together


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Text to calibrate on, and what to do with it."""

    ids: Int[Tensor, "N T"]  # rows of the model's own tokens
    method: Method = "gptq"
    choices: Gptq = field(default_factory=Gptq)

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or not self.ids.numel():
            raise RequestError(
                f"calibration: ids of shape {list(self.ids.shape)}; rows of tokens [N, T] are "
                "expected. Give more text."
            )


class Moments:
    """The mean of x x^T over a layer's inputs, and of (x' - x) x^T, x' being the original's."""

    def __init__(self, width: int) -> None:
        self._square, self._drift = torch.zeros(width, width), torch.zeros(width, width)
        self._count = 0

    def add(self, x: Float[Tensor, "*N in"], original: Float[Tensor, "*N in"]) -> None:
        """Add inputs of the layer, and those of the same tokens in the original."""
        rows = x.reshape(-1, x.shape[-1]).float()
        if rows.device != self._square.device:
            self._square, self._drift = (m.to(rows.device) for m in (self._square, self._drift))
        away = original.reshape(rows.shape).float() - rows
        self._square.addmm_(rows.T, rows)
        self._drift.addmm_(away.T, rows)
        self._count += rows.shape[0]

    def hessian(self) -> Float[Tensor, "in in"]:
        """Return the mean of x x^T."""
        return self._square / self._count

    def drift(self) -> Float[Tensor, "in in"]:
        """Return the mean of (x' - x) x^T."""
        return self._drift / self._count


@torch.no_grad()
def calibrated(
    model: Llama, scheme: Scheme, calibration: Calibration, *, head: Scheme | None = None
) -> Iterator[tuple[str, Codes | Tensor]]:
    """Yield the name of each module of the model with its codes, in order.

    A block's modules come when both streams have left the block, so that they may be put into the
    model at once. Norms whose weights took in AWQ's scales come as tensors.

    Args:
        head: how the head is rounded; None leaves it out.
    Raises:
        FormatError: a weight or an activation is NaN or infinite.
    """
    chunks = torch.split(calibration.ids, _ROWS_AT_ONCE)
    rounded = [model.embed(ids) for ids in chunks]
    original = [x.clone() for x in rounded]
    with progress(total=len(model.blocks), title="calibrating") as bar:
        for layer, block in enumerate(model.blocks):
            walk = _Walk(model, block, layer, rounded, original)
            made: list[tuple[str, Codes | Tensor]] = []
            if calibration.method != "gptq":
                made += _scale(walk, scheme)
            for _, names in STAGES:
                made += _round(walk, names, scheme, calibration)
            rounded, original = walk.outputs()
            for name, new in made:
                yield f"{walk.where}.{name}", new
            bar.advance(1)
    if head is not None:
        moments = Moments(model.config.width)
        for x, true in zip(rounded, original, strict=True):
            moments.add(model.norm(x), model.norm(true))
        yield "head", gptq(
            head_weight(model), moments.hessian().cpu(), head, calibration.choices,
            drift=moments.drift().cpu(), where="head",
        )  # fmt: skip


def head_weight(model: Llama) -> Tensor:
    """Return the matrix that turns states into scores, on the CPU; a tied one is the embedding."""
    weight = model.embed.weight if model.head is None else model.get_parameter("head.weight")
    return weight.detach().cpu()


class _Reached(Exception):  # noqa: N818 - no error: a forward pass ends where it is no longer needed
    """What enters a matrix, thrown past the rest of its block."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states


class _Walk:
    """One block, rounded bit by bit beside its original, and the states that enter both."""

    def __init__(
        self,
        model: Llama,
        block: nn.Module,
        layer: int,
        rounded: list[Tensor],
        original: list[Tensor],
    ) -> None:
        self.config, self._freqs, self._layer = model.config, model.freqs, layer
        self.work, self._block = copy.deepcopy(block).float(), block
        self.dtype = next(block.parameters()).dtype
        self.where = f"blocks.{layer}"
        self._rounded, self._original = rounded, original
        self._scales: dict[str, Tensor] = {}  # what AWQ divided the inputs of a matrix by

    def weight(self, name: str) -> Tensor:
        """Return a weight of the block that is being rounded."""
        return self.work.get_parameter(f"{name}.weight").data

    def moments(self, name: str) -> Moments:
        """Run the text through both blocks, so far as needed, and measure what enters a matrix."""
        moments, scales = Moments(self.weight(name).shape[1]), self._scales.get(name)
        for x, true in zip(self._rounded, self._original, strict=True):
            met, original = (
                self._entering(block, name, states)
                for block, states in ((self.work, x), (self._block, true))
            )
            moments.add(met, original if scales is None else original / scales)
        return moments

    def scaled(self, name: str, scales: Tensor) -> None:
        """Remember by what the inputs of a matrix were divided: the original's are not."""
        self._scales[name] = scales

    def _entering(self, block: nn.Module, name: str, states: Tensor) -> Tensor:
        """Return what enters a matrix of a block; what comes after it is not computed."""

        def stop(_: nn.Module, given: tuple[Tensor]) -> None:
            raise _Reached(given[0])

        hook = block.get_submodule(name).register_forward_pre_hook(stop)
        try:
            self._run(block, states)
        except _Reached as reached:
            return reached.states
        finally:
            hook.remove()
        raise AssertionError(f"{name} was never called")

    def outputs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return what leaves both blocks."""
        return (
            [self._run(self.work, x) for x in self._rounded],
            [self._run(self._block, x) for x in self._original],
        )

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        dtype = next(block.parameters()).dtype
        positions = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        view = View(positions, self._freqs.to(x.device), causal=True)
        out: Tensor = block(x.to(dtype), view, self._layer)
        return out


def _scale(walk: _Walk, scheme: Scheme) -> Iterator[tuple[str, Tensor]]:
    """Fold AWQ's scales into the block, all before anything is rounded; yield the new norms."""
    for before, names in STAGES:
        hessian = walk.moments(names[0]).hessian().cpu()
        weights = [walk.weight(name) for name in names]
        heads = (walk.config.heads, walk.config.kv_heads) if before == "attn.wv" else None
        scales = search_scales(weights, hessian, scheme, heads=heads).to(weights[0].device)
        feeding = walk.weight(before)
        if feeding.ndim == 1:
            scales = _fold_into_norm(feeding, scales, walk.dtype)
            yield before, feeding.to(walk.dtype)
        elif heads is not None:
            by_group = scales.view(heads[1], heads[0] // heads[1], -1)
            feeding /= by_group[:, 0].reshape(-1, 1)
        else:
            feeding /= scales[:, None]
        walk.scaled(names[0], scales)
        for weight in weights:
            weight *= scales


def _fold_into_norm(norm: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Divide a norm by the scales, and return the scales that its rounding to `dtype` left."""
    folded = (norm / scales).to(dtype).float()
    sound = folded != 0
    exact = torch.where(sound, norm / folded, 1.0)
    norm.copy_(torch.where(sound, folded, norm))
    return exact


def _round(
    walk: _Walk, names: tuple[str, ...], scheme: Scheme, calibration: Calibration
) -> Iterator[tuple[str, Codes]]:
    """Round the matrices that read the same inputs, and leave the rounded ones in the block."""
    moments = walk.moments(names[0])
    hessian, drift = moments.hessian().cpu(), moments.drift().cpu()
    for name in names:
        weight, where = walk.weight(name), f"{walk.where}.{name}"
        if calibration.method == "awq":
            codes = nearest(weight.cpu(), hessian, scheme, where=where)
        else:
            codes = gptq(
                weight.cpu(), hessian, scheme, calibration.choices, drift=drift, where=where
            )
        weight.copy_(codes.weight())
        yield name, codes
