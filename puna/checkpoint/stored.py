"""A checkpoint as every format presents it: a configuration, and tensors read when asked for.

The readers of this room (huggingface, meta, gguf, llama2c) each return a `Checkpoint`; loading,
conversion and inspection know nothing else. Names and row order are puna's own: a reader permutes
where its format differs.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from puna.checkpoint.names import Dialect, places, rope_heads
from puna.errors import FormatError, NotFoundError
from puna.model.config import ModelConfig
from puna.tokenizer.interface import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from puna.checkpoint.panels import Panels
    from puna.ops.lowbit import Packed
    from puna.quant.codes import Codes
    from puna.quant.fp8 import Fp8Weight
    from puna.quant.words import Words

Low: TypeAlias = "Codes | Words | Fp8Weight"  # a matrix in few bits, as it is made
Kind = Literal["huggingface", "meta", "gguf", "llama2c", "run"]

_EXPERTS = re.compile(r"experts|block_sparse_moe|_exps\b|ffn_gate_inp")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor that lies in a file: what its header says of it, and how to read it."""

    shape: tuple[int, ...]
    dtype: str  # as the file stores it: F32, BF16, Q4_K, ...
    stored_bytes: int
    read: "Callable[[torch.dtype | None], Tensor]"  # None: the dtype that holds what is stored
    # Its codes as they are stored; None: it has none.
    low: "Callable[[], Low | Packed] | None" = None
    # The same laid out for the kernels, sooner and in less memory than by way of `low`. It takes
    # what reorders rows, and answers None where the kernels do not know the codes.
    packed: "Callable[..., Packed | None] | None" = None
    # What is stored as numpy maps it, bfloat16 in words of 16 bits; or the panels that it is made
    # of. Neither needs torch. None: something must be done to it before it is a weight.
    array: "Callable[[], np.ndarray[Any, Any]] | None" = None
    panels: "Panels | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One model on disk. Opening reads headers only; `tensor` maps or reads one tensor."""

    kind: Kind
    path: Path
    config: ModelConfig
    tensors: Mapping[str, StoredTensor]
    find_tokenizer: Callable[[], Tokenizer | None]
    chat_template: str | None = None
    stop_ids: tuple[int, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)  # fact -> where it came from

    @property
    def has_narrow_embedding(self) -> bool:
        """Whether tokens are looked up in bfloat16 beside matrices of few bits and a head."""
        is_low = self.tensors["blocks.0.mlp.down.weight"].low is not None
        is_narrow = self.tensors["embed.weight"].dtype == "BF16"
        return is_low and is_narrow and not self.config.tied

    def tensor_names(self) -> tuple[str, ...]:
        """Return puna's names of all tensors, embedding first."""
        return tuple(self.tensors)

    def tensor(self, name: str, dtype: "torch.dtype | None" = None) -> "Tensor":
        """Read one tensor in puna's layout; a view of the mapped file where the format allows.

        Args:
            dtype: what it is read as; None keeps what is stored, and makes quantized ones float32.
        """
        if name not in self.tensors:
            raise NotFoundError(f"{self.path}: there is no tensor '{name}' in this checkpoint.")
        return self.tensors[name].read(dtype)

    def tokenizer(self) -> Tokenizer | None:
        """Load the tokenizer that lies with the weights, or return None where there is none."""
        return self.find_tokenizer()

    def weights(self) -> "Mapping[str, Tensor]":
        """Return the tensors as a mapping that reads each one at the moment it is asked for."""
        return _Lazy(self)


class _Lazy(Mapping[str, "Tensor"]):
    """A state dictionary that holds no tensor."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self._checkpoint.tensors:
            raise KeyError(name)
        return self._checkpoint.tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self._checkpoint.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._checkpoint.tensors)

    def __len__(self) -> int:
        return len(self._checkpoint.tensors)


def adopt(
    found: Mapping[str, StoredTensor],
    config: ModelConfig,
    dialect: Dialect,
    *,
    where: str,
    interleaved: bool,
) -> dict[str, StoredTensor]:
    """Give foreign tensors puna's names and row order, and refuse any that does not fit.

    Args:
        found: tensors under the dialect's names, without those that carry no weights.
        interleaved: the file keeps RoPE's pairs side by side.
    Raises:
        FormatError: a tensor is missing, too many, or of another shape than the configuration says.
    """
    if config.layers > len(found):
        raise FormatError(
            f"{where}: the configuration names {config.layers} layers; the file holds only "
            f"{len(found)} tensors. The two do not belong together."
        )
    tensors = {}
    for place in places(config, dialect):
        if place.name not in found:
            raise FormatError(
                f"{where}: the tensor '{place.name}' is missing; its shape should be "
                f"{list(place.shape)}. Download the checkpoint again, or mend its configuration."
            )
        stored = found[place.name]
        if stored.shape != place.shape:
            raise FormatError(
                f"{where}: the tensor '{place.name}' has shape {list(stored.shape)}; the "
                f"configuration expects {list(place.shape)}. The two do not belong together."
            )
        heads = rope_heads(place.row, config) if interleaved else 0
        tensors[place.puna] = _half_split(stored, heads, place.name) if heads else stored
    _refuse_extra(found, {place.name for place in places(config, dialect)}, where)
    return tensors


def _half_split(stored: StoredTensor, heads: int, name: str) -> StoredTensor:
    from puna.checkpoint.layout import to_half_split
    from puna.ops.lowbit import Packed
    from puna.quant.fp8 import Fp8Weight
    from puna.quant.words import Words

    def turn(rows: "Tensor") -> "Tensor":
        return to_half_split(rows, heads, where=name)

    def low() -> Low:
        assert stored.low is not None
        given = stored.low()
        assert not isinstance(given, Packed), "panels lie in puna's own row order"
        if isinstance(given, Fp8Weight):
            return replace(given, codes=turn(given.codes), scales=turn(given.scales))
        if isinstance(given, Words):
            given = given.codes()
        zeros = None if given.zeros is None else turn(given.zeros)
        return replace(given, codes=turn(given.codes), scales=turn(given.scales), zeros=zeros)

    return replace(
        stored,
        read=lambda dtype: turn(stored.read(dtype)),
        low=None if stored.low is None else low,
        packed=None if stored.packed is None else partial(stored.packed, turn),
        array=None,
        panels=None,
    )


def _refuse_extra(found: Mapping[str, StoredTensor], known: set[str], where: str) -> None:
    for name in found:
        if name in known:
            continue
        if _EXPERTS.search(name):
            raise FormatError(
                f"{where}: the tensor '{name}' belongs to a mixture of experts; puna runs dense "
                "Llamas. Choose a dense model."
            )
        raise FormatError(
            f"{where}: the tensor '{name}' is not part of a Llama decoder of this configuration; "
            "leaving it out would change what the model computes. Choose a plain Llama checkpoint."
        )
