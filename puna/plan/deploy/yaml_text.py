"""Plain values as YAML, in the block style that people read and diff.

Only what the files of a deployment need: mappings, lists, strings, numbers, booleans. A string is
bare where no reader of YAML could take it for anything else, and quoted as in JSON otherwise.
Source: YAML 1.2.2, chapters 7 and 8; YAML 1.1 for the words that older readers take for booleans.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

Value = str | int | float | bool | Mapping[str, "Value"] | Sequence["Value"]

_BARE = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*(?: [A-Za-z0-9_/.-]+)*")
_WORDS = frozenset(
    ("y", "n", "yes", "no", "true", "false", "on", "off", "null", "~", ".", ".inf", ".nan")
)


def to_yaml(value: Mapping[str, Value], *, comment: str = "") -> str:
    """Return one document, with a comment in front of it."""
    said = "".join(f"# {line}\n" for line in comment.splitlines())
    return said + "\n".join(_lines(value)) + "\n"


def documents(*texts: str) -> str:
    """Join documents into one file."""
    return "---\n".join(texts)


def _lines(value: Value) -> Iterator[str]:
    """Yield the lines of a value; those of an entry stand two columns to the right of it."""
    if not _is_block(value):
        yield _scalar(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item)
    elif isinstance(value, Sequence):
        for item in value:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from ("  " + line for line in rest)


def _entry(key: str, item: Value) -> Iterator[str]:
    if _is_block(item):
        yield key
        yield from ("  " + line for line in _lines(item))
    else:
        yield f"{key} {next(_lines(item))}"


def _is_block(value: Value) -> bool:
    """Whether a value takes lines of its own; an empty one is written in place."""
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)


def _scalar(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return json.dumps(value)
        case str():
            is_bare = _BARE.fullmatch(value) and value.lower() not in _WORDS
            return value if is_bare else json.dumps(value, ensure_ascii=False)
        case Mapping():
            return "{}"
        case _:
            return "[]"
