"""Chunks of a streamed completion: written as text round the part that changes.

Every chunk of an answer repeats the same keys, so their JSON is made once and a token costs one
small `json.dumps`. Source: OpenAI API reference, chat completion chunk.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puna.chat.events import AnswerEvent, ArgumentsDelta, CallStarted
from puna.chat.messages import Message
from puna.infer.request import TokenLogprob
from puna.serve.reading import Piece
from puna.tokenizer.interface import Tokenizer


class Chunks:
    """The chunks of one chat completion."""

    def __init__(
        self, id: str, model: str, created: int, tok: Tokenizer, *, tells_usage: bool
    ) -> None:
        head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = b"data: " + _json(head)[:-1] + b',"choices":['
        # Where usage was asked for, OpenAI names it in every chunk: null, but in the last.
        self._tail = b'],"usage":null}\n\n' if tells_usage else b"]}\n\n"
        self._tok = tok
        self._begun: set[int] = set()
        self._waiting: dict[int, list[TokenLogprob]] = {}  # of tokens whose text is held back

    def of(self, piece: Piece, *, tells_logprobs: bool) -> bytes:
        """Return the chunks of a piece, joined; none where it settled nothing."""
        index = piece.index
        logprobs: Any = None
        if tells_logprobs:
            waiting = self._waiting.setdefault(index, [])
            waiting += piece.logprobs
            if waiting and (piece.text or piece.calls or piece.finish_reason is not None):
                logprobs, self._waiting[index] = logprobs_of(self._tok, waiting), []
        out = b""
        if index not in self._begun:
            self._begun.add(index)
            out = self._chunk(index, b'{"role":"assistant","content":""}')
        if piece.text:
            out += self._chunk(index, b'{"content":' + _json(piece.text) + b"}", logprobs)
            logprobs = None
        for event in piece.calls:
            if (delta := _call_delta(event)) is not None:
                out += self._chunk(index, _json({"tool_calls": [delta]}), logprobs)
                logprobs = None
        if piece.finish_reason is not None:
            out += self._chunk(index, b"{}", logprobs, piece.finish_reason)
        return out

    def result(self, message: Message) -> bytes:
        """Return the chunk of a tool that the server ran; then the assistant speaks again."""
        self._begun.discard(0)
        delta = {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
        return self._chunk(0, _json(delta))

    def usage(self, usage: Mapping[str, Any]) -> bytes:
        """Return the last chunk, where usage was asked for."""
        return self._head + b'],"usage":' + _json(usage) + b"}\n\n"

    def _chunk(
        self, index: int, delta: bytes, logprobs: Any = None, reason: str | None = None
    ) -> bytes:
        told = b"null" if logprobs is None else _json(logprobs)
        ended = b"null" if reason is None else b'"' + reason.encode() + b'"'
        return b'%s{"index":%d,"delta":%s,"logprobs":%s,"finish_reason":%s}%s' % (
            self._head, index, delta, told, ended, self._tail,
        )  # fmt: skip


def _call_delta(event: AnswerEvent) -> dict[str, Any] | None:
    if isinstance(event, CallStarted):
        function = {"name": event.name, "arguments": ""}
        return {"index": event.index, "id": event.id, "type": "function", "function": function}
    if isinstance(event, ArgumentsDelta):
        return {"index": event.index, "function": {"arguments": event.text}}
    return None


def logprobs_of(tok: Tokenizer, found: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return log-probabilities as chat completions tell them; `id` is not OpenAI's."""
    return {
        "content": [
            {
                **_token(tok, entry.id, entry.logprob),
                "top_logprobs": [_token(tok, token, value) for token, value in entry.top],
            }
            for entry in found
        ],
        "refusal": None,
    }


def _token(tok: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    raw = tok.piece(token)
    text = raw.decode("utf-8", "replace")
    return {"token": text, "logprob": finite(logprob), "bytes": list(raw), "id": token}


def finite(logprob: float) -> float:
    """Return a log-probability that JSON can hold; OpenAI writes -9999 for what cannot be."""
    return logprob if logprob > -9999.0 else -9999.0


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
