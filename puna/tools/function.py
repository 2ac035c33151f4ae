"""A Python function as a tool: its hints are the schema, its docstring is the description.

`@puna.tool` marks a function; a plain function given to `llm.chat(tools=[...])` is taken in the
same way. The arguments that the model sends arrive as the hinted types, and what the function
returns is shown to the model as text: text as it is, everything else as JSON.
"""

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, overload

from puna.errors import RequestError
from puna.tools.hints import Reading, read_hint
from puna.tools.results import as_text, plain
from puna.tools.schema import require_schema, unknown_argument
from puna.tools.tool import Schema, Tool

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")  # OpenAI's rule, which Meta's examples keep


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Schema | None = None,
    needs_consent: bool = False,
    timeout: float | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Schema | None = None,
    needs_consent: bool = False,
    timeout: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function, which stays callable as before.

    Args:
        name: what the model calls; the function's name without it.
        description: what the model reads; the docstring up to its sections without it.
        parameters: a JSON Schema; then the function takes the arguments as JSON has them.
        needs_consent: ask a person before every call.
        timeout: most seconds of one call; the loop's limit without it.
    Raises:
        RequestError: an argument cannot be said in JSON.
    """

    def make(function: Callable[..., Any]) -> Tool:
        made = _from_function(function, name, parameters)
        return dataclasses.replace(
            made,
            description=made.description if description is None else description,
            needs_consent=needs_consent,
            timeout=timeout,
        )

    return make if function is None else make(function)


def as_tool(given: Any) -> Tool:
    """Return a tool for whatever names one.

    A `Tool` stays itself and a function becomes one. OpenAI's dictionary and the name of a built-in
    are declarations: a call comes back to whoever asked.

    Raises:
        RequestError: it is none of these.
    """
    if isinstance(given, Tool):
        return given
    if isinstance(given, str):
        return Tool(name=given, description="", call=None, is_builtin=True)
    if isinstance(given, Mapping):
        return from_schema(given, None)
    if callable(given):
        return tool(given)
    raise RequestError(
        f"tools: {type(given).__name__} is no tool; a function, a puna.tool, OpenAI's dictionary "
        "or the name of a built-in is expected."
    )


def from_schema(declaration: Mapping[str, Any], handler: Callable[..., Any] | None) -> Tool:
    """Make a tool of OpenAI's dictionary; without a handler it is a declaration.

    Args:
        handler: gets the arguments by name, as JSON has them; may be async.
    Raises:
        RequestError: the dictionary describes no function.
    """
    function = declaration.get("function", {})
    name = function.get("name") if isinstance(function, Mapping) else None
    if declaration.get("type") != "function" or not isinstance(name, str) or not name:
        raise RequestError(
            'tools: a dictionary without a function is no tool; {"type": "function", "function": '
            '{"name": ..., "description": ..., "parameters": ...}} is expected.'
        )
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    made = Tool(
        name=name,
        description=str(function.get("description") or ""),
        call=None,
        parameters=parameters,
        function=handler,
        declared=dict(declaration),
    )
    if handler is None:
        return made
    require_schema(parameters, where=f"tool {name}")
    caller = _Caller(lambda arguments: handler(**arguments))
    return dataclasses.replace(made, call=caller.call, cancel=caller.cancel)


def _from_function(
    function: Callable[..., Any], name: str | None, parameters: Schema | None
) -> Tool:
    """Read signature and docstring."""
    name = str(name or getattr(_hinted(function), "__name__", ""))
    where = f"tool {name}"
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{where}: not a name that a model can call; a name of letters, digits and _ is "
            "expected. Give one: puna.tool(name=...)."
        )
    description, told = _read_docstring(inspect.getdoc(function) or "")
    if parameters is not None:
        require_schema(parameters, where=where)
        caller = _Caller(lambda arguments: function(**arguments))
    else:
        signature, readings, rest = _read_signature(function, where)
        parameters = _schema(signature, readings, rest, told)

        def call_function(arguments: dict[str, Any]) -> Any:
            bound = _bind(name, signature, readings, rest, arguments)
            return function(*bound.args, **bound.kwargs)

        caller = _Caller(call_function)
    return Tool(
        name=name,
        description=description,
        call=caller.call,
        parameters=parameters,
        function=function,
        cancel=caller.cancel,
    )


def _read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the description and what is said of each argument, in whatever style it is said."""
    from docstring_parser import ParseError, parse

    try:
        doc = parse(text)
    except (ParseError, LookupError, ValueError):  # it is prose then
        return " ".join(text.split()), {}
    told = {item.arg_name: " ".join((item.description or "").split()) for item in doc.params}
    return " ".join((doc.description or "").split()), told


def _schema(
    signature: inspect.Signature,
    readings: Mapping[str, Reading],
    rest: Reading | None,
    told: Mapping[str, str],
) -> dict[str, Any]:
    """Write the JSON Schema of all arguments; `told` are their descriptions in the docstring."""
    defaults = {key: signature.parameters[key].default for key in readings}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            key: _described(reading, told.get(key), defaults[key])
            for key, reading in readings.items()
        },
    }
    if required := [key for key in readings if defaults[key] is inspect.Parameter.empty]:
        schema["required"] = required
    if rest is not None and rest.schema:
        schema["additionalProperties"] = rest.schema
    return schema


def _read_signature(
    function: Callable[..., Any], where: str
) -> tuple[inspect.Signature, dict[str, Reading], Reading | None]:
    """Return the signature, what each argument is, and what `**` takes (None: nothing)."""
    kinds = inspect.Parameter
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(_hinted(function), include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise RequestError(
            f"{where}: its signature cannot be read ({error}); a function with type hints that "
            "exist is expected."
        ) from None
    readings: dict[str, Reading] = {}
    rest = None
    for key, parameter in signature.parameters.items():
        if parameter.kind is kinds.VAR_POSITIONAL:
            raise RequestError(
                f"{where}: *{key} has no place in JSON; named arguments are expected. "
                f"Take a list: {key}: list[...]."
            )
        if not readings and key in ("self", "cls") and key not in hints:
            raise RequestError(
                f"{where}: a method needs its object; a function or a bound method is expected. "
                "Make the tool of object.method."
            )
        reading = read_hint(hints.get(key, kinds.empty), where=f"{where}, argument {key!r}")
        if parameter.kind is kinds.VAR_KEYWORD:
            rest = reading
        else:
            readings[key] = reading
    return signature, readings, rest


def _hinted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain function that carries the hints."""
    function = inspect.unwrap(function)
    if isinstance(function, functools.partial):
        return _hinted(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def _described(reading: Reading, told: str | None, default: Any) -> dict[str, Any]:
    """Return the schema of one argument with its description and its default.

    A description in the hint goes before that of the docstring. A default that JSON cannot say is
    left out: the argument is optional all the same.
    """
    schema = dict(reading.schema)
    if told and "description" not in schema:
        schema["description"] = told
    if default is inspect.Parameter.empty or default is None:
        return schema
    with contextlib.suppress(TypeError, ValueError):
        schema["default"] = json.loads(json.dumps(default, default=plain))
    return schema


def _bind(
    name: str,
    signature: inspect.Signature,
    readings: Mapping[str, Reading],
    rest: Reading | None,
    arguments: Mapping[str, Any],
) -> inspect.BoundArguments:
    """Convert the arguments to the hinted types and put them in their places."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for key, value in arguments.items():
        reading = readings.get(key, rest)
        if reading is None:
            unknown = unknown_argument(arguments, list(readings), inside="")
            raise RequestError(f"{name}: {unknown}")
        try:
            named[key] = reading.convert(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise RequestError(f"{name}: argument {key!r}: {error}.") from None
    for key, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and key in named:
            positional.append(named.pop(key))
    try:
        return signature.bind(*positional, **named)
    except TypeError as error:
        raise RequestError(f"{name}: the arguments do not fit: {error}.") from None


class _Caller:
    """Calls a function and writes its result; what it awaits can be cancelled from elsewhere."""

    def __init__(self, function: Callable[[dict[str, Any]], Any]) -> None:
        self._function = function
        self._awaited: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    def call(self, arguments: dict[str, Any]) -> str:
        """Return the result as text; an awaitable is awaited."""
        value = self._function(arguments)
        return as_text(asyncio.run(self._wait(value)) if inspect.isawaitable(value) else value)

    def cancel(self) -> None:
        """Cancel what the running call awaits, as `asyncio` does it: its clean-up runs."""
        for loop, task in list(self._awaited):
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)

    async def _wait(self, value: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._awaited.append((asyncio.get_running_loop(), task))
        try:
            return await value
        finally:
            self._awaited.clear()
