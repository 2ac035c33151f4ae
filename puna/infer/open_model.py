"""From a checkpoint to what generates: mapped for the native decoder, or a module of torch.

torch is imported where it computes, or must be asked: for another device than the CPU, another
dtype than the natural one, weights that are rounded on the way or divided among processes, and for
every format that the native decoder does not read where it lies. `puna.llm` opens models here.
"""

from functools import partial
from typing import TYPE_CHECKING

from puna.checkpoint.mapped import read_ahead
from puna.checkpoint.stored import Checkpoint
from puna.device import may_have_gpu, memory_limit, pick_device, pick_dtype
from puna.infer.mapped_model import MappedModel, map_model

if TYPE_CHECKING:
    import torch

    from puna.model.llama import Llama
    from puna.parallel.links import Links
    from puna.quant.recipe import Recipe


def expect(checkpoint: Checkpoint) -> None:
    """Have files of weights read ahead, which will be needed whole, where memory has room."""
    total = sum(stored.stored_bytes for stored in checkpoint.tensors.values())
    if total <= memory_limit() // 2 and checkpoint.path.is_dir():
        for file in checkpoint.path.glob("*.safetensors"):
            read_ahead(file)


def place_of(device: str) -> str:
    """Return the device by its name; torch is asked where it could know of one."""
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    return str(pick_device(device))


def recipe_of(name: str) -> "Recipe":
    """Return the recipe of a scheme, as `puna.quant.recipe.as_recipe`."""
    from puna.quant.recipe import as_recipe

    return as_recipe(name)


def open_model(
    checkpoint: Checkpoint,
    place: str,
    *,
    dtype: "str | torch.dtype | None" = None,
    recipe: "Recipe | None" = None,
    links: "Links | None" = None,
    as_module: bool = False,
) -> "Llama | MappedModel":
    """Return the weights as they will be computed.

    Args:
        place: the device, where no links say it.
        dtype: of the weights in memory; None takes the natural one.
        recipe: rounds the weights on the way.
        links: to the other processes of a divided model, whose share is loaded.
        as_module: map nothing.
    """
    module = partial(_module, checkpoint, place, dtype, recipe, links)
    is_plain = links is None and recipe is None and dtype is None
    if place == "cpu" and is_plain and not as_module:
        mapped = map_model(checkpoint, natural_format(checkpoint, place), module)
        if mapped is not None:
            return mapped
    return module()


def _module(
    checkpoint: Checkpoint,
    place: str,
    dtype: "str | torch.dtype | None",
    recipe: "Recipe | None",
    links: "Links | None",
) -> "Llama":
    """Load the weights as a module of torch."""
    import torch

    from puna.checkpoint.load import load_model
    from puna.checkpoint.shard import load_share
    from puna.quant.recipe import quantize_model

    device = torch.device(place) if links is None else links.device
    if dtype is None:
        dtype = natural_dtype(checkpoint, device)
    elif isinstance(dtype, str):
        dtype = pick_dtype(dtype, device)
    if links is not None:
        return load_share(checkpoint, links, dtype=dtype, recipe=recipe)
    model = load_model(checkpoint, device=str(device), dtype=dtype, as_stored=True)
    return model if recipe is None else quantize_model(model, recipe)


def natural_dtype(checkpoint: Checkpoint, device: "torch.device") -> "torch.dtype":
    """Return the format that the weights are computed in when nobody says: none of their bits lost.

    What is stored in fewer bits takes what the device multiplies fast.
    """
    return pick_dtype(natural_format(checkpoint, device.type), device)


def natural_format(checkpoint: Checkpoint, device: str) -> str:
    """Return the same by its name; "auto" stands for what the device multiplies fast."""
    stored = checkpoint.tensors["blocks.0.mlp.gate.weight"]
    if stored.low is not None:
        stored = checkpoint.tensors["embed.weight"]
    match stored.dtype:
        case "F32":
            return "float32"
        case "F16":  # processors emulate it, and bfloat16 would cut three bits
            return "float16" if device == "cuda" else "float32"
        case _:
            return "auto"
