"""`/v1/chat/completions`: a dialog is rendered, answered and told in one piece or as a stream.

Tools that the client declares come back as calls. Tools that the operator allows, and the request
asks for in `server_tools`, run here (`puna.serve.tool_steps`).
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from puna.chat.messages import Message, to_openai
from puna.infer.request import TokenLogprob
from puna.serve.answering import usage_of
from puna.serve.bodies.chat import ChatBody
from puna.serve.call import Call
from puna.serve.chat_plan import Plan, plan_of
from puna.serve.chunks import Chunks, logprobs_of
from puna.serve.reading import ChatReading, Piece
from puna.serve.served import Served, size_of
from puna.serve.state import State
from puna.serve.tool_steps import with_tools
from puna.serve.wire import DONE, Reply, Stream


async def chat(state: State, call: Call, body: ChatBody) -> Reply | Stream:
    """Answer a chat completion."""
    served = state.model(body.model)
    call.model = served.name
    plan = await served.prepare(
        lambda: plan_of(state, served, call, body),
        size_of([[m.content, m.tool_calls] for m in body.messages]),
    )
    state.note_prompt(call, plan.messages)
    if body.stream:
        return Stream(events=_stream(state, call, plan, body))
    return Reply.json(await _whole(state, call, plan, body))


async def _whole(state: State, call: Call, plan: Plan, body: ChatBody) -> dict[str, Any]:
    told: list[list[TokenLogprob]] = [[] for _ in range(plan.request.n)]
    readings: list[ChatReading] = []
    before: list[Message] = []  # of the steps in which tools of the server ran
    async with aclosing(with_tools(state, call, plan)) as found:
        async for current, item in found:
            readings = current
            if isinstance(item, Piece):
                told[item.index] += item.logprobs
            else:
                before.append(item)
                told = [[] for _ in told]
    usage = total_usage(call, plan, readings)
    choices = [
        _choice(plan.served, place, reading, logprobs if body.logprobs else None)
        for place, (reading, logprobs) in enumerate(zip(readings, told, strict=True))
    ]
    state.note_answer(call, "\n".join(reading.message.content for reading in readings))
    whole = {
        "id": f"chatcmpl-{call.id}", "object": "chat.completion", "created": int(time.time()),
        "model": plan.served.name, "choices": choices, "usage": usage, "system_fingerprint": None,
    }  # fmt: skip
    return {**whole, "puna": {"messages": list(map(to_openai, before))}} if before else whole


def total_usage(call: Call, plan: Plan, readings: Sequence[ChatReading]) -> dict[str, Any]:
    """Return the usage: of the last step where the server ran no tools, else of all."""
    if plan.runs and call.spent is not None:
        return usage_of(call.spent.prompt_tokens, call.spent.completion_tokens, call.spent)
    written = sum(reading.tokens for reading in readings)
    return usage_of(len(plan.request.ids), written, call.spent)


def _choice(served: Served, index: int, reading: ChatReading, logprobs: Any) -> dict[str, Any]:
    message = {"refusal": None, **to_openai(reading.message)}
    return {
        "index": index,
        "message": message,
        "logprobs": None if logprobs is None else logprobs_of(served.tok, logprobs),
        "finish_reason": reading.finish_reason,
    }


async def _stream(state: State, call: Call, plan: Plan, body: ChatBody) -> AsyncIterator[bytes]:
    tells_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = Chunks(
        f"chatcmpl-{call.id}", plan.served.name, int(time.time()), plan.served.tok,
        tells_usage=tells_usage,
    )  # fmt: skip
    readings: list[ChatReading] = []
    tells_logprobs = bool(body.logprobs)
    async with aclosing(with_tools(state, call, plan)) as found:
        async for current, item in found:
            readings = current
            if isinstance(item, Piece):
                data = chunks.of(item, tells_logprobs=tells_logprobs)
            else:
                data = chunks.result(item) if item.role == "tool" else b""
            if data:
                yield data
    state.note_answer(call, "\n".join(reading.message.content for reading in readings))
    last = chunks.usage(total_usage(call, plan, readings)) if tells_usage else b""
    yield last + DONE
