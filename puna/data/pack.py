"""Documents and dialogs become token shards.

Documents follow one another, each opened by BOS and closed by the end-of-text
token, and a training row is any window of that stream. Rows of dialogs are never cut: as many
as fit make a row, the rest of which is padding that nobody sees and nobody predicts.
Source: The Llama 3 Herd of Models, section 3.2 (no attention across documents).
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from puna.data.shards import Piece, write_shards
from puna.errors import ContextError, StateError
from puna.tokenizer.interface import Tokenizer


def pack_documents(texts: Iterable[str], tokenizer: Tokenizer, folder: Path) -> int:
    """Write documents as one stream, in the order given, and return the number of tokens.

    Training reads windows of the stream in an order of its own, so the documents need no shuffling.

    Raises:
        StateError: there are no documents.
    """
    pieces = (Piece(ids=tokenizer.encode(text, bos=True, eos=True)) for text in texts if text)
    first = next(pieces, None)
    if first is None:
        raise StateError("pack: no documents were given; curation must leave at least one.")
    return write_shards(itertools.chain([first], pieces), folder, vocab=tokenizer.vocab)


def pack_rows(
    prompts: Iterable[tuple[Sequence[int], Sequence[int]]],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    sequence: int,
) -> int:
    """Write (ids, loss mask) pairs as rows of exactly `sequence` tokens; return the tokens.

    For what must be read whole: dialogs, and questions about facts far above.

    Raises:
        ContextError: one of them is longer than a row.
    """
    pad = tokenizer.pad_id if tokenizer.pad_id is not None else 0
    rows = _rows(prompts, sequence=sequence, pad=pad)
    return write_shards(rows, folder, vocab=tokenizer.vocab, facts={"sequence": sequence})


def cut_document(ids: Sequence[int], *, sequence: int) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a document's tokens into parts that fit a row; every token of them is a target."""
    for start in range(0, len(ids), sequence):
        part = list(ids[start : start + sequence])
        yield part, [1] * len(part)


def _rows(
    prompts: Iterable[tuple[Sequence[int], Sequence[int]]], *, sequence: int, pad: int
) -> Iterator[Piece]:
    """Fill rows in order: a dialog goes into the first open row with room, of the last eight."""
    rows: list[tuple[list[int], list[int], list[int]]] = []
    for ids, mask in prompts:
        if len(ids) > sequence:
            raise ContextError(
                f"pack: {len(ids)} tokens that belong together were given; a row holds {sequence}. "
                "Raise the sequence length or leave them out."
            )
        row = next((r for r in rows if len(r[0]) + len(ids) <= sequence), None)
        if row is None:
            row = ([], [], [])
            rows.append(row)
        row[2].append(len(row[0]))
        row[0].extend(ids)
        row[1].extend(mask)
        if len(rows) > 8:
            yield _padded(rows.pop(0), sequence, pad)
    yield from (_padded(row, sequence, pad) for row in rows)


def _padded(row: tuple[list[int], list[int], list[int]], sequence: int, pad: int) -> Piece:
    ids, mask, starts = row
    room = sequence - len(ids)
    ends = [len(ids)] if room else []
    return Piece(ids=ids + [pad] * room, mask=mask + [0] * room, starts=starts + ends)
