"""The written forms of a tool call, each read by one function while its text arrives.

The forms are those of the Llama 3 family: `name.call(query="...")`, a JSON object,
`<function=name>{...}</function>`, and the list `[name(key=value), ...]` of Llama 3.2 and 3.3. A
reader returns the call or raises at the first character that shows that none is coming;
`puna.chat.call_texts` decides where calls may stand.

Source: Meta, prompt formats of Llama 3.1 and 3.2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from puna.chat.declared import BUILTINS, CODE_INTERPRETER
from puna.chat.incoming import Incoming, Reading
from puna.chat.literals import NoValueError, read_key, read_value, value_of
from puna.chat.messages import ToolCall

FUNCTION_TAG = "<function="
_TAG_END = "</function>"

# Keys that may stand before the name of a call; an object with any other one there is data.
_CALL_KEYS = frozenset({"type", "id", "name", "function", "parameters", "arguments"})
_STATING_KEYS = frozenset({"type", "name", "function"})  # an object that begins so means a call
_LONGEST_NAME = 200  # characters of a keyword
_WORD = re.compile(r"\w*")
_TO_QUOTE = re.compile(r'[^"]*')
_END_OF_CALL = re.compile(r'"\s*\)')


class NoCallError(Exception):
    """Nothing that stands here begins a call."""


class OtherValueError(NoCallError):
    """What stands here begins like a call, and is some other value."""


class BrokenCallError(NoCallError):
    """What stands here says that it is a call, and is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callables:
    """What an answer may call.

    `declared` are the names the request gave. `builtins` may be called after the python tag; where
    a request says nothing about tools they are Llama's own, and nothing is declared.
    """

    builtins: frozenset[str]
    declared: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        """Every name that may be called."""
        return self.builtins | self.declared

    def call(self, name: str, arguments: dict[str, Any], *, is_method: bool = False) -> ToolCall:
        """Return a call whose arguments its tool can take, so that it can be written again too.

        Llama's own tools take one query, whatever a call in the form of a function names it.
        """
        if name == CODE_INTERPRETER and name in self.builtins:
            if arguments.keys() != {"code"} or not isinstance(arguments["code"], str):
                raise BrokenCallError
        elif name in self.builtins and not is_method:
            if name in BUILTINS and arguments:
                arguments = {"query": arguments.get("query", next(iter(arguments.values())))}
            if not all(key.isidentifier() for key in arguments):
                raise BrokenCallError
        return ToolCall(name=name, arguments=arguments)


def read_object_call(
    source: Incoming, names: frozenset[str], tools: Callables
) -> Reading[ToolCall]:
    """Read a JSON object that calls: a declared name, and arguments."""
    source.at += 1
    if (yield from source.sign_after_space()) not in ("'", '"'):
        raise NoCallError
    given: dict[str, Any] = {}
    states = False
    try:
        sign = ","
        while sign != "}":
            key = yield from read_key(source)
            states = states or (not given and key in _STATING_KEYS)
            if key in given or ("name" not in given and key not in _CALL_KEYS):
                raise NoValueError
            given[key] = yield from read_value(source)
            _require_call_so_far(given, names)
            sign = yield from source.sign_after_space()
            if sign == ",":
                source.at += 1
                sign = yield from source.sign_after_space()
            elif sign != "}":
                raise NoValueError
        source.at += 1
        return _object_call(given, names, tools)
    except NoValueError:
        raise (BrokenCallError if states else OtherValueError) from None


def _require_call_so_far(given: dict[str, Any], names: frozenset[str]) -> None:
    """Stop as soon as an object can be no call any more."""
    function = given.get("function", {})
    if isinstance(function, str):
        function = {"name": function}
    if not isinstance(function, dict) or given.get("type", "function") != "function":
        raise NoValueError
    for part in (given, function):
        name = part.get("name")
        if "name" in part and not (isinstance(name, str) and name in names):
            raise NoValueError


def _object_call(given: dict[str, Any], names: frozenset[str], tools: Callables) -> ToolCall:
    """Make the call of an object that was read to its end."""
    function = given.get("function")
    if isinstance(function, dict):
        given = function
    elif function is not None:
        given = {"name": function, **given}
    name = given.get("name")
    for key in ("parameters", "arguments"):
        if key in given:
            arguments = given[key]
            break
    else:
        raise NoValueError
    if isinstance(arguments, str):  # JSON inside JSON, as OpenAI writes it
        arguments = value_of(arguments)
    if arguments is None:
        arguments = {}
    if name not in names or not isinstance(arguments, dict):
        raise NoValueError
    return tools.call(name, arguments)


def read_tag_call(source: Incoming, names: frozenset[str], tools: Callables) -> Reading[ToolCall]:
    """Read `<function=name>{...}`; the closing tag is left to `skip_closing_tag`."""
    if not (yield from source.starts_with(FUNCTION_TAG)):
        raise NoCallError
    try:
        name = yield from _read_name(source, names, end=">")
        source.at += 1
        if (yield from source.sign_after_space()) != "{":
            raise NoValueError
        arguments = yield from read_value(source)
    except (NoValueError, NoCallError):
        raise BrokenCallError from None
    return tools.call(name, arguments)


def skip_closing_tag(source: Incoming) -> Reading[None]:
    """Take `</function>`, whole or cut off by the end of the answer, where it stands."""
    yield from source.sign_after_space()
    taken = ""
    for letter in _TAG_END:
        sign = yield from source.sign()
        if sign != letter:
            if sign or taken == "<":
                source.unread(taken)
            return
        source.at += 1
        taken += letter


def read_list_calls(
    source: Incoming, names: frozenset[str], tools: Callables
) -> Reading[list[ToolCall]]:
    """Read `[name(key=value), ...]`, or a list of JSON objects, on lines of its own."""
    source.at += 1
    calls: list[ToolCall] = []
    try:
        sign = yield from source.sign_after_space()
        while sign != "]" or not calls:
            if sign == "{":
                calls.append((yield from read_object_call(source, names, tools)))
            else:
                name = yield from _read_name(source, names, end="(")
                calls.append(tools.call(name, (yield from _read_arguments(source))))
            sign = yield from source.sign_after_space()
            if sign == ",":
                source.at += 1
                sign = yield from source.sign_after_space()
            elif sign != "]":
                raise OtherValueError
        source.at += 1
        while (sign := (yield from source.sign())) in (" ", "\t"):
            source.at += 1
    except NoValueError:
        raise OtherValueError from None
    except NoCallError:
        raise (OtherValueError if calls else NoCallError) from None
    if sign not in ("", "\n", "\r"):
        raise OtherValueError
    return calls


def read_method_call(
    source: Incoming, names: frozenset[str], tools: Callables
) -> Reading[ToolCall]:
    """Read `name.call(key=value, ...)` or `name(key=value, ...)`, with nothing hanging on it."""
    spelled = {name: name for name in names} | {f"{name}.call": name for name in names}
    name = yield from _read_name(source, spelled, end="(")
    is_stated = name not in names
    try:
        arguments = yield from _read_arguments(source, with_bare_quotes=is_stated)
        sign = yield from source.sign()
        if sign and sign not in ";," and not sign.isspace():
            raise NoValueError  # `search.call(query="x").text` is code
    except NoValueError:
        raise (BrokenCallError if is_stated else OtherValueError) from None
    return tools.call(spelled[name], arguments, is_method=True)


def _read_name(source: Incoming, names: Iterable[str], *, end: str) -> Reading[str]:
    """Read one of `names` up to the sign after it; stop where none of them goes on so."""
    fitting = list(names)
    taken = 0
    while True:
        sign = yield from source.sign()
        if sign == end:
            for name in fitting:
                if len(name) == taken:
                    return name
        fitting = [name for name in fitting if sign and name.startswith(sign, taken)]
        if not fitting:
            raise NoCallError
        source.at += 1
        taken += 1


def _read_arguments(source: Incoming, *, with_bare_quotes: bool = False) -> Reading[dict[str, Any]]:
    """Read `(key=value, ...)`: keywords only, values only."""
    found: dict[str, Any] = {}
    quoted: tuple[str, int] | None = None  # the first keyword, and where its text begins
    source.at += 1
    try:
        sign = yield from source.sign_after_space()
        while sign != ")":
            name = yield from source.run(_WORD, limit=_LONGEST_NAME)
            if not name.isidentifier() or name in found or len(name) > _LONGEST_NAME:
                raise NoValueError
            if (yield from source.sign_after_space()) != "=":
                raise NoValueError
            source.at += 1
            if (yield from source.sign_after_space()) == '"' and not found:
                quoted = name, source.held_length + 1
            found[name] = yield from read_value(source)
            sign = yield from source.sign_after_space()
            if sign == ",":
                source.at += 1
                sign = yield from source.sign_after_space()
            elif sign != ")":
                raise NoValueError
    except NoValueError:
        if quoted is None or not with_bare_quotes:
            raise
        return {quoted[0]: (yield from _read_bare_text(source, quoted[1]))}
    source.at += 1
    return found


def _read_bare_text(source: Incoming, start: int) -> Reading[str]:
    """Read on to the end of a text that holds bare quotes, and of the answer with it.

    The published template writes values so, and the released models learned it. Nothing may follow:
    the text must not hold the end of a call itself, which would make two calls one.

    Args:
        source: stands where the text stopped being a value.
        start: where the text begins, in characters that are held.
    """
    if _END_OF_CALL.search(source.held, start):
        raise NoValueError
    while True:
        yield from source.run(_TO_QUOTE, limit=0)
        sign = yield from source.sign()
        if not sign:
            raise NoValueError
        if sign != '"':
            continue
        source.at += 1
        if (yield from source.sign_after_space()) == ")":
            break
    source.at += 1
    if (yield from source.sign_after_space()):
        raise NoValueError
    text = source.held
    return text[start : text.rindex('"')]
