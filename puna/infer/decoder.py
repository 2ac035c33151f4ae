"""A whole model's step in one native call: decoding and reading prompts over a paged KV cache.

Weights, cache and logits are addresses to the kernels and numpy arrays here, so that a folder that
runs from where it lies answers before torch could be imported (docs/decisions/0014). The weights
are a model's in memory (`puna.infer.runner`) or a file's (`puna.infer.mapped_model`);
`puna.infer.rows` drives it. A row's logits do not depend, to the bit, on the other rows of the
call, on the number of threads, or on how its tokens were divided into calls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from puna.errors import ContextError, RequestError
from puna.model.config import ModelConfig
from puna.ops import native
from puna.ops.matrix import Array

CacheName = Literal["f32", "bf16", "int8", "fp8"]
CACHE_NUMBERS: Mapping[str, int] = {"f32": 0, "bf16": 1, "int8": 2, "fp8": 4}  # native/kernels.h
_VALUE_BYTES: Mapping[str, int] = {"f32": 4, "bf16": 2, "int8": 1, "fp8": 1}
SCALED_CACHES = ("int8", "fp8")  # with a scale for each head of each token
PAGE_TOKENS = 64  # as many as the kernels attend together, so that a page is read where it lies

_FIRST = "blocks.0.mlp.down"
_MATRICES = ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "mlp.gate", "mlp.up", "mlp.down")

CacheFields = tuple[int, int, int, int, int, int, int]


def cache_name(name: str | None) -> CacheName | None:
    """Return the name of a cache; None stands for that which suits the weights.

    Raises:
        RequestError: there is no such cache.
    """
    names: tuple[CacheName, ...] = get_args(CacheName)
    for known in names:
        if name == known:
            return known
    if name is None:
        return None
    raise RequestError(
        f"KV cache: {name!r} was given; one of {', '.join(CACHE_NUMBERS)} is expected. int8 and "
        "fp8 take half of the memory of bf16."
    )


class WeightMatrix(Protocol):
    """A matrix that the kernels read: `puna.ops.lowbit.Packed` or `puna.ops.matrix.Matrix`."""

    @property
    def format(self) -> str:
        """How its numbers are kept."""

    @property
    def inner(self) -> int:
        """How many inputs it has."""

    @property
    def group(self) -> int:
        """How many inputs share a scale."""

    def fields(self) -> tuple[int, int, int, int, int, int, int, float]:
        """Return what native/module.cpp takes."""


class Cache(Protocol):
    """Keys and values of many sequences in pages of equal size, [L, P, K, Z, E]."""

    pages: int
    page_tokens: int

    def parts(self) -> Sequence[Any]:
        """Return the arrays or tensors of the cache; the pages are their second dimension."""

    def fields(self) -> CacheFields:
        """Return what native/module.cpp takes."""


class Pages:
    """A cache in memory of numpy's.

    int8 and fp8 keep one scale a token and head beside the codes. Whoever owns the cache decides
    which sequence owns which page (`Part.pages`).
    """

    def __init__(
        self,
        config: ModelConfig,
        pages: int,
        *,
        kind: CacheName,
        page_tokens: int = PAGE_TOKENS,
    ) -> None:
        self.pages, self.page_tokens, self.kind = pages, page_tokens, kind
        heads = (config.layers, pages, config.kv_heads, page_tokens)
        shape = (*heads, config.head_width * _VALUE_BYTES[kind])
        self.keys, self.values = (np.empty(shape, dtype=np.uint8) for _ in range(2))
        scaled = kind in SCALED_CACHES
        self.key_scales = np.empty(heads, dtype=np.float32) if scaled else None
        self.value_scales = np.empty(heads, dtype=np.float32) if scaled else None

    def parts(self) -> list[Array]:
        """Return the arrays of the cache; the pages are their second dimension."""
        every = (self.keys, self.values, self.key_scales, self.value_scales)
        return [part for part in every if part is not None]

    def fields(self) -> CacheFields:
        """Return what native/module.cpp takes."""
        every = (self.keys, self.values, self.key_scales, self.value_scales)
        keys, values, key_scales, value_scales = (native.array_address(part) for part in every)
        number = CACHE_NUMBERS[self.kind]
        return number, keys, values, key_scales, value_scales, self.pages, self.page_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The next tokens of one sequence."""

    ids: Sequence[int]
    held: int  # tokens of the sequence that the cache holds already
    pages: Sequence[int]  # where its tokens lie, in order; room for the new ones included
    wants_all: bool = False  # the logits after every token, not only after the last


class Decoder:
    """A model as the kernels see it; weights stay where they are."""

    def __init__(
        self,
        config: ModelConfig,
        matrices: Mapping[str, WeightMatrix],
        norms: Mapping[str, NDArray[np.float32]],
        freqs: Sequence[float],
        *,
        level: str,
    ) -> None:
        """Take a model in.

        Args:
            matrices: by the names of their modules, such as `blocks.0.attn.wq`; they `fit`.
            norms: by the names of their weights.
            freqs: that RoPE turns by.
            level: of the kernels.
        """
        self.config = config
        self.cache_kind: CacheName = "f32" if matrices[_FIRST].format == "f32" else "bf16"
        self._held = matrices, norms  # the kernels know their addresses alone
        fields = {name: matrix.fields() for name, matrix in matrices.items()}
        layers = []
        for i in range(config.layers):
            block = f"blocks.{i}"
            own = [norms[f"{block}.{name}_norm.weight"] for name in ("attn", "mlp")]
            layers.append((
                *(native.array_address(norm) for norm in own),
                [fields[f"{block}.{name}"] for name in _MATRICES],
            ))  # fmt: skip
        c = config
        self._decoder = native.extension().Decoder(
            level,
            (c.width, c.heads, c.kv_heads, c.head_width, c.mlp_width, c.vocab, c.norm_eps),
            layers,
            fields["embed"],
            fields.get("head", fields["embed"]),
            native.array_address(norms["norm.weight"]),
            list(freqs),
        )

    def step(self, parts: Sequence[Part], cache: Cache) -> NDArray[np.float32]:
        """Read the tokens of every part and return logits.

        Returns:
            [B, V] after the last token of each part; more rows where a part wants all.
        Raises:
            RequestError: an id is not in the vocabulary, or a part has no tokens.
            ContextError: a part's pages, or the model's context, have no room for its tokens.
        """
        check_parts(parts, cache, self.config)
        wanted = sum(len(part.ids) if part.wants_all else 1 for part in parts)
        logits = np.empty((wanted, self.config.vocab), dtype=np.float32)
        given = [(part.ids, part.held, part.pages, part.wants_all) for part in parts]
        address = native.array_address(logits)
        self._decoder.step(given, cache.fields(), address, native.threads())
        return logits


def check_parts(parts: Sequence[Part], cache: Cache, config: ModelConfig) -> None:
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


def matrix_names(config: ModelConfig, *, has_head: bool) -> set[str]:
    """Name the matrices that a model must have."""
    names = {"embed", "head"} if has_head else {"embed"}
    for i in range(config.layers):
        names |= {f"blocks.{i}.{name}" for name in _MATRICES}
    return names


def fit(matrices: Mapping[str, WeightMatrix], config: ModelConfig) -> bool:
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
