"""One answer while it is written: the engine's tokens become text and calls that may be shown.

Each choice of a request has a reading. It settles text as soon as it can be no part of a stop
string or of a call, and says in the end why the choice ended. A stream and a whole answer read in
the same way, so that they cannot differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from puna.chat.events import AnswerEvent, CallFinished, TextDelta
from puna.chat.messages import Message
from puna.chat.parse import AnswerParser
from puna.infer.request import Event, TokenLogprob
from puna.infer.stops import StopStrings, TextStream


@dataclass(slots=True)
class Piece:
    """What some tokens of one choice settled."""

    index: int  # of the choice
    text: str = ""
    calls: list[AnswerEvent] = field(default_factory=list)
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: str | None = None  # with the last piece of a choice
    before: Sequence[TokenLogprob | None] | None = None  # of the prompt, with the first piece


class Reading(Protocol):
    """The state of one choice."""

    tokens: int
    finish_reason: str | None

    def read(self, event: Event) -> Piece:
        """Take the tokens of an event."""


class TextReading:
    """A continuation of a text."""

    def __init__(self, index: int, stream: TextStream) -> None:
        self._index, self._stream = index, stream
        self.tokens = 0
        self.finish_reason: str | None = None

    def read(self, event: Event) -> Piece:
        """Take the tokens of an event."""
        self.tokens += len(event.ids)
        text = "".join(map(self._stream.feed, event.ids))
        if event.finish_reason is not None or self._stream.is_stopped:
            text += self._stream.flush()
            self.finish_reason = "stop" if self._stream.is_stopped else event.finish_reason
        return Piece(
            self._index, text, [], event.logprobs, self.finish_reason, event.prompt_logprobs
        )


class ChatReading:
    """An answer in a dialog: its text, and calls of tools."""

    def __init__(
        self, index: int, parser: AnswerParser, stops: Sequence[str], *, is_parallel: bool = True
    ) -> None:
        self._index, self._parser, self._is_parallel = index, parser, is_parallel
        self._stops = StopStrings(stops)
        self._content: list[str] = []
        self._calls: list[CallFinished] = []
        self.tokens = 0
        self.finish_reason: str | None = None

    @property
    def message(self) -> Message:
        """The answer so far."""
        return Message(
            role="assistant",
            content="".join(self._content),
            tool_calls=tuple(event.call for event in self._calls),
            finish_reason=self.finish_reason,
        )

    def read(self, event: Event) -> Piece:
        """Take the tokens of an event."""
        self.tokens += len(event.ids)
        piece = Piece(self._index, logprobs=event.logprobs)
        self._take(piece, self._parser.read(event.ids))
        if self.finish_reason is None and event.finish_reason is not None:
            self._take(piece, self._parser.close())
            if self.finish_reason is None:
                self._show(piece, self._stops.flush())
                self.finish_reason = self._reason(event)
        piece.finish_reason = self.finish_reason
        return piece

    def _take(self, piece: Piece, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            if self.finish_reason is not None:
                return
            if isinstance(event, TextDelta):
                self._show(piece, self._stops.feed(event.text))
                if self._stops.found is not None:
                    self.finish_reason = "tool_calls" if self._calls else "stop"
                continue
            piece.calls.append(event)
            if isinstance(event, CallFinished):
                self._calls.append(event)
                if not self._is_parallel:
                    self._show(piece, self._stops.flush())
                    self.finish_reason = "tool_calls"

    def _show(self, piece: Piece, text: str) -> None:
        if text:
            self._content.append(text)
            piece.text += text

    def _reason(self, event: Event) -> str:
        """Say why the answer ended: calls first, then as the parser and the engine say."""
        if self._calls:
            return "tool_calls"
        if event.finish_reason == "stop":
            parsed = self._parser.finish().finish_reason or "stop"
            return "stop" if parsed == "length" else parsed
        return event.finish_reason or "stop"
