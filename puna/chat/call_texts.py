"""Tool calls in the text of an answer: every written form, declared tools only.

The forms are those of the Llama 3 family: `name.call(query="...")` after the python tag, a JSON
object or several, `<function=name>{...}</function>`, and the list `[name(key=value), ...]` of
Llama 3.2 and 3.3. A call counts where an answer begins with it; nothing is searched for further on,
so that a broken call never gives way to another one inside its arguments.

Source: Meta, prompt formats of Llama 3.1 and 3.2.
"""

import re
from dataclasses import dataclass
from typing import Any

from puna.chat.declared import CODE_INTERPRETER
from puna.chat.literals import read_items, read_object, read_value, skip_space
from puna.chat.messages import ToolCall

_METHOD = re.compile(r"([^\W\d]\w*)(\.call)?(?=\()")
_NAME = re.compile(r"[^\W\d]\w*")
_TAG = re.compile(r"<function=([^<>\s{}]+)>\s*(?=\{)")
_TAG_END = re.compile(r"\s*</function>")
_SEPARATOR = re.compile(r"\s*;?\s*")
_UNESCAPED = re.compile(r'\(\s*([^\W\d]\w*)\s*=\s*"(.*)"\s*\)\s*', re.DOTALL)
_STATED_CALL = re.compile(r"""\s*(?:\{\s*["'](?:name|type)["']|<function=)""")
_OPENINGS = ("{", "[", "<function=")
OPENING_LENGTH = max(map(len, _OPENINGS))

Found = tuple[tuple[ToolCall, ...], str]  # the calls, and the text that is none


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


def may_become_call(start: str, tools: Callables) -> bool:
    """Whether an answer without python tag can be a call, by its first characters.

    Args:
        start: up to `OPENING_LENGTH` characters, without white space before them.
        tools: what may be called.
    """
    return bool(tools.declared) and any(
        start.startswith(opening[: len(start)]) for opening in _OPENINGS
    )


def calls_in_text(text: str, tools: Callables) -> Found:
    """Find the calls that an answer without python tag begins with."""
    at = skip_space(text, 0)
    calls = _read_list(text, at, tools.declared)
    if calls is not None:
        return calls, ""
    return _leading_calls(text, at, tools.declared, methods=frozenset())


def calls_after_tag(text: str, tools: Callables, *, is_complete: bool) -> Found:
    """Find the calls after a python tag; what is none of the written forms is code to run.

    Code that was cut off, `is_complete` being False, is not called: half a program is no program.
    """
    at = skip_space(text, 0)
    calls = _read_list(text, at, tools.names)
    if calls is not None:
        return calls, ""
    callables = tools.names - {CODE_INTERPRETER}
    calls, rest = _leading_calls(text, at, callables, methods=callables)
    if calls or CODE_INTERPRETER not in tools.names:
        return calls, rest
    method = _METHOD.match(text, at)
    is_broken_call = method is not None and bool(method[2]) and method[1] in callables
    if not is_complete or is_broken_call or _STATED_CALL.match(text) or not text.strip():
        return (), text
    return (ToolCall(name=CODE_INTERPRETER, arguments={"code": text}),), ""


def _leading_calls(text: str, at: int, names: frozenset[str], *, methods: frozenset[str]) -> Found:
    """Read calls from `at` on, with semicolons or white space between them."""
    calls: list[ToolCall] = []
    while True:
        read = (
            _read_json(text, at, names)
            or _read_function_tag(text, at, names)
            or _read_method(text, at, methods)
        )
        if read is None:
            break
        after = _SEPARATOR.match(text, read[1])
        end = after.end() if after else read[1]
        if end == read[1] and end < len(text) and text[end - 1] == ")":
            break  # something hangs on the call: `search.call(query="x").text` is code
        calls.append(read[0])
        at = end
    return (tuple(calls), text[at:]) if calls else ((), text)


def _read_json(text: str, at: int, names: frozenset[str]) -> tuple[ToolCall, int] | None:
    read = read_object(text, at) if text[at : at + 1] == "{" else None
    call = None if read is None else _object_call(read[0], names)
    return None if read is None or call is None else (call, read[1])


def _object_call(given: Any, names: frozenset[str]) -> ToolCall | None:
    """Take an object for a call only if it says so: a declared name, and arguments."""
    if not isinstance(given, dict) or given.get("type", "function") != "function":
        return None
    if isinstance(given.get("function"), dict):
        given = given["function"]
    name = given.get("name")
    if not isinstance(name, str) or name not in names:
        return None
    for key in ("parameters", "arguments"):
        if key in given:
            arguments = given[key]
            break
    else:
        return None
    if isinstance(arguments, str):  # JSON inside JSON, as OpenAI writes it
        read = read_object(arguments, 0) if arguments.startswith("{") else None
        arguments = read[0] if read is not None and read[1] == len(arguments) else arguments
    if arguments is None:
        arguments = {}
    return ToolCall(name=name, arguments=arguments) if isinstance(arguments, dict) else None


def _read_function_tag(text: str, at: int, names: frozenset[str]) -> tuple[ToolCall, int] | None:
    tag = _TAG.match(text, at)
    if tag is None or tag[1] not in names:
        return None
    read = read_object(text, tag.end())
    if read is None:
        return None
    closing = _TAG_END.match(text, read[1])
    return ToolCall(name=tag[1], arguments=read[0]), closing.end() if closing else read[1]


def _read_method(text: str, at: int, names: frozenset[str]) -> tuple[ToolCall, int] | None:
    """Read `name.call(key=value, ...)`, or `name(key=value, ...)`."""
    method = _METHOD.match(text, at)
    if method is None or method[1] not in names:
        return None
    read = _read_arguments(text, method.end()) or _read_unescaped(text, method.end())
    return None if read is None else (ToolCall(name=method[1], arguments=read[0]), read[1])


def _read_arguments(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """Read `(key=value, ...)`: keywords only, values only."""
    found: dict[str, Any] = {}

    def item(at: int) -> int | None:
        name = _NAME.match(text, at)
        equals = skip_space(text, name.end()) if name else at
        if name is None or name.group() in found or text[equals : equals + 1] != "=":
            return None
        value = read_value(text, skip_space(text, equals + 1))
        if value is None:
            return None
        found[name.group()] = value[0]
        return value[1]

    end = read_items(text, at, close=")", item=item)
    return None if end is None else (found, end)


def _read_unescaped(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """Read `(key="...")` up to the end of the answer, with bare quotes inside the value.

    The published template writes values so, and the released models learned it. The value must
    not hold the end of a call itself, which would make two calls one.
    """
    whole = _UNESCAPED.fullmatch(text, at)
    if whole is None or '")' in whole[2]:
        return None
    return {whole[1]: whole[2]}, len(text)


def _read_list(text: str, at: int, names: frozenset[str]) -> tuple[ToolCall, ...] | None:
    """Read an answer that is one list of calls, `[name(key=value), ...]` or JSON objects."""
    if text[at : at + 1] != "[":
        return None
    calls: list[ToolCall] = []

    def item(at: int) -> int | None:
        name = _NAME.match(text, at)
        if name is None:
            read = _read_json(text, at, names)
        else:
            arguments = _read_arguments(text, name.end()) if name.group() in names else None
            read = arguments and (ToolCall(name=name.group(), arguments=arguments[0]), arguments[1])
        if not read:
            return None
        calls.append(read[0])
        return read[1]

    end = read_items(text, at, close="]", item=item)
    return tuple(calls) if calls and end is not None and not text[end:].strip() else None
