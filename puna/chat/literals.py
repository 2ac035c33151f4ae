"""Values written in an answer, as JSON or as Python literals, read without evaluating anything.

Models mix both spellings (`true` and `True`, either quote, real line breaks in strings), and an
answer can hold anything at all. So these readers take a text and a position, return the value and
the position after it, and answer None where no complete value stands there. They never raise.
"""

import math
import re
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 64  # of lists and objects inside one another; deeper is no value
_MAX_DIGITS = 4000  # longer integers are no value; Python itself stops at 4,300

Read = tuple[Any, int] | None

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"-?\d+(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?(?![\w.])", re.ASCII)
_WORD = re.compile(r"true|false|null|True|False|None", re.ASCII)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_PLAIN = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_HEX = re.compile(r"u([0-9a-fA-F]{4})")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "/": "/"} | {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}


def skip_space(text: str, at: int) -> int:
    """Return the position of the next character that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def read_value(text: str, at: int, *, depth: int = 0) -> Read:
    """Read one value of any kind, without white space before it."""
    first = text[at : at + 1]
    if first in ("'", '"'):
        return read_string(text, at)
    if first == "{":
        return read_object(text, at, depth=depth)
    if first == "[":
        return _read_list(text, at, depth=depth)
    if number := _NUMBER.match(text, at):
        value = _number(number)
        return None if value is None else (value, number.end())
    if word := _WORD.match(text, at):
        return _WORDS[word.group()], word.end()
    return None


def read_string(text: str, at: int) -> Read:
    """Read a quoted string; an unknown escape stands for itself, as in Python."""
    quote = text[at : at + 1]
    if quote not in _PLAIN:
        return None
    parts: list[str] = []
    at += 1
    while True:
        plain = _PLAIN[quote].match(text, at)
        assert plain is not None  # the pattern matches the empty text too
        parts.append(plain.group())
        at = plain.end()
        if at >= len(text):
            return None
        if text[at] == quote:
            return _joined_surrogates("".join(parts)), at + 1
        part, at = _escape(text, at + 1)
        parts.append(part)


def read_object(text: str, at: int, *, depth: int = 0) -> Read:
    """Read an object whose keys are strings."""
    found: dict[str, Any] = {}

    def item(at: int) -> int | None:
        key = read_string(text, at)
        if key is None:
            return None
        colon = skip_space(text, key[1])
        if text[colon : colon + 1] != ":":
            return None
        value = read_value(text, skip_space(text, colon + 1), depth=depth + 1)
        if value is None:
            return None
        found[key[0]] = value[0]
        return value[1]

    end = read_items(text, at, close="}", item=item) if depth < MAX_DEPTH else None
    return None if end is None else (found, end)


def _read_list(text: str, at: int, *, depth: int) -> Read:
    found: list[Any] = []

    def item(at: int) -> int | None:
        value = read_value(text, at, depth=depth + 1)
        if value is None:
            return None
        found.append(value[0])
        return value[1]

    end = read_items(text, at, close="]", item=item) if depth < MAX_DEPTH else None
    return None if end is None else (found, end)


def read_items(text: str, at: int, *, close: str, item: Callable[[int], int | None]) -> int | None:
    """Read items separated by commas from the opening sign at `at`; return the end after `close`.

    `item` reads one item at a position and returns the position after it, or None.
    """
    at = skip_space(text, at + 1)
    if text[at : at + 1] == close:
        return at + 1
    while True:
        end = item(at)
        if end is None:
            return None
        at = skip_space(text, end)
        sign = text[at : at + 1]
        if sign == close:
            return at + 1
        if sign != ",":
            return None
        at = skip_space(text, at + 1)


def _number(match: re.Match[str]) -> int | float | None:
    digits = match.group()
    if match["fraction"] is None and match["exponent"] is None:
        return int(digits) if len(digits) <= _MAX_DIGITS else None
    value = float(digits)
    return value if math.isfinite(value) else None


def _escape(text: str, at: int) -> tuple[str, int]:
    """Read what follows a backslash."""
    if code := _HEX.match(text, at):
        return chr(int(code[1], 16)), code.end()
    sign = text[at : at + 1]
    return _ESCAPES.get(sign, "\\" + sign), at + 1


def _joined_surrogates(text: str) -> str:
    """Join escaped surrogate pairs; a half without its other half becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
