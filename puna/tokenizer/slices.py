"""Where long text is cut before byte-pair encoding, exactly as Meta's tokenizer cuts it.

The regular expression engine under tiktoken fails on very long strings and on very long runs, so
the reference cuts both. Cuts are visible to the merges, hence the same points here.
Source: llama-models `tokenizer.py`, `TIKTOKEN_MAX_ENCODE_CHARS` and `MAX_NO_WHITESPACES_CHARS`.
"""

import re
from collections.abc import Iterator

MAX_CHARS = 400_000
MAX_RUN_CHARS = 25_000  # of whitespace, or of anything else

# A run longer than MAX_RUN_CHARS covers at least one whole block of half that length on a grid, so
# looking at the blocks finds out whether any text needs the slow search; ordinary text leaves each
# block at its first change between space and non-space.
_BLOCK_CHARS = MAX_RUN_CHARS // 2
_BLOCK = re.compile(rf"\s{{{_BLOCK_CHARS}}}|\S{{{_BLOCK_CHARS}}}")
_RUN = re.compile(r"\s+|\S+")


def slices(text: str) -> Iterator[str]:
    """Yield the parts of `text` that are encoded on their own; joined they are the text."""
    for start in range(0, len(text), MAX_CHARS):
        chunk = text if len(text) <= MAX_CHARS else text[start : start + MAX_CHARS]
        if _may_hold_long_run(chunk):
            yield from _cut_runs(chunk)
        else:
            yield chunk


def _may_hold_long_run(chunk: str) -> bool:
    return any(_BLOCK.match(chunk, at) for at in range(0, len(chunk), _BLOCK_CHARS))


def _cut_runs(chunk: str) -> Iterator[str]:
    """Start a new slice at the 25,001st character of a run, and every 25,000 further on."""
    start = 0
    for run in _RUN.finditer(chunk):
        for cut in range(run.start() + MAX_RUN_CHARS, run.end(), MAX_RUN_CHARS):
            yield chunk[start:cut]
            start = cut
    yield chunk[start:]
