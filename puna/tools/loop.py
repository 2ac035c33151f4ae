"""The tool loop: generate, execute the calls, show the results to the model, until it answers.

The model's calls may be wrong in any way and tools may fail; both go back to the model as text,
because it can correct itself. Only limits and the model's own answer end the loop. Every step is
an event, so that a terminal can show it while it happens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.chat.messages import Message, ToolCall, to_messages
from puna.errors import RequestError
from puna.tools.execute import MAX_OUTPUT, MAX_STEPS, TIMEOUT_S, Consent, Limits, execute
from puna.tools.running import ToolStopped
from puna.tools.tool import Tool

STOPPED = "error: stopped by the person before it was done."  # the result after Ctrl-C


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

    `reason` is "stop" or "length" as the last answer says, "tool_calls" where the model calls a
    tool that is only declared, or "max_steps" where it still wanted to call; `messages` is the
    whole dialog, and can be continued.
    """

    reason: str
    messages: tuple[Message, ...] = field(repr=False)

    @property
    def answer(self) -> Message:
        """The last message of the assistant."""
        return next(m for m in reversed(self.messages) if m.role == "assistant")


Event = Answered | Called | Returned | Finished


class StoppedInTool(KeyboardInterrupt):
    """Ctrl-C came while a tool was running.

    `messages` is the dialog with a result for every call, so that it can be continued.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__()
        self.messages = tuple(messages)


def run_tools(
    generate: Callable[[list[Message]], Message],
    messages: Iterable[Message | Mapping[str, Any]],
    tools: Sequence[Tool] | Mapping[str, Tool],
    *,
    max_steps: int = MAX_STEPS,
    max_output: int = MAX_OUTPUT,
    timeout: float | None = TIMEOUT_S,
    consent: Consent | None = None,
) -> Iterator[Event]:
    """Let the model call tools until it answers, and yield what happens.

    The calls of one message run one after the other, in order. A message that calls a tool which
    is only declared ends the loop before anything of it is run: whoever declared it answers.

    Args:
        generate: answers a dialog; it may ask for calls.
        messages: the dialog so far.
        tools: what may be executed; everything else is refused in a text to the model.
        max_steps: how often the model may speak.
        max_output: characters of one result that it is shown; it is told what is left out.
        timeout: seconds of one call, for tools that name no limit of their own. None lets every
            call take its time, in the caller's own thread.
        consent: asked before each call of a tool that needs it; without it such calls are refused.
    Raises:
        RequestError: a limit is not positive, or two tools have one name.
        StoppedInTool: Ctrl-C while a tool was running.
    """
    limits = Limits(max_steps=max_steps, max_output=max_output, timeout=timeout)
    turn = _Turn(to_messages(messages), by_name(tools), limits, consent)
    return _run(turn, generate)


def run_batch(
    reply: Callable[[list[list[Message]]], Sequence[Message]],
    dialogs: Iterable[Iterable[Message | Mapping[str, Any]]],
    tools: Sequence[Tool],
    *,
    max_steps: int = MAX_STEPS,
) -> list[Finished]:
    """Run the loop of many dialogs side by side, so that the model answers them as batches."""
    named, limits = by_name(tools), Limits(max_steps=max_steps)
    turns = [_Turn(to_messages(dialog), named, limits, None) for dialog in dialogs]
    while waiting := [turn for turn in turns if turn.finished is None]:
        answers = reply([list(turn.dialog) for turn in waiting])
        for turn, answer in zip(waiting, answers, strict=True):
            for _ in turn.take(answer):
                pass
    return [turn.finished for turn in turns if turn.finished is not None]


def by_name(tools: Sequence[Tool] | Mapping[str, Tool]) -> dict[str, Tool]:
    """Return the tools under their names.

    Raises:
        RequestError: two have one name.
    """
    if isinstance(tools, Mapping):
        return dict(tools)
    named = {tool.name: tool for tool in tools}
    if len(named) < len(tools):
        raise RequestError("run_tools: two tools have the same name; names must differ.")
    return named


class _Turn:
    """One turn of a dialog: it takes the model's answers and executes what they call."""

    def __init__(
        self,
        dialog: list[Message],
        tools: Mapping[str, Tool],
        limits: Limits,
        consent: Consent | None,
    ) -> None:
        self.dialog, self._tools, self._limits, self._consent = dialog, tools, limits, consent
        self._steps = 0
        self.finished: Finished | None = None

    def take(self, message: Message) -> Iterator[Event]:
        """Take the next answer of the model and yield what follows from it."""
        self._steps += 1
        self.dialog.append(message)
        yield Answered(message=message)
        if (reason := self._reason_to_end(message)) is None:
            yield from self._execute(message.tool_calls)
        else:
            self.finished = Finished(reason=reason, messages=tuple(self.dialog))
            yield self.finished

    def _reason_to_end(self, message: Message) -> str | None:
        """Say why the turn is over; None where there are calls to execute."""
        if not message.tool_calls:
            return "length" if message.finish_reason == "length" else "stop"
        called = [self._tools.get(call.name) for call in message.tool_calls]
        if any(tool is not None and tool.call is None for tool in called):
            return "tool_calls"
        # Nobody would read the results of the last step.
        return "max_steps" if self._steps == self._limits.max_steps else None

    def _execute(self, calls: Sequence[ToolCall]) -> Iterator[Event]:
        """Run the calls in order; whatever happens, each gets its result in the dialog."""
        for place, call in enumerate(calls):
            yield Called(call=call)
            try:
                result, is_error = execute(call, self._tools, self._limits, self._consent)
            except KeyboardInterrupt as stopped:
                said = stopped.said if isinstance(stopped, ToolStopped) else ""
                self._show(call, f"{STOPPED}\n{said}".rstrip("\n"))
                for left in calls[place + 1 :]:
                    self._show(left, STOPPED)
                raise StoppedInTool(self.dialog) from None
            self._show(call, result)
            yield Returned(call=call, result=result, is_error=is_error)

    def _show(self, call: ToolCall, result: str) -> None:
        self.dialog.append(Message(role="tool", content=result, tool_call_id=call.id))


def _run(turn: _Turn, generate: Callable[[list[Message]], Message]) -> Iterator[Event]:
    while turn.finished is None:
        yield from turn.take(generate(list(turn.dialog)))
