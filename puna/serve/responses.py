"""`/v1/responses`: text, tools and streaming events, and dialogs that the server remembers.

Source: OpenAI API reference, responses.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from puna.serve.bodies.chat import ChatBody
from puna.serve.bodies.responses import ResponsesBody
from puna.serve.call import Call
from puna.serve.chat import total_usage
from puna.serve.chat_plan import Plan, plan_of
from puna.serve.failures import failure_of
from puna.serve.reading import ChatReading
from puna.serve.response_events import Items, Numbered
from puna.serve.response_items import chat_body, listed, messages_of
from puna.serve.responses_store import Stored
from puna.serve.served import size_of
from puna.serve.state import State
from puna.serve.tool_steps import with_tools
from puna.serve.wire import Reply, Stream

Json = dict[str, Any]


class Work:
    """One response while it is answered."""

    def __init__(
        self, state: State, call: Call, body: ResponsesBody, plan: Plan, dialog: list[Json]
    ) -> None:
        self.state, self.call, self.body, self.plan, self.dialog = state, call, body, plan, dialog
        self.items = Items(call.id)
        self.id = f"resp_{call.id}"
        self.created = int(time.time())
        self._readings: list[ChatReading] = []

    async def events(self) -> AsyncIterator[Json]:
        """Answer, and yield what happens on the way."""
        async with aclosing(with_tools(self.state, self.call, self.plan)) as found:
            async for readings, item in found:
                self._readings = readings
                for told in self.items.take(item):
                    yield told
        self._keep()

    def told(self, status: str | None = None) -> Json:
        """Return the response as it stands."""
        body, is_cut = self.body, self.items.finish_reason == "length"
        usage = None
        if status is None:
            status = "incomplete" if is_cut else "completed"
            usage = _usage(total_usage(self.call, self.plan, self._readings))
        sampling = self.plan.request.sampling
        return {
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens,
            "model": self.plan.served.name, "output": self.items.output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "temperature": sampling.temperature, "top_p": sampling.top_p,
            "text": (body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {})
            or {"format": {"type": "text"}},
            "tool_choice": _as_given(body, "tool_choice") or "auto",
            "tools": _as_given(body, "tools") or [], "truncation": "disabled",
            "reasoning": {"effort": None, "summary": None}, "store": body.store is not False,
            "background": False, "metadata": body.metadata or {}, "user": body.user,
            "usage": usage,
        }  # fmt: skip

    def _keep(self) -> None:
        if self.body.store is False:
            return
        said = messages_of(self.items.output)
        stored = Stored(
            owner=self.call.owner, response=self.told(), messages=[*self.dialog, *said],
            input=listed(self.call.id, self.body.input),
        )  # fmt: skip
        self.state.responses.keep(self.id, stored)


def _as_given(body: ResponsesBody, key: str) -> Any:
    return body.model_dump(include={key}, exclude_unset=True, by_alias=True).get(key)


def _usage(usage: Mapping[str, Any]) -> Json:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }


async def respond(state: State, call: Call, body: ResponsesBody) -> Reply | Stream:
    """Answer a response."""
    served = state.model(body.model)
    call.model = served.name
    before: list[Json] = []
    if body.previous_response_id is not None:
        stored = state.responses.find(body.previous_response_id, call.owner)
        before = [dict(message) for message in stored.messages]
    dialog = [*before, *messages_of(body.input)]
    asked: ChatBody = chat_body(body, dialog)
    plan = await served.prepare(lambda: plan_of(state, served, call, asked), size_of(dialog))
    state.note_prompt(call, plan.messages)
    work = Work(state, call, body, plan, dialog)
    if body.stream:
        return Stream(events=_stream(work))
    async for _ in work.events():
        pass
    return Reply.json(work.told())


async def _stream(work: Work) -> AsyncIterator[bytes]:
    number = Numbered()
    told = work.told("in_progress")
    begun = b""
    try:
        async for item in work.events():
            if not begun:  # not before the engine took it, so that a refusal has its own status
                begun = number({"type": "response.created", "response": told})
                yield begun + number({"type": "response.in_progress", "response": told})
            yield number(item)
    except Exception as error:  # the stream has begun: it says how it ended, then the gate logs it
        if begun:
            failure = failure_of(error)
            failed = {
                **work.told("failed"),
                "error": {"code": failure.code, "message": failure.message},
            }
            yield number({"type": "response.failed", "response": failed})
        raise
    if not begun:
        yield number({"type": "response.created", "response": told})
    kind = "incomplete" if work.items.finish_reason == "length" else "completed"
    yield number({"type": f"response.{kind}", "response": work.told()})


async def get_response(state: State, call: Call, parts: dict[str, str]) -> Reply:
    """Return a stored response."""
    return Reply.json(state.responses.find(parts["id"], call.owner).response)


async def list_input(state: State, call: Call, parts: dict[str, str]) -> Reply:
    """Return what a stored response answers, the last first, as OpenAI lists it."""
    items = state.responses.find(parts["id"], call.owner).input[::-1]
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]}
    return Reply.json({"object": "list", "data": items, "has_more": False, **ends})


async def delete_response(state: State, call: Call, parts: dict[str, str]) -> Reply:
    """Forget a stored response."""
    state.responses.drop(parts["id"], call.owner)
    return Reply.json({"id": parts["id"], "object": "response.deleted", "deleted": True})
