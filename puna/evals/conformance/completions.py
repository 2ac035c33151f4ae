"""One completion of a server, read from one piece or put together from a stream, and its form.

Both ways give a `Completion`, so that comparing them is comparing two values. What is malformed is
said in a sentence, the first one found.

Source: OpenAI API reference, chat completions and streaming (names of the keys).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from puna.evals.conformance.client import Answer, Events
from puna.evals.conformance.shapes import canonical

DONE = "[DONE]"  # the data of the last event
REASONS = ("stop", "length", "tool_calls", "content_filter")


class Malformed(ValueError):  # noqa: N818  (a sentence of the suite, not an error of puna)
    """Something in an answer has the wrong form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer of a completion."""

    content: str
    calls: tuple[tuple[str, str], ...]  # name, and arguments as canonical JSON
    finish_reason: str
    logprobs: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """All answers to one request, in the order of their indexes."""

    choices: tuple[Choice, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read_completion(answer: Answer, *, is_text: bool = False) -> Completion:
    """Read an answer in one piece.

    Raises:
        Malformed: it has not the form of a completion.
    """
    body = answer.body
    if answer.status != 200 or not isinstance(body, dict):
        raise Malformed(f"{answer.says}; a completion is expected.")
    wanted = "text_completion" if is_text else "chat.completion"
    if body.get("object") != wanted:
        raise Malformed(f"object is {body.get('object')!r}; {wanted!r} is expected.")
    for key in ("id", "model"):
        if not isinstance(body.get(key), str) or not body[key]:
            raise Malformed(f"{key} is {body.get(key)!r}; text is expected.")
    if not isinstance(body.get("created"), int):
        raise Malformed(f"created is {body.get('created')!r}; a time in seconds is expected.")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Malformed(f"choices is {str(choices)[:60]}; a list is expected.")
    ordered = sorted(choices, key=lambda choice: _index(choice))
    if [_index(choice) for choice in ordered] != list(range(len(choices))):
        raise Malformed("the indexes of the choices are not 0, 1, 2 and so on.")
    read = tuple(_text_choice(c) if is_text else _choice(c) for c in ordered)
    return Completion(choices=read, **usage_of(body.get("usage"), where="usage"))


def usage_of(usage: Any, *, where: str) -> dict[str, int | None]:
    """Read the counts of tokens; they must add up."""
    if usage is None:
        return {}
    keys = ("prompt_tokens", "completion_tokens", "total_tokens")
    given = usage if isinstance(usage, dict) else {}
    counts = [given[key] for key in keys if isinstance(given.get(key), int) and given[key] >= 0]
    if len(counts) != len(keys):
        raise Malformed(f"{where} is {str(usage)[:80]}; {', '.join(keys)} are expected.")
    if counts[0] + counts[1] != counts[2]:
        raise Malformed(f"{where}: {counts[0]} and {counts[1]} tokens are not {counts[2]} in all.")
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1]}


def _index(choice: Any) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    if not isinstance(index, int):
        raise Malformed(f"a choice has the index {index!r}; a number is expected.")
    return index


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice.get("message")
    if not isinstance(message, dict) or message.get("role") != "assistant":
        raise Malformed(f"message is {str(message)[:60]}; one of the assistant is expected.")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise Malformed(f"content is {type(content).__name__}; text or null is expected.")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Malformed(f"tool_calls is {str(calls)[:60]}; a list is expected.")
    return Choice(
        content=content or "",
        calls=tuple(read_call(call) for call in calls),
        finish_reason=_reason(choice.get("finish_reason")),
        logprobs=choice.get("logprobs"),
    )


def _text_choice(choice: Mapping[str, Any]) -> Choice:
    if not isinstance(choice.get("text"), str):
        raise Malformed(f"text is {choice.get('text')!r}; text is expected.")
    return Choice(
        content=choice["text"], calls=(), finish_reason=_reason(choice.get("finish_reason"))
    )


def _reason(reason: Any) -> str:
    if reason not in REASONS:
        raise Malformed(f"finish_reason is {reason!r}; one of {', '.join(REASONS)} is expected.")
    return str(reason)


def read_call(call: Any) -> tuple[str, str]:
    """Read one call: an id, a name, and arguments that are the text of a JSON object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise Malformed(f"{str(call)[:80]} is no call of a function.")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise Malformed(f"a call has the id {call.get('id')!r}; text is expected.")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise Malformed(f"a call has the name {name!r}; text is expected.")
    try:
        found = json.loads(arguments) if isinstance(arguments, str) else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Malformed(f"the arguments of {name} are {str(arguments)[:80]!r}; JSON is expected.")
    return name, canonical(found)


def read_stream(events: Events, *, asks_usage: bool, is_text: bool = False) -> Completion:
    """Put a stream together.

    Raises:
        Malformed: it has not the form of a stream.
    """
    answer = events.answer
    if answer.status != 200:
        raise Malformed(f"{answer.says}; a stream is expected.")
    if answer.kind != "text/event-stream":
        raise Malformed(f"content type {answer.kind!r} given; text/event-stream is expected.")
    if answer.trouble:
        raise Malformed(answer.trouble)
    # A vector of its own asks for [DONE], so that its absence hides nothing else.
    data = events.events[:-1] if events.events[-1:] == (DONE,) else events.events
    if not data:
        raise Malformed("the stream holds no chunks.")
    chunks = [_chunk(text, is_text=is_text) for text in data]
    if len({chunk.get("id") for chunk in chunks}) != 1:
        raise Malformed("the chunks have no id, or different ones.")
    counts = _stream_usage(chunks, asks_usage=asks_usage)
    parts: dict[int, list[Mapping[str, Any]]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            parts.setdefault(_index(choice), []).append(choice)
    if sorted(parts) != list(range(len(parts))) or not parts:
        raise Malformed("the indexes of the choices are not 0, 1, 2 and so on.")
    join = _joined_text if is_text else _joined_choice
    return Completion(choices=tuple(join(parts[index]) for index in sorted(parts)), **counts)


def _chunk(text: str, *, is_text: bool) -> Mapping[str, Any]:
    try:
        chunk = json.loads(text)
    except ValueError:
        raise Malformed(f"an event is no JSON: {text[:60]!r}") from None
    wanted = "text_completion" if is_text else "chat.completion.chunk"
    if not isinstance(chunk, dict) or chunk.get("object") != wanted:
        raise Malformed(f"an event is {text[:80]!r}; an object {wanted!r} is expected.")
    if not isinstance(chunk.get("choices"), list):
        raise Malformed("a chunk has no list of choices.")
    return chunk


def _stream_usage(
    chunks: Sequence[Mapping[str, Any]], *, asks_usage: bool
) -> dict[str, int | None]:
    told = [chunk for chunk in chunks if chunk.get("usage") is not None]
    if not asks_usage:
        return {}
    if not chunks or chunks[-1]["choices"] or chunks[-1].get("usage") is None:
        raise Malformed("the last chunk does not hold the usage alone, though it was asked for.")
    return usage_of(told[-1]["usage"], where="usage of the stream")


def _joined_choice(parts: Sequence[Mapping[str, Any]]) -> Choice:
    contents: list[str] = []
    calls: dict[int, dict[str, str]] = {}
    for part in parts:
        delta = part.get("delta")
        if not isinstance(delta, dict):
            raise Malformed(f"delta is {delta!r}; an object is expected.")
        if delta.get("role") not in (None, "assistant"):
            raise Malformed(f"the role in a stream is {delta['role']!r}.")
        text = delta.get("content")
        if text is not None and not isinstance(text, str):
            raise Malformed(f"content in a stream is {type(text).__name__}; text is expected.")
        contents.append(text or "")
        for call in delta.get("tool_calls") or ():
            _join_call(calls, call)
    if sorted(calls) != list(range(len(calls))):
        raise Malformed("the indexes of the calls in a stream are not 0, 1, 2 and so on.")
    whole = [
        {"id": calls[i]["id"], "function": {k: calls[i][k] for k in ("name", "arguments")}}
        for i in sorted(calls)
    ]
    return Choice(
        content="".join(contents),
        calls=tuple(read_call(call) for call in whole),
        finish_reason=_last_reason(parts),
    )


def _join_call(calls: dict[int, dict[str, str]], call: Any) -> None:
    index = call.get("index") if isinstance(call, dict) else None
    if not isinstance(index, int):
        raise Malformed(f"a call in a stream has the index {index!r}; a number is expected.")
    function = call.get("function") or {}
    if index not in calls:
        calls[index] = {
            "id": call.get("id") or "",
            "name": function.get("name") or "",
            "arguments": "",
        }
    elif function.get("name") and function["name"] != calls[index]["name"]:
        raise Malformed(f"call {index} of a stream changes its name to {function['name']!r}.")
    calls[index]["arguments"] += function.get("arguments") or ""


def _joined_text(parts: Sequence[Mapping[str, Any]]) -> Choice:
    return Choice(
        content="".join(str(part.get("text") or "") for part in parts),
        calls=(),
        finish_reason=_last_reason(parts),
    )


def _last_reason(parts: Sequence[Mapping[str, Any]]) -> str:
    reasons = [part["finish_reason"] for part in parts if part.get("finish_reason") is not None]
    if len(reasons) != 1:
        raise Malformed(f"{len(reasons)} finish reasons in a stream; one is expected.")
    return _reason(reasons[0])


def _settled(value: Any) -> Any:
    return value.rstrip("\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def misfit(one: Completion, other: Completion, *, what: str) -> str | None:
    """Say how two completions differ.

    Half a character at the end of an answer that was cut off may be shown as U+FFFD or left out.
    """
    if len(one.choices) != len(other.choices):
        return f"{what} has {len(other.choices)} choices; {len(one.choices)} are expected."
    for first, second in zip(one.choices, other.choices, strict=True):
        for key in ("content", "calls", "finish_reason"):
            given, expected = getattr(second, key), getattr(first, key)
            if given != expected and _settled(given) != _settled(expected):
                return f"{key} of {what} is {str(given)[:120]!r}; {str(expected)[:120]!r} is \
expected."
    return None
