"""A whole model's step in one native call: decoding and reading prompts over a paged KV cache.

`Runner.of` wraps a Llama whose weights the kernels of native/ can read where they lie: float32,
bfloat16, or packed int8 and int4. `puna.infer.rows` drives it; where it answers None, the model's
own forward pass does the work. A row's logits do not depend, to the bit, on the other rows of the
call, on the number of threads, or on how its tokens were divided into calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puna.errors import ContextError, RequestError
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.ops import native
from puna.ops.lowbit import Format, Packed, pack

CACHES: dict[str, torch.dtype] = {
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}
SMALL_CACHES = (CACHES["int8"], CACHES["fp8"])  # with a scale for each head of each token
CACHE_NUMBERS = dict(zip(CACHES.values(), (0, 1, 2, 4), strict=True))  # as native/kernels.h
FORMATS: dict[torch.dtype, Format] = {torch.float32: "f32", torch.bfloat16: "bf16"}
PAGE_TOKENS = 64  # as many as the kernels attend together, so that a page is read where it lies


def cache_dtype_of(name: str | None) -> torch.dtype | None:
    """Return what a cache of this name holds; None stands for that which suits the weights.

    Raises:
        RequestError: there is no such cache.
    """
    if name is None or name in CACHES:
        return None if name is None else CACHES[name]
    raise RequestError(
        f"KV cache: {name!r} was given; one of {', '.join(CACHES)} is expected. int8 and fp8 "
        "take half of the memory of bf16."
    )


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
        if dtype not in CACHE_NUMBERS:
            raise RequestError(
                f"KV cache: dtype={dtype} was given; one of "
                f"{', '.join(map(str, CACHE_NUMBERS))} is expected."
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

    def fields(self) -> tuple[int, int, int, int, int, int, int]:
        """Return what native/module.cpp takes."""
        keys, values = native.address(self.keys), native.address(self.values)
        scales = native.address(self.key_scales), native.address(self.value_scales)
        return CACHE_NUMBERS[self.dtype], keys, values, *scales, self.pages, self.page_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The next tokens of one sequence."""

    ids: Sequence[int]
    held: int  # tokens of the sequence that the cache holds already
    pages: Sequence[int]  # where its tokens lie, in order; room for the new ones included
    wants_all: bool = False  # the logits after every token, not only after the last


class Runner:
    """A model as the native decoder sees it; weights stay where they are."""

    is_exact = True
    device = torch.device("cpu")

    def __init__(self, model: Llama, matrices: dict[str, Packed], level: str) -> None:
        self.config = model.config
        self.level = level
        self.matrices = matrices
        self._norms = {
            name: weight.detach().float().contiguous()
            for name, weight in model.named_parameters()
            if name.endswith("norm.weight")
        }
        self.format = matrices["blocks.0.mlp.down"].format
        self._decoder = self._make_decoder(model.freqs)

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
        if matrices.keys() != _names(model) or not _fit(matrices, model.config):
            return None
        return cls(model, matrices, level)

    def _make_decoder(self, freqs: Tensor) -> Any:
        c = self.config
        fields = {name: matrix.fields() for name, matrix in self.matrices.items()}
        layers = []
        for i in range(c.layers):
            block = f"blocks.{i}"
            names = ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "mlp.gate", "mlp.up", "mlp.down")
            norms = (
                self._norms[f"{block}.{name}_norm.weight"].data_ptr() for name in ("attn", "mlp")
            )
            layers.append((*norms, [fields[f"{block}.{name}"] for name in names]))
        return native.extension().Decoder(
            self.level,
            (c.width, c.heads, c.kv_heads, c.head_width, c.mlp_width, c.vocab, c.norm_eps),
            layers,
            fields["embed"],
            fields.get("head", fields["embed"]),
            self._norms["norm.weight"].data_ptr(),
            freqs.tolist(),
        )

    def step(self, parts: Sequence[Part], cache: PagedCache) -> Tensor:
        """Read the tokens of every part and return logits, float32.

        Returns:
            [B, V] after the last token of each part; more rows where a part wants all.
        Raises:
            RequestError: an id is not in the vocabulary, or a part has no tokens.
            ContextError: a part's pages, or the model's context, have no room for its tokens.
        """
        check_parts(parts, cache, self.config)
        counts = np.array([len(part.ids) for part in parts], dtype=np.int64)
        ids = np.concatenate([np.asarray(part.ids, dtype=np.int32) for part in parts])
        held = np.array([part.held for part in parts], dtype=np.int64)
        tables = np.zeros((len(parts), max(len(part.pages) for part in parts)), dtype=np.int32)
        for row, part in enumerate(parts):
            tables[row, : len(part.pages)] = part.pages
        wanted = _wanted(parts, counts)
        logits = torch.empty(len(wanted), self.config.vocab)
        self._decoder.step(
            ids.ctypes.data, len(ids), counts.ctypes.data, held.ctypes.data, tables.ctypes.data,
            len(parts), tables.shape[1], wanted.ctypes.data, len(wanted), cache.fields(),
            logits.data_ptr(), native.threads(),
        )  # fmt: skip
        return logits


def check_parts(parts: Sequence[Part], cache: PagedCache, config: ModelConfig) -> None:
    """Refuse parts that a model or its cache cannot take.

    Raises:
        RequestError: an id is not in the vocabulary, or a part has no tokens.
        ContextError: a part's pages, or the model's context, have no room for its tokens.
    """
    for part in parts:
        if not part.ids or min(part.ids) < 0 or max(part.ids) >= config.vocab:
            raise RequestError(
                f"runner: a part of {len(part.ids)} ids was given; at least one, each from 0 "
                f"to {config.vocab - 1}, is expected."
            )
        total = part.held + len(part.ids)
        room = min(len(part.pages) * cache.page_tokens, config.context)
        if total > room:
            raise ContextError(
                f"runner: {part.held} tokens are held and {len(part.ids)} more were given; "
                f"there is room for {room}. Give the sequence more pages or shorten it."
            )
        if min(part.pages) < 0 or max(part.pages) >= cache.pages:
            raise RequestError(
                f"runner: pages {min(part.pages)} to {max(part.pages)} were given; the cache "
                f"has {cache.pages}."
            )


def _wanted(parts: Sequence[Part], counts: "np.ndarray[Any, np.dtype[np.int64]]") -> Any:
    ends = np.cumsum(counts)
    if not any(part.wants_all for part in parts):
        return ends - 1
    rows = [
        np.arange(end - count, end) if part.wants_all else np.array([end - 1])
        for part, end, count in zip(parts, ends, counts, strict=True)
    ]
    return np.concatenate(rows).astype(np.int64)


def _names(model: Llama) -> set[str]:
    """Name the matrices that a model must have."""
    names = {"embed"} if model.head is None else {"embed", "head"}
    for i in range(model.config.layers):
        names |= {f"blocks.{i}.attn.{name}" for name in ("wq", "wk", "wv", "wo")}
        names |= {f"blocks.{i}.mlp.{name}" for name in ("gate", "up", "down")}
    return names


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


def _fit(matrices: dict[str, Packed], config: ModelConfig) -> bool:
    """Whether matrices that read the same rows want them rounded alike, and sizes are small."""
    if config.heads // config.kv_heads > 64:
        return False
    for i in range(config.layers):
        for names in (("attn.wq", "attn.wk", "attn.wv"), ("mlp.gate", "mlp.up")):
            kinds = {
                (m.format in ("int8", "int4") or m.format, min(m.group, m.inner))
                for m in (matrices[f"blocks.{i}.{name}"] for name in names)
            }
            if len(kinds) > 1:
                return False
    return True
