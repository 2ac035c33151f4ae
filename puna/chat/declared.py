"""Tools that a request declares: built-ins by name, functions by their JSON Schema.

The renderer shows them to the model; the parser takes nothing else for a call.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from puna.errors import RequestError

CODE_INTERPRETER = "code_interpreter"

# brave_search, wolfram_alpha and the code interpreter are Llama 3.1's own (Meta, prompt formats of
# Llama 3.1, "Tool Calling Formats"); the calculator is puna's, called in the same way.
BUILTINS = ("brave_search", "wolfram_alpha", "calculator", CODE_INTERPRETER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The tools of one request, in the order they were given."""

    builtins: tuple[str, ...] = ()
    functions: tuple[Mapping[str, Any], ...] = ()  # OpenAI's dictionaries, as given

    def __bool__(self) -> bool:
        return bool(self.builtins or self.functions)

    @property
    def names(self) -> frozenset[str]:
        """Every name that a call may have."""
        return frozenset((*self.builtins, *(tool["function"]["name"] for tool in self.functions)))


def declare(tools: Iterable[str | Mapping[str, Any]] | None) -> Declared:
    """Sort the tools of a request: text names a built-in, a dictionary describes a function.

    Raises:
        RequestError: a tool is neither, or two have one name.
    """
    builtins: list[str] = []
    functions: list[Mapping[str, Any]] = []
    if tools is not None and (isinstance(tools, str | Mapping) or not isinstance(tools, Iterable)):
        raise RequestError(f"tools: {type(tools).__name__} given; a list of tools is expected.")
    for index, tool in enumerate(tools or ()):
        if isinstance(tool, str):
            builtins.append(_builtin(tool, where=f"tools[{index}]"))
        else:
            functions.append(_function(tool, where=f"tools[{index}]"))
    declared = Declared(builtins=tuple(builtins), functions=tuple(functions))
    if len(declared.names) < len(builtins) + len(functions):
        raise RequestError("tools: two tools have the same name; names must differ.")
    return declared


def _builtin(name: str, *, where: str) -> str:
    if name.isidentifier():
        return name
    raise RequestError(f"{where}: {name!r} cannot name a built-in tool; an identifier is expected.")


def _function(tool: Any, *, where: str) -> Mapping[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name or tool.get("type") != "function":
        raise RequestError(
            f"{where}: {type(tool).__name__} is not a tool; a built-in's name or "
            '{"type": "function", "function": {"name": ..., "parameters": ...}} is expected.'
        )
    try:
        json.dumps(tool, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"{where}: {name!r} cannot be written as JSON ({error}); a JSON Schema is expected. "
            "Use dictionaries, lists, texts, numbers, booleans and None alone."
        ) from None
    return dict(tool)
