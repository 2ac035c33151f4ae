"""What a checkpoint is, without loading it: shape, sizes, number formats, and their sources.

`puna inspect` prints it; nothing here reads more than headers and the tokenizer.
"""

from collections import Counter
from dataclasses import dataclass

from puna.checkpoint.stored import Checkpoint
from puna.model.config import ModelConfig
from puna.model.family import FAMILY, members_of
from puna.tokenizer.interface import Tokenizer

_CACHE_VALUE_BYTES = 2  # the KV cache in bfloat16 or float16


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The facts of one checkpoint."""

    path: str
    kind: str
    config: ModelConfig
    members: tuple[str, ...]  # of the family, with exactly this shape
    parameters: int
    weight_bytes: int
    dtypes: dict[str, int]  # number format -> weights stored in it
    cache_bytes_per_token: int
    tokenizer: str | None  # its class
    tokenizer_vocab: int | None
    has_chat_template: bool
    stop_ids: tuple[int, ...]
    sources: dict[str, str]


def inspect_checkpoint(checkpoint: Checkpoint, tokenizer: Tokenizer | None = None) -> Inspection:
    """Gather the facts of an open checkpoint.

    Args:
        tokenizer: what the checkpoint's `tokenizer()` gave, or one given by hand.
    """
    config = checkpoint.config
    dtypes: Counter[str] = Counter()
    for stored in checkpoint.tensors.values():
        count = 1
        for size in stored.shape:
            count *= size
        dtypes[stored.dtype] += count
    sources = dict(checkpoint.sources)
    stop_ids = checkpoint.stop_ids
    if not stop_ids and tokenizer is not None:
        stop_ids = tuple(sorted(tokenizer.stop_ids))
        sources["stop_ids"] = "the tokenizer"
    return Inspection(
        path=str(checkpoint.path),
        kind=checkpoint.kind,
        config=config,
        members=tuple(FAMILY[name].title for name in members_of(config)),
        parameters=config.parameters,
        weight_bytes=sum(stored.stored_bytes for stored in checkpoint.tensors.values()),
        dtypes=dict(dtypes.most_common()),
        cache_bytes_per_token=config.cache_bytes_per_token(_CACHE_VALUE_BYTES),
        tokenizer=None if tokenizer is None else type(tokenizer).__name__,
        tokenizer_vocab=None if tokenizer is None else tokenizer.vocab,
        has_chat_template=checkpoint.chat_template is not None,
        stop_ids=stop_ids,
        sources=sources,
    )
