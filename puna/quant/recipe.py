"""Which layers of a model get how few bits, and the model with those layers in place.

int8 and int4 take every matrix of every block, and the head in int8; norms stay as they are, and so
does the embedding unless it is the head too: then tokens are looked up in the head's codes. fp8
takes the feed-forward matrices of all layers but the first and the last. puna.checkpoint stores
what is made here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from puna.errors import ConfigError, RequestError
from puna.log import progress
from puna.model.llama import Llama
from puna.ops.lowbit import Packed
from puna.quant.calibrate import Calibration, calibrated, head_weight
from puna.quant.codes import Codes, Scheme, quantize_weight
from puna.quant.fp8 import (
    ACTIVATION_BOUND,
    E4M3_MAX,
    Fp8Linear,
    Fp8Weight,
    quantize_fp8,
)
from puna.quant.linear import QuantLinear, RowEmbedding
from puna.quant.passage import STAGES
from puna.quant.words import Words

Name = Literal["int8", "int4", "fp8"]
Low = Codes | Words | Fp8Weight
Made = tuple[str, Low | Tensor]  # a module's name, and its weight or a norm's new one

FEED_FORWARD = ("mlp.gate", "mlp.up", "mlp.down")
_MATRICES = tuple(name for _, names in STAGES for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a whole model is brought to few bits."""

    scheme: Name
    group: int = 32
    symmetric: bool = True
    head: Literal["int8", "int4"] | None = "int8"  # None leaves it as it is; so does fp8
    bound: float | None = ACTIVATION_BOUND  # fp8: of dynamic activation scales

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Name):
            raise ConfigError(
                f"scheme={self.scheme!r}; one of {', '.join(get_args(Name))} is expected."
            )
        if self.group not in (32, 64, 128):
            raise ConfigError(f"group={self.group}; 32, 64 or 128 columns are expected.")
        if self.head not in ("int8", "int4", None):
            raise ConfigError(f"head={self.head!r}; 'int8', 'int4' or none is expected.")

    def grid(self, name: str) -> Scheme:
        """Return how the matrices of a format are rounded."""
        bits = 4 if name == "int4" else 8
        return Scheme(bits=bits, group=self.group, symmetric=self.symmetric)

    @property
    def head_grid(self) -> Scheme | None:
        """How the head is rounded."""
        return None if self.head is None else self.grid(self.head)


def as_recipe(name: str) -> Recipe:
    """Return the recipe that a scheme's name stands for.

    Raises:
        RequestError: there is no such scheme.
    """
    for known in get_args(Name):
        if name == known:
            return Recipe(scheme=known)
    raise RequestError(
        f"quantize={name!r} was given; 'int8', 'int4' or 'fp8' is expected. Use one of these."
    )


def quantize_model(
    model: Llama,
    scheme: Name | Recipe,
    calibration: Calibration | None = None,
    *,
    keep: Callable[[str, Low | Tensor], None] | None = None,
) -> Llama:
    """Put low-bit layers in the places of a model's linear layers, and return the same model.

    Args:
        calibration: text to round on; None rounds to the nearest. For fp8 it makes activation
            scales static.
        keep: called with every module's name and new weight, in order, to store it.
    Raises:
        FormatError: a weight is NaN or infinite.
        RequestError: the model has no layer that the scheme takes.
    """
    recipe = scheme if isinstance(scheme, Recipe) else Recipe(scheme=scheme)
    for name, made in quantized(model, recipe, calibration):
        if keep is not None:
            keep(name, made)
        place(model, name, made)
    return model


def quantized(
    model: Llama, recipe: Recipe, calibration: Calibration | None = None
) -> Iterator[Made]:
    """Yield the name of each module that changes, in order, with its new weight."""
    if recipe.scheme == "fp8":
        yield from _fp8(model, recipe, calibration)
    elif calibration is not None:
        yield from calibrated(model, recipe.grid(recipe.scheme), calibration, head=recipe.head_grid)
    else:
        yield from _rounded(model, recipe)


def place(model: Llama, name: str, made: Low | Tensor) -> None:
    """Put one new weight into the model. A tied head is the embedding still."""
    if name == "head":
        layer = as_layer(made, model.embed.weight.device)
        if model.head is None and isinstance(layer, QuantLinear):
            model.add_module("embed", RowEmbedding(layer.packed, model.embed.weight))
        model.head = layer
        return
    owner, _, leaf = name.rpartition(".")
    old = model.get_submodule(name)
    if isinstance(made, Tensor):
        old.weight = nn.Parameter(made, requires_grad=False)
        return
    device = next(iter(old.parameters())).device
    setattr(model.get_submodule(owner), leaf, as_layer(made, device))


def as_layer(weight: Low | Packed | Tensor, device: torch.device | str = "cpu") -> nn.Module:
    """Return the module that multiplies by a weight."""
    if isinstance(weight, Codes | Words | Packed):
        return QuantLinear(weight, device=device)
    if isinstance(weight, Fp8Weight):
        return Fp8Linear(weight).to(device)
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    dense.weight = nn.Parameter(weight.to(device), requires_grad=False)
    return dense


def _rounded(model: Llama, recipe: Recipe) -> Iterator[Made]:
    grid = recipe.grid(recipe.scheme)
    with progress(total=len(model.blocks), title="rounding") as bar:
        for layer in range(len(model.blocks)):
            for inner in _MATRICES:
                name = f"blocks.{layer}.{inner}"
                weight = model.get_parameter(f"{name}.weight")
                yield name, quantize_weight(weight.cpu(), grid, where=name)
            bar.advance(1)
    if recipe.head_grid is not None:
        yield "head", quantize_weight(head_weight(model), recipe.head_grid, where="head")


def _fp8(model: Llama, recipe: Recipe, calibration: Calibration | None) -> Iterator[Made]:
    layers = range(1, len(model.blocks) - 1)
    if not layers:
        raise RequestError(
            f"fp8: the model has {len(model.blocks)} layers, and the first and the last stay as "
            "they are; three or more are expected. Choose int8."
        )
    scales: dict[str, float] = {}
    if calibration is not None:
        scales = static_scales(model, calibration.ids, recipe.bound)
    for layer in layers:
        for inner in FEED_FORWARD:
            name = f"blocks.{layer}.{inner}"
            weight = model.get_parameter(f"{name}.weight")
            yield (
                name,
                replace(
                    quantize_fp8(weight.cpu(), bound=recipe.bound, where=name),
                    input_scale=scales.get(name),
                ),
            )


@torch.no_grad()
def static_scales(
    model: Llama, ids: Int[Tensor, "N T"], bound: float | None = ACTIVATION_BOUND
) -> dict[str, float]:
    """Return one activation scale for each feed-forward matrix: the largest value met over 448.

    Args:
        ids: rows of calibration text.
        bound: of the largest value.
    """
    largest: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def see(_: nn.Module, given: tuple[Tensor]) -> None:
            met = min(float(given[0].abs().max()), bound or float("inf"))
            largest[name] = max(largest.get(name, 0.0), met)

        return see

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(watch(name))
        for layer in range(1, len(model.blocks) - 1)
        for name in (f"blocks.{layer}.{inner}" for inner in FEED_FORWARD)
    ]
    try:
        for rows in torch.split(ids, 8):
            model.hidden(rows)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: max(value, 1e-12) / E4M3_MAX for name, value in largest.items()}
