"""An answer's ids become a message: text, tool calls, and why it ended.

The parser works on ids, because only ids tell the python tag and the terminators from text that
looks like them. It takes one token at a time; `puna.chat.call_texts` finds the calls in text that
it holds back, and everything else is handed on as soon as it is certain.

It reads only what the assistant said, takes only declared tools for calls, never raises whatever
the ids are, and never evaluates anything.
"""

from puna.chat.call_texts import (
    OPENING_LENGTH,
    Callables,
    calls_after_tag,
    calls_in_text,
    may_become_call,
)
from puna.chat.declared import BUILTINS, Declared
from puna.chat.messages import Message, ToolCall
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import END_HEADER, END_OF_MESSAGE, PYTHON_TAG, START_HEADER
from puna.tokenizer.stream import StreamDecoder


class AnswerParser:
    """The state of one answer while it is generated.

    `feed` returns text that is certain to be content. Joined, and followed by what `finish` found
    to be no call after all, it is the content of the message.
    """

    def __init__(self, tok: Tokenizer, tools: Declared | None = None) -> None:
        self._tok = tok
        self._names = {number: name for name, number in tok.specials.items()}
        self._decoder = StreamDecoder(tok)
        self._callables = Callables(
            builtins=frozenset(BUILTINS if tools is None else tools.builtins),
            declared=frozenset() if tools is None else tools.names,
        )
        self._sent: list[str] = []  # content that was handed on
        self._held: list[str] = []  # text that may become a call
        self._start = ""  # its first few characters, without white space before them
        self._streams = False  # whether the text is known to be no call
        self._tagged: list[list[str]] | None = None  # the text after each python tag
        self._in_header = False
        self._newlines = 0  # how many of them still belong to a header
        self._stop: str | None = None  # the control token that ended the answer

    def feed(self, token: int) -> str:
        """Take the next token; return text that is now certain to be content."""
        if self._stop is not None:
            return ""
        if token in self._names or token in self._tok.stop_ids:
            return self._control(token, self._names.get(token, ""))
        known = 0 <= token < self._tok.vocab
        return self._text(self._decoder.feed(token) if known else "\N{REPLACEMENT CHARACTER}")

    def finish(self) -> Message:
        """Return the message; an answer that no terminator ended was cut off."""
        self._text(self._decoder.flush())
        calls: tuple[ToolCall, ...] = ()
        rest = [*self._sent]
        if self._tagged is None:
            calls, text = calls_in_text("".join(self._held), self._callables)
            rest.append(text)
        for body in self._tagged or ():
            complete = self._stop is not None
            found, text = calls_after_tag("".join(body), self._callables, is_complete=complete)
            calls += found
            rest.append(text)
        return Message(
            role="assistant",
            content="".join(rest),
            tool_calls=calls,
            finish_reason=self._reason(calls),
        )

    def _reason(self, calls: tuple[ToolCall, ...]) -> str:
        if calls or self._stop == END_OF_MESSAGE:
            return "tool_calls"
        return "length" if self._stop is None else "stop"

    def _control(self, token: int, name: str) -> str:
        out = self._text(self._decoder.flush())
        if token in self._tok.stop_ids or name == END_OF_MESSAGE:
            self._stop = name
        elif name == START_HEADER:
            if any(self._held) or self._sent or self._tagged is not None:
                self._stop = name  # what follows is somebody else's turn
            self._in_header = True
        elif name == END_HEADER:
            self._in_header = False
            self._newlines = 2
        elif name == PYTHON_TAG:
            out += self._release()
            self._tagged = [*(self._tagged or ()), []]
        return out  # any other control token says nothing

    def _text(self, text: str) -> str:
        if self._in_header:
            return ""
        while self._newlines and text:
            is_newline = text[0] == "\n"
            self._newlines = self._newlines - 1 if is_newline else 0
            text = text[is_newline:]
        if self._tagged is not None:
            self._tagged[-1].append(text)
            return ""
        self._held.append(text)
        if not self._streams:
            self._start = (self._start + text).lstrip()[:OPENING_LENGTH]
            if may_become_call(self._start, self._callables):
                return ""
        return self._release()

    def _release(self) -> str:
        """Hand on the text that was held back: it is content."""
        text = "".join(self._held)
        self._held = []
        if text:
            self._sent.append(text)
            self._streams = True
        return text
