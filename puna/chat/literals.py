"""Values written in an answer, as JSON or as Python literals, read without evaluating anything.

Models mix both spellings (`true` and `True`, either quote, real line breaks in strings, a comma
after the last item), and an answer can hold anything at all. So these readers take text as it
arrives (`puna.chat.incoming`), stop at the first character that no value could have, and keep what
is open on a list of their own: values may nest as deep as they like. `write_json` writes them back,
at any depth.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from puna.chat.incoming import Incoming, Reading, read_whole

_LONGEST = 4000  # characters of a number; Python itself reads integers of up to 4,300 digits

_BARE = re.compile(r"[\w.+-]*", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(?:\d+(?P<point>\.)?\d*|(?P<first>\.)\d+)(?P<exponent>[eE][+-]?\d+)?", re.ASCII
)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_PLAIN = {'"': re.compile(r'[^"\\]*'), "'": re.compile(r"[^'\\]*")}
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"} | {c: c for c in "\"'\\/"}
_CLOSINGS = {"{": "}", "[": "]"}


class NoValueError(Exception):
    """No value stands here: a reader says so to the reader that called it."""


def read_value(source: Incoming) -> Reading[Any]:
    """Read one value of any kind, and white space before it.

    Raises:
        NoValueError: the text stops being a value at `source.at`, or ends inside it.
    """
    containers: list[Any] = []  # that are open, outermost first
    keys: list[str] = []  # one for each of them that is an object
    while True:
        first = yield from source.sign_after_space()
        if first in _CLOSINGS:
            source.at += 1
            value: Any = {} if first == "{" else []
            if (yield from source.sign_after_space()) != _CLOSINGS[first]:
                containers.append(value)
                if first == "{":
                    keys.append((yield from read_key(source)))
                continue
            source.at += 1
        elif first in _PLAIN:
            value = yield from read_string(source)
        else:
            value = yield from _bare(source)
        while containers:
            inner = containers[-1]
            is_object = isinstance(inner, dict)
            if is_object:
                inner[keys.pop()] = value
            else:
                inner.append(value)
            sign = yield from source.sign_after_space()
            if sign == ",":
                source.at += 1
                sign = yield from source.sign_after_space()
                if sign != ("}" if is_object else "]"):
                    if is_object:
                        keys.append((yield from read_key(source)))
                    break  # the next item
            elif sign != ("}" if is_object else "]"):
                raise NoValueError
            source.at += 1
            value = containers.pop()
        else:
            return value


def read_key(source: Incoming) -> Reading[str]:
    """Read the key of an object, and its colon."""
    key = yield from read_string(source)
    if (yield from source.sign_after_space()) != ":":
        raise NoValueError
    source.at += 1
    return key


def read_string(source: Incoming) -> Reading[str]:
    """Read a quoted string; an unknown escape stands for itself, as in Python."""
    quote = yield from source.sign()
    if quote not in _PLAIN:
        raise NoValueError
    plain = _PLAIN[quote]
    parts: list[str] = []
    source.at += 1
    while True:
        match = plain.match(source.text, source.at)
        assert match is not None  # the pattern matches the empty text too
        parts.append(match.group())
        source.at = match.end()
        sign = yield from source.sign()
        if not sign:
            raise NoValueError
        if sign == quote:
            source.at += 1
            return _joined_surrogates("".join(parts))
        if sign == "\\":
            source.at += 1
            parts.append((yield from _escape(source)))


def value_of(text: str) -> Any:
    """Return the value that a whole text is; raises NoValueError where it is none, or more."""
    source = Incoming(text, is_closed=True)
    value = read_whole(read_value(source))
    if read_whole(source.sign_after_space()):
        raise NoValueError
    return value


def write_json(value: object) -> str:
    """JSON with every character as itself; values may be nested more deeply than `json` allows."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "".join(_pieces(value))


def _pieces(value: object) -> Iterator[str]:
    """Write one value piece by piece, keeping the containers that are open on a list."""
    open_: list[tuple[Iterator[tuple[str, object]], str]] = [(iter([("", value)]), "")]
    while open_:
        items, closing = open_[-1]
        head, item = next(items, (closing, open_))
        yield head
        if item is open_:  # no item is left
            open_.pop()
        elif isinstance(item, dict):
            open_.append((_entries(item), "}"))
            yield "{"
        elif isinstance(item, list | tuple):
            open_.append((((", " if n else "", inner) for n, inner in enumerate(item)), "]"))
            yield "["
        else:
            yield json.dumps(item, ensure_ascii=False)


def _entries(given: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield what stands before each value of an object, and the value."""
    for n, (key, value) in enumerate(given.items()):
        yield f"{', ' if n else ''}{json.dumps(key, ensure_ascii=False)}: ", value


def _bare(source: Incoming) -> Reading[int | float | bool | None]:
    """Read a number, or one of the words for true, false and nothing."""
    text = yield from source.run(_BARE, limit=_LONGEST)
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None or len(text) > _LONGEST:
        raise NoValueError
    if number["point"] is None and number["first"] is None and number["exponent"] is None:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise NoValueError
    return value


def _escape(source: Incoming) -> Reading[str]:
    """Read what follows a backslash."""
    sign = yield from source.sign()
    if sign != "u":
        source.at += len(sign)
        return _ESCAPES.get(sign, "\\" + sign)
    source.at += 1
    digits = ""
    while len(digits) < 4:
        digit = yield from source.sign()
        if digit not in _HEX:
            return "\\u" + digits
        source.at += 1
        digits += digit
    return chr(int(digits, 16))


def _joined_surrogates(text: str) -> str:
    """Join escaped surrogate pairs; a half without its other half becomes U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
