"""An answer's ids become a message: text, tool calls, and why it ended.

The parser works on ids, because only ids tell the python tag and the terminators from text that
looks like them. It cuts the answer into stretches of text at its control tokens;
`puna.chat.call_texts` finds the calls in each while it arrives. Tokens may come one by one, in
pieces of any size or all at once: events and message are the same.

It reads only what the assistant said, takes only declared tools for calls, never raises whatever
the ids are, and never evaluates anything. Code after the python tag is a call where the code
interpreter is declared. Where it is not, the code is the content of the answer, as it was written
and without the tag: the user reads what the model wrote, and nothing runs.
"""

import codecs
from collections.abc import Iterable, Sequence
from itertools import groupby

from puna.chat.call_forms import Callables
from puna.chat.call_texts import CallTexts, Found
from puna.chat.declared import BUILTINS, Declared
from puna.chat.events import AnswerEvent, ArgumentsDelta, CallFinished, CallStarted, TextDelta
from puna.chat.literals import write_json
from puna.chat.messages import Message, ToolCall
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import END_HEADER, END_OF_MESSAGE, PYTHON_TAG, START_HEADER
from puna.tokenizer.stream import StreamDecoder

# Control tokens that say something inside an answer, beside those that end it.
_ROLES = (START_HEADER, END_HEADER, END_OF_MESSAGE, PYTHON_TAG)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # what an id outside the vocabulary says


class AnswerParser:
    """The state of one answer while it is generated.

    `read` and `close` return events; `feed` and `finish` are for callers who want text and, in the
    end, the message. The text of all events is the content of the message, and what `feed` returned
    is how that content begins.
    """

    def __init__(self, tok: Tokenizer, tools: Declared | None = None) -> None:
        self._vocab = tok.vocab
        self._stop_ids = tok.stop_ids
        self._controls = tok.stop_ids.union(tok.specials.values())
        self._roles = {tok.specials[name]: name for name in _ROLES if name in tok.specials}
        self._tok = tok
        self._spaced = StreamDecoder(tok) if getattr(tok, "adds_space", False) else None
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._tools = Callables(
            builtins=frozenset(BUILTINS if tools is None else tools.builtins),
            declared=frozenset() if tools is None else tools.names,
        )
        self._stretch = CallTexts(self._tools, is_tagged=False)
        self._content: list[str] = []
        self._calls: list[ToolCall] = []
        self._has_begun = False  # whether the assistant said anything
        self._in_header = False
        self._newlines = 0  # how many of them still belong to a header
        self._stop: str | None = None  # the control token that ended the answer
        self._is_closed = False

    def feed(self, ids: int | Iterable[int]) -> str:
        """Take the next token, or several; return text that is now certain to be content."""
        events = self.read(ids if isinstance(ids, Iterable) else (ids,))
        return "".join(event.text for event in events if isinstance(event, TextDelta))

    def finish(self) -> Message:
        """Return the message; an answer that no terminator ended was cut off."""
        self.close()
        return Message(
            role="assistant",
            content="".join(self._content),
            tool_calls=tuple(self._calls),
            finish_reason=self._reason(),
        )

    def read(self, ids: Iterable[int]) -> list[AnswerEvent]:
        """Take the next tokens; return what is now certain. After `close` nothing is read."""
        ids = () if self._is_closed else list(ids)
        found: Found = []
        start = 0
        for at, token in enumerate(ids):
            if token in self._controls:
                found += self._text(self._decoded(ids[start:at], is_end=True))
                found += self._control(token)
                start = at + 1
            elif not 0 <= token < self._vocab:
                found += self._text(self._decoded(ids[start:at], is_end=True) + _UNKNOWN)
                start = at + 1
        if start < len(ids):
            found += self._text(self._decoded(ids[start:] if start else ids))
        return self._events(found)

    def close(self) -> list[AnswerEvent]:
        """End the answer, if no terminator did; return what that settles."""
        if self._is_closed:
            return []
        self._is_closed = True
        found = self._text(self._decoded((), is_end=True))
        if self._stop is None:
            found += self._stretch.close(is_complete=False)
        return self._events(found)

    def _decoded(self, ids: Sequence[int], *, is_end: bool = False) -> str:
        """Return the characters that ordinary ids complete; at the end of a text, the rest too."""
        if self._spaced is not None:
            text = "".join(map(self._spaced.feed, ids))
            return text + self._spaced.flush() if is_end else text
        return self._utf8.decode(self._tok.decode_bytes(ids), is_end)

    def _reason(self) -> str:
        if self._calls or self._stop == END_OF_MESSAGE:
            return "tool_calls"
        return "length" if self._stop is None else "stop"

    def _control(self, token: int) -> Found:
        if self._stop is not None:
            return []
        name = self._roles.get(token, "")
        is_stop = token in self._stop_ids or name == END_OF_MESSAGE
        # A header inside an answer begins somebody else's turn.
        if is_stop or (name == START_HEADER and self._has_begun):
            self._stop = name
            return self._stretch.close(is_complete=True)
        if name == START_HEADER:
            self._in_header = True
        elif name == END_HEADER:
            self._in_header = False
            self._newlines = 2
        elif name == PYTHON_TAG:
            self._has_begun = True
            found = self._stretch.close(is_complete=True)
            self._stretch = CallTexts(self._tools, is_tagged=True)
            return found
        return []  # any other control token says nothing

    def _text(self, text: str) -> Found:
        if not text or self._in_header or self._stop is not None:
            return []
        while self._newlines and text:
            is_newline = text[0] == "\n"
            self._newlines = self._newlines - 1 if is_newline else 0
            text = text[is_newline:]
        if text:
            self._has_begun = True
        return self._stretch.feed(text)

    def _events(self, found: Found) -> list[AnswerEvent]:
        """Turn what was found into events, neighbouring texts joined, and keep it."""
        if not found:
            return []
        if len(found) == 1 and isinstance(found[0], str):  # most tokens of most answers
            self._content.append(found[0])
            return [TextDelta(text=found[0])]
        events: list[AnswerEvent] = []
        for is_text, items in groupby(found, key=_is_text):
            if is_text:
                text = "".join(map(str, items))
                self._content.append(text)
                events.append(TextDelta(text=text))
                continue
            for call in items:
                assert isinstance(call, ToolCall)
                index = len(self._calls)
                self._calls.append(call)
                events += (
                    CallStarted(index=index, id=call.id, name=call.name),
                    ArgumentsDelta(index=index, text=write_json(dict(call.arguments))),
                    CallFinished(index=index, call=call),
                )
        return events


def _is_text(item: str | ToolCall) -> bool:
    return isinstance(item, str)
