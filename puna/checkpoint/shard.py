"""A rank's share of a checkpoint: only the rows and columns that are its own leave the disk.

A tensor is mapped, cut where it lies and only then converted, so that no rank ever holds the whole
model. Weights stored in few bits stay in few bits: their codes are cut between groups. Weights that
are to be rounded on the way get the codes that the whole matrix would get.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from puna.checkpoint.load import Undrawn, has_kernel, keeps_embedding
from puna.checkpoint.stored import Checkpoint
from puna.errors import RequestError
from puna.model.config import ModelConfig
from puna.ops.lowbit import LANES, pack
from puna.parallel.apply import Share
from puna.parallel.links import Links
from puna.parallel.mesh import Mesh
from puna.parallel.shards import TENSOR_PLAN, Division, Grain, Shard
from puna.quant.codes import Codes, quantize_weight
from puna.quant.cut import Low, cut, steps_of
from puna.quant.fp8 import quantize_fp8
from puna.quant.linear import QuantLinear, RowEmbedding
from puna.quant.recipe import FEED_FORWARD, Recipe, as_layer
from puna.quant.words import Words

Weights = Mapping[str, Tensor | Low]


def load_share(
    checkpoint: Checkpoint, links: Links, *, dtype: torch.dtype, recipe: Recipe | None = None
) -> Share:
    """Load the weights of this process, in evaluation mode, onto its device.

    Args:
        recipe: rounds the weights on the way, where they have all their bits.
    Raises:
        ConfigError: the model cannot be divided over this mesh.
    """
    weights = _Stored(checkpoint, dtype, links.device)
    grain = _grain(weights.samples(), checkpoint.config, links.mesh)
    return fill_share(checkpoint.config, weights, links, dtype=dtype, recipe=recipe, grain=grain)


def fill_share(
    config: ModelConfig,
    weights: Weights,
    links: Links,
    *,
    dtype: torch.dtype,
    recipe: Recipe | None = None,
    grain: Grain | None = None,
) -> Share:
    """Return this rank's share of a model, cut from whole tensors that are read one by one."""
    if recipe is not None:
        _require_layers(recipe, config)
        grain = _grain_of_recipe(recipe, config, links.mesh)
    division = Division(whole=config, mesh=links.mesh, grain=grain or Grain())
    with torch.device("meta"), Undrawn():
        model = Share(division)
    like = torch.empty(0, dtype=dtype, device=links.device)
    for shard in division.shards():
        if shard.source == "embed.weight" != shard.target and links.mesh.is_first:
            _share_embedding(model)  # one matrix, two uses, as in the whole model
            continue
        _place(model, shard, _part(shard, weights[shard.source], config, recipe, dtype), like)
    model.join(links)
    left = [name for name, weight in model.named_parameters() if weight.is_meta]
    assert not left, f"{left} were not loaded"
    model.eval().requires_grad_(False)
    return model


class _Stored(Mapping[str, Tensor | Low]):
    """The weights of a checkpoint, in as many bits as they are stored in."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        self._checkpoint = checkpoint
        self._keeps_embedding = keeps_embedding(checkpoint, dtype, device)

    def __getitem__(self, name: str) -> Tensor | Low:
        low = self._checkpoint.tensors[name].low
        if low is not None:
            return low()
        weight = self._checkpoint.tensor(name)
        return pack("bf16", weight) if name == "embed.weight" and self._keeps_embedding else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.tensors)

    def __len__(self) -> int:
        return len(self._checkpoint.tensors)

    def samples(self) -> dict[str, list[Low]]:
        """Return a matrix of each kind of code that the divided inputs have."""
        found: dict[tuple[str, str], Low] = {}
        for name, stored in self._checkpoint.tensors.items():
            part = name.removesuffix(".weight").partition(".")[2].partition(".")[2]
            is_cut = TENSOR_PLAN.get(part, ("", 0))[1] == 1
            if is_cut and stored.low is not None and (part, stored.dtype) not in found:
                found[part, stored.dtype] = stored.low()
        return {
            what: [low for (part, _), low in found.items() if TENSOR_PLAN[part][0] == what]
            for what in ("heads", "mlp_width")
        }


def _grain(samples: Mapping[str, list[Low]], config: ModelConfig, mesh: Mesh) -> Grain:
    """Return the steps in which codes come apart, so large that what is rounded together stays."""
    steps = {}
    for what, lows in samples.items():
        total = getattr(config, what) * (config.head_width if what == "heads" else 1)
        chosen = [1]
        for low in lows:
            *better, least = steps_of(low)
            chosen.append(next((step for step in better if _fits(what, total, step, mesh)), least))
        steps[what] = math.lcm(*chosen)
    is_low = any(samples.values())
    return Grain(**steps, vocab=LANES if is_low and config.vocab >= LANES * mesh.tensor else 1)


def _fits(what: str, total: int, step: int, mesh: Mesh) -> bool:
    """Say whether inputs can be divided in such steps: heads only evenly."""
    if what == "heads":
        return total // mesh.tensor % step == 0
    return -(-total // step) >= mesh.tensor


def _grain_of_recipe(recipe: Recipe, config: ModelConfig, mesh: Mesh) -> Grain:
    one_row = torch.zeros(1, config.mlp_width), torch.zeros(1, config.heads * config.head_width)
    if recipe.scheme == "fp8":
        return _grain({"mlp_width": [quantize_fp8(one_row[0])], "heads": []}, config, mesh)
    grid = recipe.grid(recipe.scheme)
    down, wo = (quantize_weight(row, grid) for row in one_row)
    return _grain({"mlp_width": [down], "heads": [wo]}, config, mesh)


def _part(
    shard: Shard,
    whole: Tensor | Low,
    config: ModelConfig,
    recipe: Recipe | None,
    dtype: torch.dtype,
) -> Tensor | Low:
    """Return a rank's part of a matrix, rounded where the recipe says so."""
    name = shard.source.removesuffix(".weight")
    if recipe is not None and isinstance(whole, Tensor):
        if name == "embed" and config.tied:
            name = "head"
        if shard.dim == 0:  # rows are rounded each by itself
            return _rounded(name, shard.cut(whole).to(dtype), config, recipe)
        whole = _rounded(name, whole.to(dtype), config, recipe)
    if isinstance(whole, Tensor) or shard.span is None:
        return shard.cut(whole) if isinstance(whole, Tensor) else whole
    return cut(whole, shard.dim, shard.span, where=name)


def _rounded(name: str, weight: Tensor, config: ModelConfig, recipe: Recipe) -> Tensor | Low:
    """Round a matrix as `puna.quant.recipe.quantized` does without calibration."""
    layer, _, part = name.removeprefix("blocks.").partition(".")
    if recipe.scheme == "fp8":
        is_taken = part in FEED_FORWARD and 0 < int(layer) < config.layers - 1
        return quantize_fp8(weight, bound=recipe.bound, where=name) if is_taken else weight
    grid = recipe.head_grid if name == "head" else recipe.grid(recipe.scheme)
    is_taken = name == "head" or part in TENSOR_PLAN
    return quantize_weight(weight, grid, where=name) if grid and is_taken else weight


def _require_layers(recipe: Recipe, config: ModelConfig) -> None:
    if recipe.scheme == "fp8" and config.layers < 3:
        raise RequestError(
            f"fp8: the model has {config.layers} layers, and the first and the last stay as they "
            "are; three or more are expected. Choose int8."
        )


def _place(model: Share, shard: Shard, part: Tensor | Low, like: Tensor) -> None:
    """Put a part into the share, on its device."""
    name = shard.target.removesuffix(".weight")
    owner, _, leaf = name.rpartition(".")
    if isinstance(part, Codes | Words) and not has_kernel(part):
        part = part.weight()
    if isinstance(part, Tensor):
        weight = part.to(like.device, like.dtype).contiguous()
        model.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
        return
    layer = as_layer(part, like.device)
    if name == "embed":
        assert isinstance(layer, QuantLinear)
        layer = RowEmbedding(layer.packed, like)
    setattr(model.get_submodule(owner), leaf, layer)


def _share_embedding(model: Share) -> None:
    """Let a tied head multiply by the rows that this rank looks up."""
    if isinstance(model.embed, RowEmbedding):
        model.head = QuantLinear(model.embed.packed, device=model.embed.packed.codes.device)
    else:
        assert model.head is not None
        model.head.weight = model.embed.weight
