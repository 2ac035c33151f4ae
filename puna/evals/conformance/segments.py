"""Text with control tokens in it, in which the two cannot be taken for each other.

A string holds `<|eot_id|>` whether the renderer put it there or a user typed it; segments say
which: control tokens are `Control`, everything else is text. Vectors, renderers and parsers of the
suite exchange segments; in JSON a control token is `{"control": "<|eot_id|>"}`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import EDITIONS, special_names

NAMES = frozenset(name for edition in EDITIONS for name in special_names(edition))
_NAME = re.compile("|".join(map(re.escape, sorted(NAMES, key=len, reverse=True))))


@dataclass(frozen=True, slots=True)
class Control:
    """A control token."""

    name: str

    def __str__(self) -> str:
        return self.name


Segments = tuple[str | Control, ...]


def merged(parts: Iterable[str | Control]) -> Segments:
    """Join texts that stand beside each other, and leave empty ones out."""
    out: list[str | Control] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)


def joined(segments: Sequence[str | Control]) -> str:
    """Return the text with the names of its control tokens."""
    return "".join(map(str, segments))


def split(text: str) -> Segments:
    """Take every name of a control token for that token, as software that works on text does."""
    parts: list[str | Control] = []
    at = 0
    for match in _NAME.finditer(text):
        parts += [text[at : match.start()], Control(match.group())]
        at = match.end()
    return merged([*parts, text[at:]])


def from_json(parts: Iterable[Any]) -> Segments:
    """Read segments as vectors hold them."""
    return merged(Control(p["control"]) if isinstance(p, dict) else str(p) for p in parts)


def to_json(segments: Iterable[str | Control]) -> list[Any]:
    """Return segments as vectors hold them."""
    return [{"control": part.name} if isinstance(part, Control) else part for part in segments]


def from_ids(tok: Tokenizer, ids: Sequence[int]) -> Segments:
    """Return what ids say; only the ids of control tokens are control tokens."""
    names = {number: name for name, number in tok.specials.items()}
    parts: list[str | Control] = []
    run: list[int] = []
    for token in ids:
        if token in names:
            parts += [tok.decode(run), Control(names[token])]
            run = []
        else:
            run.append(token)
    return merged([*parts, tok.decode(run)])


def to_ids(tok: Tokenizer, segments: Iterable[str | Control]) -> list[int]:
    """Return the ids of segments, each text encoded by itself."""
    ids: list[int] = []
    for part in segments:
        ids += [tok.specials[part.name]] if isinstance(part, Control) else tok.encode(part)
    return ids
