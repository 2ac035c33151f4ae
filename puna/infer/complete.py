"""Ids in, text out: completions as a batch, or one answer as a stream.

`puna.infer.generate` draws the tokens; here they become text, stop strings end a row, and usage is
counted. `puna.llm` and the server call this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from puna.chat.messages import Message, Usage
from puna.chat.parse import AnswerParser
from puna.infer.batch import NewToken
from puna.infer.decoder import CacheName
from puna.infer.generate import generate_ids
from puna.infer.mapped_model import MappedModel
from puna.infer.sampling import SamplingConfig
from puna.infer.stops import StopStrings, TextStream
from puna.tokenizer.interface import Tokenizer

if TYPE_CHECKING:
    from puna.model.llama import Llama


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model wrote after a prompt."""

    text: str | None  # without special tokens and stop strings; None without a tokenizer
    ids: list[int]  # every token that was drawn, the stop id included
    finish_reason: str  # "stop" or "length"
    usage: Usage


def complete(
    model: "Llama | MappedModel",
    tokenizer: Tokenizer | None,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int | None = None,
    sampling: SamplingConfig | Sequence[SamplingConfig],
    stop: Sequence[str] = (),
    stop_ids: Sequence[int] | frozenset[int] = (),
    ignore_eos: bool = False,
    kv_cache: CacheName | None = None,
) -> list[Completion]:
    """Continue every prompt; one batch, and each row ends at its own stop."""
    texts: list[list[str]] = [[] for _ in prompts]
    streams = [] if tokenizer is None else [
        TextStream(tokenizer, stops=stop, prompt=prompt) for prompt in prompts
    ]  # fmt: skip

    def read(row: int, token: int) -> bool:
        if not streams:
            return False
        texts[row].append(streams[row].feed(token))
        return streams[row].is_stopped

    rows = generate_ids(
        model, prompts, max_tokens=max_tokens, sampling=sampling, stop_ids=stop_ids,
        ignore_eos=ignore_eos, on_token=read, kv_cache=kv_cache,
    )  # fmt: skip
    for text, stream in zip(texts, streams, strict=False):
        text.append(stream.flush())
    return [
        Completion(
            text="".join(text) if streams else None,
            ids=list(row.ids),
            finish_reason=row.finish_reason,
            usage=Usage(prompt_tokens=len(prompt), completion_tokens=len(row.ids)),
        )
        for text, row, prompt in zip(texts, rows, prompts, strict=True)
    ]


class Reader(Protocol):
    """Turns tokens into text that may be shown."""

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found."""

    def feed(self, token: int) -> str:
        """Take a token and return the text that it settles."""

    def flush(self) -> str:
        """Return the rest."""


class ChatReader:
    """Reads an assistant's answer: its text is shown, its tool calls are kept."""

    def __init__(self, parser: AnswerParser, *, stops: Sequence[str] = ()) -> None:
        self._parser = parser
        self._stops = StopStrings(stops)
        self._handed_on = 0  # characters of content that the parser gave so far
        self._shown: list[str] = []
        self.message: Message | None = None  # set by `flush`

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found in the content."""
        return self._stops.found is not None

    def feed(self, token: int) -> str:
        """Take a token and return the content that it settles."""
        text = self._parser.feed(token)
        self._handed_on += len(text)
        return self._show(self._stops.feed(text))

    def flush(self) -> str:
        """Return the rest of the content and settle the message."""
        message = self._parser.finish()
        rest = self._stops.feed(message.content[self._handed_on :]) + self._stops.flush()
        self._show(rest)
        self.message = replace(message, content="".join(self._shown))
        if self.is_stopped:
            self.message = replace(self.message, tool_calls=(), finish_reason="stop")
        return rest

    def _show(self, text: str) -> str:
        self._shown.append(text)
        return text


class Answer:
    """One answer while it is written: iterate over its text, then read what it was.

    The reader may stop at any time (Ctrl-C too): `finish` settles what was written so far.
    """

    def __init__(self, tokens: Iterator[NewToken], reader: Reader, *, prompt_tokens: int) -> None:
        self._tokens, self._reader, self._prompt_tokens = tokens, reader, prompt_tokens
        self._is_flushed = False
        self.ids: list[int] = []
        self.finish_reason: str | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield text as soon as it is settled; never half a character, never a stop string."""
        for token in self._tokens:
            self.ids.append(token.id)
            self.finish_reason = token.finish_reason
            text = self._reader.feed(token.id)
            if text:
                yield text
            if self._reader.is_stopped:
                self.finish_reason = "stop"
                break
        rest = self.finish()
        if rest:
            yield rest

    @property
    def usage(self) -> Usage:
        """Tokens read and written so far."""
        return Usage(prompt_tokens=self._prompt_tokens, completion_tokens=len(self.ids))

    @property
    def message(self) -> Message:
        """The assistant's message, for an answer of a dialog."""
        self.finish()
        message = self._reader.message if isinstance(self._reader, ChatReader) else None
        assert message is not None, "a completion is text and has no message"
        return replace(message, usage=self.usage)

    def finish(self) -> str:
        """End the answer here and return the text that was held back."""
        if self._is_flushed:
            return ""
        self._is_flushed = True
        return self._reader.flush()
