"""The tool loop: generate, execute the calls, show the results to the model, until it answers.

The model's calls may be wrong in any way and tools may fail; both go back to the model as text,
because it can correct itself. Only limits and the model's own answer end the loop. Every step is
an event, so that a terminal can show it while it happens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.chat.messages import Message, ToolCall, to_messages
from puna.errors import PunaError, RequestError
from puna.log import logger
from puna.tools.tool import Tool

MAX_STEPS = 8  # answers of the model in one turn
MAX_OUTPUT = 16_000  # characters of one tool's result that the model is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The model said something: its last word, or calls that will be executed."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call is about to be executed."""

    call: ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A call has its result, as the model will read it."""

    call: ToolCall
    result: str
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The loop has ended.

    `reason` is "stop" or "length" as the last answer says, or "max_steps" where the model still
    wanted to call; `messages` is the whole dialog, and can be continued.
    """

    reason: str
    messages: tuple[Message, ...] = field(repr=False)

    @property
    def answer(self) -> Message:
        """The last message of the assistant."""
        return next(m for m in reversed(self.messages) if m.role == "assistant")


Event = Answered | Called | Returned | Finished


def run_tools(
    generate: Callable[[list[Message]], Message],
    messages: Iterable[Message | Mapping[str, Any]],
    tools: Sequence[Tool] | Mapping[str, Tool],
    *,
    max_steps: int = MAX_STEPS,
    max_output: int = MAX_OUTPUT,
) -> Iterator[Event]:
    """Let the model call tools until it answers, and yield what happens.

    Args:
        generate: answers a dialog; it may ask for calls.
        messages: the dialog so far.
        tools: what may be executed; everything else is refused in a text to the model.
        max_steps: how often the model may speak.
        max_output: characters of one result that it is shown; it is told what is left out.
    Raises:
        RequestError: a limit is smaller than 1, or two tools have one name.
    """
    if max_steps < 1 or max_output < 1:
        raise RequestError(
            f"run_tools: max_steps={max_steps} and max_output={max_output} given; "
            "at least 1 is expected of both."
        )
    return _loop(
        generate, to_messages(messages), _by_name(tools), max_steps=max_steps, limit=max_output
    )


def _loop(
    generate: Callable[[list[Message]], Message],
    dialog: list[Message],
    tools: Mapping[str, Tool],
    *,
    max_steps: int,
    limit: int,
) -> Iterator[Event]:
    for step in range(1, max_steps + 1):
        message = generate(list(dialog))
        dialog.append(message)
        yield Answered(message=message)
        if not message.tool_calls:
            yield Finished(reason=_reason(message), messages=tuple(dialog))
            return
        if step == max_steps:
            break  # nobody would read the results
        for call in message.tool_calls:
            yield Called(call=call)
            result, is_error = _execute(call, tools)
            result = _shortened(result, limit)
            dialog.append(Message(role="tool", content=result, tool_call_id=call.id))
            yield Returned(call=call, result=result, is_error=is_error)
    yield Finished(reason="max_steps", messages=tuple(dialog))


def _execute(call: ToolCall, tools: Mapping[str, Tool]) -> tuple[str, bool]:
    """Return the result as text, and whether it tells of a failure."""
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(tools) or "none"
        return f"error: there is no tool {call.name!r}; the tools are: {known}.", True
    try:
        result = tool.call(dict(call.arguments))
    except PunaError as error:
        return f"error: {error}", True
    except Exception as error:  # a worker: tools are other people's code, and the loop goes on
        logger.warning("tool %s failed", call.name, exc_info=True)
        return f"error: {call.name} failed with {type(error).__name__}: {error}", True
    return result, result.startswith("error:")


def _shortened(result: str, limit: int) -> str:
    """Keep the beginning of a long result and say how much is missing."""
    result = result.encode(errors="replace").decode()  # no half of a surrogate pair
    if len(result) <= limit:
        return result
    return f"{result[:limit]}\n[{len(result) - limit} of {len(result)} characters left out]"


def _reason(message: Message) -> str:
    return "length" if message.finish_reason == "length" else "stop"


def _by_name(tools: Sequence[Tool] | Mapping[str, Tool]) -> dict[str, Tool]:
    if isinstance(tools, Mapping):
        return dict(tools)
    named = {tool.name: tool for tool in tools}
    if len(named) < len(tools):
        raise RequestError("run_tools: two tools have the same name; names must differ.")
    return named
