"""Bits per byte: how well the model predicts text it never saw, beside programs that compress.

The measure does not depend on the tokenizer: the bits of all tokens of a document, given that it
begins, over its UTF-8 bytes. A compressor gets exactly the same bytes as one stream and may learn
from all that went before; the model begins each document anew.
"""

import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from puna.errors import ExtraError, RequestError
from puna.evals.intervals import bootstrap_ratio
from puna.evals.score import Score
from puna.model.llama import Llama
from puna.tokenizer.interface import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of one document that fits the context, of which the last tokens are scored."""

    document: int
    ids: tuple[int, ...]
    scored: int  # how many ids at the end of the window are predicted and counted


def windows(ids: Sequence[int], *, document: int, context: int) -> Iterator[Window]:
    """Cut BOS and its document into windows, so that each token but BOS is scored exactly once.

    A later window repeats a quarter of the context before the tokens it scores; without it their
    first tokens would be predicted from nothing.
    """
    done = 1  # BOS is given, not predicted
    while done < len(ids):
        start = 0 if done == 1 else done - context // 4
        end = min(len(ids), start + context)
        yield Window(document=document, ids=tuple(ids[start:end]), scored=end - done)
        done = end


@torch.inference_mode()
def bits_per_byte(
    model: Llama,
    tok: Tokenizer,
    documents: Sequence[str],
    *,
    name: str = "bits_per_byte",
    batch_tokens: int = 4096,
) -> Score:
    """Return the model's bits per byte on `documents`, with an interval over documents.

    Args:
        batch_tokens: tokens, padding included, that are read at once.
    """
    texts = [text for text in documents if text]
    if not texts:
        raise RequestError("bits per byte: no text was given; at least one document is expected.")
    cut: list[Window] = []
    tokens = 0
    for index, text in enumerate(texts):
        ids = tok.encode(text, bos=True)
        tokens += len(ids) - 1
        cut += windows(ids, document=index, context=model.config.context)
    bits = [0.0] * len(texts)
    for batch in _batches(cut, batch_tokens):
        for window, nats in zip(batch, _nats(model, batch), strict=True):
            bits[window.document] += nats / math.log(2)
    sizes = [len(text.encode()) for text in texts]
    low, high = bootstrap_ratio(bits, sizes)
    return Score(
        name=name,
        value=sum(bits) / sum(sizes),
        low=low,
        high=high,
        n=len(texts),
        unit="bits per byte",
        better="lower",
        detail={"bytes": sum(sizes), "tokens": tokens, "bytes_per_token": sum(sizes) / tokens},
    )


def compressors(documents: Sequence[str]) -> dict[str, float]:
    """Return the bits per byte of `xz -9` and `zstd -19` on the same bytes, as one solid stream."""
    try:
        import zstandard
    except ImportError as error:
        raise ExtraError(
            "the zstd baseline needs the extra `curate`: pip install 'puna[curate]'."
        ) from error
    stream = "".join(documents).encode()
    if not stream:
        raise RequestError("compressors: no text was given; at least one document is expected.")
    sizes = {
        "xz -9": len(lzma.compress(stream, preset=9)),
        "zstd -19": len(zstandard.ZstdCompressor(level=19).compress(stream)),
    }
    return {name: 8 * size / len(stream) for name, size in sizes.items()}


def _batches(cut: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Group windows of like length, so that little is padding."""
    batch: list[Window] = []
    for window in sorted(cut, key=lambda w: len(w.ids), reverse=True):
        if batch and (len(batch) + 1) * len(batch[0].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _nats(model: Llama, batch: Sequence[Window]) -> list[float]:
    """Return the nats of each window's scored tokens. Padding stands right, where none sees it."""
    width = max(len(window.ids) for window in batch)
    device = model.embed.weight.device
    ids = torch.zeros(len(batch), width, dtype=torch.int64)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
    ids = ids.to(device)
    hidden = model.hidden(ids[:, :-1])
    nats = []
    for row, window in enumerate(batch):
        # Position t predicts token t + 1; only scored positions meet the vocabulary.
        end = len(window.ids)
        scored = slice(end - window.scored, end)
        logits = model.logits(hidden[row, end - window.scored - 1 : end - 1])
        nats.append(F.cross_entropy(logits, ids[row, scored], reduction="sum").item())
    return nats
