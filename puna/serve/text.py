"""`/v1/completions`: texts or ids are continued, each as often as asked.

Every prompt is a request of its own, and all run side by side; their answers are told in order, or
mixed in a stream as they come. Source: OpenAI API reference, completions.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from puna.chat.messages import Message
from puna.infer.request import Request, TokenLogprob
from puna.infer.stops import TextStream
from puna.serve.answer_forms import answer_form
from puna.serve.answering import pieces, usage_of
from puna.serve.bodies.text import TextBody
from puna.serve.call import Call
from puna.serve.chunks import finite
from puna.serve.failures import Failure
from puna.serve.merging import merged
from puna.serve.reading import Piece, TextReading
from puna.serve.sampling import request_of
from puna.serve.served import Served, size_of
from puna.serve.state import State
from puna.serve.wire import DONE, Reply, Stream, event
from puna.tokenizer.interface import Tokenizer


@dataclass(slots=True, kw_only=True)
class Prompt:
    """One prompt and what was written after it."""

    request: Request
    text: str  # to echo, or for the log; of ids only where one of the two wants it
    first: int  # index of its first choice
    readings: list[TextReading]
    told: list[list[TokenLogprob]] = field(default_factory=list)  # of each choice
    before: Sequence[TokenLogprob | None] = ()  # of the prompt


def prompts_of(state: State, served: Served, call: Call, body: TextBody) -> list[Prompt]:
    """Read the prompts of a body.

    Raises:
        Failure: the body asks for what is not done here.
    """
    n = body.n or 1
    given = body.prompt
    listed: list[Any] = [given] if isinstance(given, str) or _is_ids(given) else list(given)
    samples = max(n, body.best_of or 1)
    if body.suffix:
        raise Failure(
            400,
            "suffix: text in the middle was asked for, and Llama models are not trained to fill "
            "it. Send the beginning alone.",
            param="suffix",
        )
    if samples * len(listed) > state.settings.max_choices:
        raise Failure(
            400,
            f"{len(listed)} prompts with {samples} answers each were given; this server writes "
            f"{state.settings.max_choices} answers to one request. Send several requests.",
            param="n",
        )
    if body.best_of is not None and (body.best_of < n or body.stream):
        why = "it cannot be streamed" if body.stream else f"it is below n={n}"
        raise Failure(400, f"best_of={body.best_of}: {why}.", param="best_of")
    constraint = answer_form(body.response_format)
    found = []
    for place, prompt in enumerate(listed):
        is_text = isinstance(prompt, str)
        ids = served.tok.encode(prompt, bos=True) if is_text else list(prompt)
        request = request_of(
            served, call, body, ids, constraint=constraint, n=n, best_of=body.best_of,
            max_tokens=16 if body.max_tokens is None else body.max_tokens,  # OpenAI's default
            stop=body.stops, logprobs=body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
        )  # fmt: skip
        readings = [
            TextReading(place * n + i, TextStream(served.tok, stops=body.stops, prompt=ids))
            for i in range(n)
        ]
        is_told = body.echo or state.settings.logs_text
        text = prompt if is_text else served.tok.decode(ids) if is_told else ""
        found.append(
            Prompt(request=request, text=text, first=place * n, readings=readings,
                   told=[[] for _ in readings])
        )  # fmt: skip
    return found


def _is_ids(given: Any) -> bool:
    return isinstance(given, list) and isinstance(given[0], int)


async def complete(state: State, call: Call, body: TextBody) -> Reply | Stream:
    """Answer a completion."""
    served = state.model(body.model)
    call.model = served.name
    prompts = await served.prepare(
        lambda: prompts_of(state, served, call, body), size_of(body.prompt)
    )
    given = [Message(role="user", content=prompt.text) for prompt in prompts]
    state.note_prompt(call, given)
    if body.stream:
        return Stream(events=_stream(state, call, served, prompts, body))
    texts = ["" for prompt in prompts for _ in prompt.readings]
    async with aclosing(_all(state, call, served, prompts)) as found:
        async for prompt, piece in found:
            texts[piece.index] += piece.text
            prompt.told[piece.index - prompt.first] += piece.logprobs
    state.note_answer(call, "\n".join(texts))
    choices = [
        _choice(served.tok, body, prompt, place, texts[prompt.first + place])
        for prompt in prompts
        for place in range(len(prompt.readings))
    ]
    return Reply.json({
        "id": f"cmpl-{call.id}", "object": "text_completion", "created": int(time.time()),
        "model": served.name, "choices": choices, "usage": _usage(call, prompts),
    })  # fmt: skip


def _all(
    state: State, call: Call, served: Served, prompts: Sequence[Prompt]
) -> AsyncGenerator[tuple[Prompt, Piece], None]:
    """Yield the pieces of all prompts as they come."""

    async def of(prompt: Prompt) -> AsyncIterator[tuple[Prompt, Piece]]:
        readings = prompt.readings
        async with aclosing(pieces(state, call, served, prompt.request, readings)) as found:
            async for piece in found:
                if piece.before is not None:
                    prompt.before = piece.before
                yield prompt, piece

    return merged([of(prompt) for prompt in prompts])


async def _stream(
    state: State, call: Call, served: Served, prompts: Sequence[Prompt], body: TextBody
) -> AsyncIterator[bytes]:
    head = {
        "id": f"cmpl-{call.id}", "object": "text_completion", "created": int(time.time()),
        "model": served.name,
    }  # fmt: skip
    echoed: set[int] = set()
    waiting: dict[int, list[TokenLogprob]] = {}
    async with aclosing(_all(state, call, served, prompts)) as found:
        async for prompt, piece in found:
            logprobs = waiting.setdefault(piece.index, [])
            logprobs += piece.logprobs
            text = piece.text
            before: Sequence[TokenLogprob | None] = ()
            if body.echo and piece.index not in echoed:
                echoed.add(piece.index)
                text, before = prompt.text + text, prompt.before
            if not text and piece.finish_reason is None:
                continue
            told = None
            if body.logprobs is not None:
                told = _logprobs(served.tok, [*_places(prompt, before), *_own(logprobs)])
                waiting[piece.index] = []
            choice = {
                "index": piece.index, "text": text, "logprobs": told,
                "finish_reason": piece.finish_reason,
            }  # fmt: skip
            yield event({**head, "choices": [choice]})
    last = b""
    if body.stream_options and body.stream_options.include_usage:
        last = event({**head, "choices": [], "usage": _usage(call, prompts)})
    yield last + DONE


def _usage(call: Call, prompts: Sequence[Prompt]) -> dict[str, Any]:
    read = sum(len(prompt.request.ids) for prompt in prompts)
    written = sum(reading.tokens for prompt in prompts for reading in prompt.readings)
    if call.spent is not None:  # best_of writes more than it tells
        written = max(written, call.spent.completion_tokens)
    return usage_of(read, written, call.spent)


def _choice(
    tok: Tokenizer, body: TextBody, prompt: Prompt, place: int, text: str
) -> dict[str, Any]:
    logprobs = None
    if body.logprobs is not None:
        before = prompt.before if body.echo else ()
        logprobs = _logprobs(tok, [*_places(prompt, before), *_own(prompt.told[place])])
    return {
        "index": prompt.first + place,
        "text": prompt.text + text if body.echo else text,
        "logprobs": logprobs,
        "finish_reason": prompt.readings[place].finish_reason,
    }


_Place = tuple[int, TokenLogprob | None]


def _places(prompt: Prompt, before: Sequence[TokenLogprob | None]) -> list[_Place]:
    return list(zip(prompt.request.ids, before, strict=False))


def _own(found: Sequence[TokenLogprob]) -> list[_Place]:
    return [(entry.id, entry) for entry in found]


def _logprobs(tok: Tokenizer, places: Sequence[_Place]) -> dict[str, Any]:
    """Return log-probabilities in the form of completions; the first token of a text has none."""
    texts = [tok.piece(token).decode("utf-8", "replace") for token, _ in places]
    offsets = [0]
    unseen = frozenset(tok.specials.values())
    for text, (token, _) in zip(texts, places, strict=True):
        offsets.append(offsets[-1] + (0 if token in unseen else len(text)))
    return {
        "tokens": texts,
        "token_logprobs": [None if e is None else finite(e.logprob) for _, e in places],
        "top_logprobs": [
            None if e is None else {
                tok.piece(token).decode("utf-8", "replace"): finite(value) for token, value in e.top
            }
            for _, e in places
        ],
        "text_offset": offsets[:-1],
    }  # fmt: skip
