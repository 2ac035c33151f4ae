"""A LoRA adapter makes another model out of one, and shares every weight that it leaves alone.

An adapter adds to some weights a product of two thin matrices: W + s B A. Where a weight is wide it
is added once, so that the kernels see an ordinary model; a weight of few bits stays as it is and
the product is computed beside it. The result is served as a model of its own, by its name.
Source: Hu et al. 2021, arXiv:2106.09685; the files are those of Hugging Face's PEFT.
"""

import copy
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from puna.checkpoint.names import places
from puna.errors import FormatError, NotFoundError
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.ops.lowbit import Packed
from puna.parallel.apply import Share, Summed
from puna.parallel.shards import Division

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
Pairs = Mapping[str, tuple[Tensor, Tensor]]  # A and B, by puna's name of the layer
# What changes the product and is not read here must be off.
OFF: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "lora_bias": (False, None),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
}


class Adapted(nn.Module):
    """A linear layer with the thin product beside it."""

    a: Tensor  # [r, in]
    b: Tensor  # [out, r], scaled

    def __init__(self, inner: nn.Module, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("a", a)
        self.register_buffer("b", b)

    def forward(self, x: Float[Tensor, "*N in"]) -> Float[Tensor, "*N out"]:
        """Return the layer's own result and s B A x."""
        thin = F.linear(F.linear(x, self.a.to(x)), self.b.to(x))
        return self.inner(x) + thin  # type: ignore[no-any-return]


def with_adapter(model: Llama, folder: Path | str) -> Llama:
    """Return the model with an adapter; the given model stays as it is.

    Raises:
        NotFoundError: the folder holds no adapter.
        FormatError: the adapter is of another kind or does not fit the model.
    """
    folder = Path(folder)
    scale = _scale(_config(folder), where=str(folder / CONFIG))
    pairs = _pairs(folder, model.division.whole if isinstance(model, Share) else model.config)
    if isinstance(model, Share):
        pairs = dict(_own_pairs(model.division, pairs))
    adapted: Llama = _sharing(model)
    for name, (a, b) in pairs.items():
        room, _, own = name.rpartition(".")
        parent = adapted.get_submodule(room)
        layer = parent.get_submodule(own)
        if isinstance(layer, Summed):  # each rank adds its part before the sum
            parent, own, layer = layer, "inner", layer.inner
        parent._modules[own] = _with_product(layer, a, scale * b)
    return adapted


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(
            f"{folder}: there is no {CONFIG}; a folder of PEFT with {CONFIG} and {WEIGHTS} is "
            "expected. Give the folder of the adapter, not of its base model."
        ) from None
    except ValueError as error:
        raise FormatError(
            f"{folder / CONFIG}: no JSON ({error}); an object is expected. Fetch it again."
        ) from None
    if not isinstance(found, dict):
        raise FormatError(f"{folder / CONFIG}: no object; one is expected. Fetch it again.")
    return found


def _scale(config: Mapping[str, Any], *, where: str) -> float:
    """Return s = alpha / r, or alpha / sqrt(r) where the ranks are stabilised."""
    if config.get("peft_type") != "LORA":
        raise FormatError(
            f"{where}: peft_type={config.get('peft_type')!r}; 'LORA' is expected. Other adapters "
            "are not served."
        )
    for key, allowed in OFF.items():
        if config.get(key) not in allowed:
            raise FormatError(
                f"{where}: {key}={config[key]!r} changes what the adapter means; "
                f"{key}={allowed[0]!r} is expected. Merge such an adapter with PEFT first."
            )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise FormatError(
            f"{where}: r={rank!r} and lora_alpha={alpha!r}; a whole number and a number are "
            "expected. Fetch it again."
        )
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _own_pairs(division: Division, pairs: Pairs) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Yield a rank's part of each pair: A takes what the layer takes, B gives what it gives."""
    for shard in division.shards():
        pair = pairs.get(shard.source.removesuffix(".weight"))
        if pair is not None:
            a, b = pair
            if shard.dim == 0:
                b = shard.cut(b)
            else:
                a = shard.cut(a)
            yield shard.target.removesuffix(".weight"), (a, b)


def _pairs(folder: Path, config: ModelConfig) -> Pairs:
    """Return A and B of each adapted layer, by puna's name of the layer."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        found = load_file(path)
    except FileNotFoundError:
        raise NotFoundError(
            f"{path}: there is no such file; the adapter's weights are expected. Fetch it."
        ) from None
    except SafetensorError as error:
        raise FormatError(
            f"{path}: {error}; a safetensors file is expected. Fetch it again."
        ) from None
    layers = {
        place.name.removesuffix(".weight"): place
        for place in places(config, "huggingface")
        if place.puna.startswith("blocks.") and len(place.shape) == 2
    }
    halves: dict[str, dict[str, Tensor]] = {}
    for key, value in found.items():
        name, _, half = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        if name not in layers or half not in ("lora_A", "lora_B"):
            raise FormatError(
                f"{path}: '{key}' is in no layer of this model that can be adapted; "
                f"'{PREFIX}model.layers.0.self_attn.q_proj.lora_A.weight' and the like are "
                "expected. Serve it with the model that it was made for."
            )
        halves.setdefault(name, {})[half] = value
    pairs = {}
    for name, half_of in halves.items():
        out, inner = layers[name].shape
        a, b = half_of.get("lora_A"), half_of.get("lora_B")
        shapes = [None if half is None else list(half.shape) for half in (a, b)]
        if a is None or b is None or shapes != [[len(a), inner], [out, len(a)]]:
            raise FormatError(
                f"{path}: '{name}' has halves of shape {shapes[0]} and {shapes[1]}; "
                f"[r, {inner}] and [{out}, r] are expected. Serve it with its own base model."
            )
        pairs[layers[name].puna.removesuffix(".weight")] = (a.float(), b.float())
    return pairs


def _sharing(module: nn.Module) -> Any:
    """Return a module of its own whose weights are the given one's."""
    twin = copy.copy(module)
    twin._parameters = dict(module._parameters)
    twin._buffers = dict(module._buffers)
    twin._modules = {
        name: None if child is None else _sharing(child) for name, child in module._modules.items()
    }
    return twin


def _with_product(layer: nn.Module, a: Tensor, b: Tensor) -> nn.Module:
    if type(layer) is not nn.Linear:
        device = _device_of(layer)
        return Adapted(layer, a.to(device), b.to(device))
    weight = layer.weight
    product = (b @ a).to(weight.device)
    twin: nn.Module = _sharing(layer)
    merged = (weight.float() + product).to(weight.dtype)
    twin._parameters["weight"] = nn.Parameter(merged, requires_grad=False)
    return twin


def _device_of(layer: nn.Module) -> torch.device:
    """Return where a layer of few bits lies."""
    packed = getattr(layer, "packed", None)
    return packed.codes.device if isinstance(packed, Packed) else next(layer.buffers()).device
