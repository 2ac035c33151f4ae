"""How an assistant writes its calls of functions: as JSON, in a function tag, or as a Python list.

A model is taught one style by the instruction that shows it the functions; its earlier calls are
written in the same one. Built-in tools and code have forms of their own in every style, which
`puna.chat.calls` writes. Whatever is written here is read back by `puna.chat.parse`.

Source: Meta, prompt formats of Llama 3.1 and 3.2, the responses of their examples.
"""

import itertools
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from puna.chat.calls import as_json, write_calls
from puna.chat.declared import CODE_INTERPRETER
from puna.chat.messages import ToolCall
from puna.errors import ConfigError, RequestError

STYLES = ("json", "function_tag", "python_list")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """How a dialect shows functions to a model, and how the model calls them."""

    style: str = "json"  # one of STYLES
    place: str | None = None  # "user" or "system" message; None: where the style's examples have it
    meta_compat: bool = False  # as Meta's examples print it, also where they follow no rule

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError(f"chat: tool_style={self.style!r}; one of {STYLES} is expected.")
        if self.place not in (None, "user", "system"):
            raise ConfigError(f"chat: tools_in={self.place!r}; 'user' or 'system' is expected.")

    @property
    def in_system(self) -> bool:
        """Whether functions are described in the system message."""
        return (self.place or ("system" if self.style == "python_list" else "user")) == "system"


_NAME = re.compile(r"[^\W\d]\w*")
_TAG_NAME = re.compile(r"[^<>\s{}]+")
_ESCAPES = {ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"} | {
    **{code: f"\\u{code:04x}" for code in (*range(9), 11, 12, *range(14, 32), 127)},
}


def written_calls(
    calls: Sequence[ToolCall], *, builtins: Collection[str], form: ToolFormat, tagged: bool
) -> list[str]:
    """Write the calls of one message: one text, or several that each follow a python tag.

    Code takes everything up to the next tag, so that it stands alone. A Python list cannot hold a
    built-in call; beside one, functions are written as JSON.

    Args:
        tagged: whether the text will follow a python tag. There Meta prints JSON over several
            lines, and texts in a list in double quotes.
    Raises:
        RequestError: a name or a value has no written form.
    """
    require_json(calls)
    as_printed = form.meta_compat and tagged
    texts: list[str] = []
    for is_code, group in itertools.groupby(calls, lambda call: call.name == CODE_INTERPRETER):
        run = list(group)
        if is_code:
            texts += [write_calls([call], builtins=builtins, typed=tagged) for call in run]
        elif form.style == "json" or any(call.name in builtins for call in run):
            texts.append(write_calls(run, builtins=builtins, typed=tagged, in_lines=as_printed))
        elif form.style == "function_tag":
            texts.append("".join(map(_as_tag, run)))
        else:
            quote = '"' if as_printed else "'"
            texts.append(f"[{', '.join(_as_python(call, quote) for call in run)}]")
    return texts


def require_json(calls: Sequence[ToolCall]) -> None:
    """Refuse arguments that are no JSON: a model could not read them back."""
    for call in calls:
        try:
            json.dumps(call.arguments, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(
                f"tool call of {call.name!r}: the arguments cannot be written as JSON ({error}); "
                "a JSON object is expected."
            ) from None


def _as_tag(call: ToolCall) -> str:
    if not _TAG_NAME.fullmatch(call.name):
        raise RequestError(
            f"tool call of {call.name!r}: the name has no place in a function tag, which ends "
            "names at white space, braces and angle brackets. Rename the function."
        )
    return f"<function={call.name}>{as_json(dict(call.arguments))}</function>"


def _as_python(call: ToolCall, quote: str) -> str:
    for name in (call.name, *call.arguments):
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"tool call of {call.name!r}: {name!r} is not an identifier, which a call in a "
                "Python list needs. Rename it, or use tool_style='json'."
            )
    given = json.loads(json.dumps(call.arguments))  # lists, texts and numbers of no other class
    try:
        arguments = [f"{name}={_literal(value, quote)}" for name, value in given.items()]
    except RecursionError:
        raise RequestError(
            f"tool call of {call.name!r}: the arguments are nested too deeply for a Python list. "
            "Use tool_style='json'."
        ) from None
    return f"{call.name}({', '.join(arguments)})"


def _literal(value: object, quote: str) -> str:
    """Write a JSON value as a Python literal."""
    if isinstance(value, str):
        return quote + value.translate(_ESCAPES).replace(quote, "\\" + quote) + quote
    if isinstance(value, dict):
        items = (f"{_literal(key, quote)}: {_literal(item, quote)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_literal(item, quote) for item in value)}]"
    return repr(value)
