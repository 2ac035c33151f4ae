"""What happens while an answer is read, in the order in which it is certain.

A server turns these into the chunks of a stream. Nothing is taken back: text is handed on when it
can be no part of a call any more, and a call when its last character was read. So the stream says
what the finished message says, and a call that breaks off never reaches the client as half a call.
"""

from dataclasses import dataclass

from puna.chat.messages import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More content."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """The answer calls a tool; `index` counts the calls of the answer from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentsDelta:
    """More of a call's arguments; all of them, joined, are one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """The call is whole and may be executed, even while the answer goes on."""

    index: int
    call: ToolCall


AnswerEvent = TextDelta | CallStarted | ArgumentsDelta | CallFinished
