"""Merge lists: what `tokenizer.json` and GGUF keep where a rank file keeps only the order.

A rank file lets any two neighbours merge whose bytes together are a token, whichever way the token
was made. A list that says the same holds every way to split a token into two tokens; this is also
what the published files of Llama 3 hold: 280,147 merges for 128,000 ranks.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from puna.errors import FormatError

Text = TypeVar("Text", str, bytes)


def merges_of(ids: Mapping[Text, int], order: Iterable[Text]) -> list[tuple[Text, Text]]:
    """Return every pair of tokens that makes a token, in the order in which results merge.

    Args:
        ids: the tokens that may be halves of a merge.
        order: the tokens to make, the ones that merge first standing first.
    """
    merges: list[tuple[Text, Text]] = []
    for token in order:
        pairs = [
            (left, right)
            for n in range(1, len(token))
            if (left := token[:n]) in ids and (right := token[n:]) in ids
        ]
        if len(pairs) > 1:
            pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += pairs
    return merges


def split_merges(merges: Sequence[object], *, where: str) -> list[Sequence[str]]:
    """Read merges written as `"left right"` or as `["left", "right"]`."""
    pairs: list[Any] = [tuple(m.split(" ")) if type(m) is str else m for m in merges]
    if not _are_pairs(pairs):  # 280,147 of them: one look at all is five times as fast
        n = next(n for n, pair in enumerate(pairs) if not _are_pairs([pair]))
        raise FormatError(
            f"{where}: merge {n} is {merges[n]!r}; two tokens are expected. "
            "The file is damaged: copy it again."
        )
    return pairs


def _are_pairs(pairs: Sequence[Any]) -> bool:
    return (
        {*map(type, pairs)} <= {list, tuple}
        and {*map(len, pairs)} <= {2}
        and {*map(type, chain.from_iterable(pairs))} <= {str}
        and "" not in chain.from_iterable(pairs)
    )


def merges_follow_ids(ids: Mapping[str, int], merges: Iterable[Sequence[str]]) -> bool:
    """Tell whether merges come in the order of the ids they make, so that ids are ranks."""
    made = [ids.get(token, -1) for token in map("".join, merges)]
    return -1 not in made and made == sorted(made)
