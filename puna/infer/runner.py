"""A Llama in memory as the native decoder reads it, and its cache, with torch's tensors outside.

`Runner.of` wraps a Llama whose weights the kernels of native/ can read where they lie: float32,
bfloat16, or packed int8 and int4. `puna.infer.decoder` makes the step; where `Runner.of` answers
None, the model's own forward pass does the work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from puna.errors import RequestError
from puna.infer.decoder import (
    CACHE_NUMBERS,
    PAGE_TOKENS,
    SCALED_CACHES,
    CacheFields,
    CacheName,
    Decoder,
    Part,
    cache_name,
    check_parts,
    fit,
    matrix_names,
)
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.ops import native
from puna.ops.lowbit import Packed, pack
from puna.ops.matrix import Format

__all__ = ["PAGE_TOKENS", "PagedCache", "Part", "Runner", "cache_dtype_of", "check_parts"]

CACHES: dict[CacheName, torch.dtype] = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}
SMALL_CACHES = tuple(CACHES[name] for name in CACHES if name in SCALED_CACHES)
FORMATS: dict[torch.dtype, Format] = {torch.float32: "f32", torch.bfloat16: "bf16"}


def cache_dtype_of(name: str | None) -> torch.dtype | None:
    """Return what a cache of this name holds; None stands for that which suits the weights.

    Raises:
        RequestError: there is no such cache.
    """
    known = cache_name(name)
    return None if known is None else CACHES[known]


def refuse_cache(dtype: torch.dtype | None) -> None:
    """Stop where torch computes the model and somebody chose what its cache holds.

    Raises:
        RequestError: a dtype was given.
    """
    if dtype is not None:
        raise RequestError(
            f"KV cache: {dtype} was given, and torch computes this model here, whose cache is of "
            "the dtype of the weights. Leave the choice out; `puna doctor` says what the native "
            "kernels need."
        )


class PagedCache:
    """Keys and values of many sequences in pages of equal size, [L, P, K, Z, E].

    int8 and fp8 keep one scale a token and head beside the codes. Whoever owns the cache decides
    which sequence owns which page (`Part.pages`).
    """

    def __init__(
        self,
        config: ModelConfig,
        pages: int,
        *,
        page_tokens: int = PAGE_TOKENS,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if dtype not in CACHES.values():
            raise RequestError(
                f"KV cache: dtype={dtype} was given; one of "
                f"{', '.join(map(str, CACHES.values()))} is expected."
            )
        self.pages, self.page_tokens, self.dtype = pages, page_tokens, dtype
        heads = (config.layers, pages, config.kv_heads, page_tokens)
        shape = (*heads, config.head_width)
        self.keys, self.values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        scaled = dtype in SMALL_CACHES
        self.key_scales = torch.empty(heads) if scaled else None
        self.value_scales = torch.empty(heads) if scaled else None

    def parts(self) -> list[Tensor]:
        """Return the tensors of the cache; the pages are their second dimension."""
        every = (self.keys, self.values, self.key_scales, self.value_scales)
        return [part for part in every if part is not None]

    def fields(self) -> CacheFields:
        """Return what native/module.cpp takes."""
        number = CACHE_NUMBERS[next(name for name in CACHES if CACHES[name] == self.dtype)]
        keys, values = native.address(self.keys), native.address(self.values)
        scales = native.address(self.key_scales), native.address(self.value_scales)
        return number, keys, values, *scales, self.pages, self.page_tokens


class Runner:
    """A model as the native decoder sees it; weights stay where they are."""

    is_exact = True
    device = torch.device("cpu")

    def __init__(self, model: Llama, matrices: dict[str, Packed], level: str) -> None:
        self.config = model.config
        self.format = matrices["blocks.0.mlp.down"].format
        norms = {
            name: weight.detach().float().contiguous().numpy()
            for name, weight in model.named_parameters()
            if name.endswith("norm.weight")
        }
        freqs: list[float] = model.freqs.tolist()
        self.decoder = Decoder(model.config, matrices, norms, freqs, level=level)

    @classmethod
    def of(cls, model: nn.Module, *, level: str | None = None) -> "Runner | None":
        """Wrap a model, or answer None where the kernels cannot read it or are not there."""
        level = level or native.level()
        if level is None or type(model) is not Llama or is_watched(model):
            return None
        matrices = {
            name: packed
            for name, module in model.named_modules()
            if (packed := _packed(module)) is not None
        }
        names = matrix_names(model.config, has_head=model.head is not None)
        if matrices.keys() != names or not fit(matrices, model.config):
            return None
        return cls(model, matrices, level)

    def step(self, parts: Sequence[Part], cache: PagedCache) -> Tensor:
        """Read the tokens of every part and return logits; as `Decoder.step`."""
        return torch.from_numpy(self.decoder.step(parts, cache))


def is_watched(model: nn.Module) -> bool:
    """Whether somebody waits for forward passes, or put in their own: the decoder makes none."""
    own = {"forward", "hidden", "logits"} & vars(model).keys()
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    return bool(own) or hooks


def _packed(module: nn.Module) -> Packed | None:
    """Return a module's matrix where it is nothing but a product with it."""
    packed = getattr(module, "packed", None)
    if isinstance(packed, Packed):
        return packed if packed.codes.device.type == "cpu" else None
    if type(module) not in (nn.Linear, nn.Embedding):
        return None
    weight = module.weight
    assert isinstance(weight, Tensor)
    if weight.device.type != "cpu" or weight.dtype not in FORMATS or not weight.is_contiguous():
        return None
    return pack(FORMATS[weight.dtype], weight)
