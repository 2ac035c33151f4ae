"""Bytes in and out of ASGI: a body that is never larger than allowed, JSON, and streams of events.

Answers are written here and not by a framework's classes, because the path of a token must be
short: one `send` for all that one step of the engine said.

Source: ASGI HTTP specification 2.4; WHATWG HTML, server-sent events.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from puna.errors import PunaError
from puna.serve.failures import Failure, failure_of

JSON = "application/json"
DONE = b"data: [DONE]\n\n"


class ClientLeft(Exception):  # noqa: N818  (not an error: the client went away)
    """The client closed the connection before it had its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer in one piece."""

    body: bytes
    status: int = 200
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> "Reply":
        """Return a value as JSON."""
        return cls(body=to_json(value), status=status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """An answer in events; the iterator yields whole ones, as `event` makes them."""

    events: AsyncIterator[bytes]


def to_json(value: Any) -> bytes:
    """Write JSON without spaces, in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def event(value: Any, name: str | None = None) -> bytes:
    """Return one event of a stream."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + to_json(value) + b"\n\n"


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body of a request.

    Raises:
        Failure: 413, as soon as it is known to be too long.
        ClientLeft: the connection closed.
    """
    told = dict(scope["headers"]).get(b"content-length", b"")
    if told.isdigit() and int(told) > most:
        raise _too_large(int(told), most)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(size, most)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(size: int, most: int) -> Failure:
    return Failure(
        413,
        f"The body has {size:,} bytes or more; this server takes {most:,}. Send less at once.",
        code="body_too_large",
    )


async def send_reply(send: Send, reply: Reply) -> None:
    """Write an answer in one piece."""
    headers = {
        "content-type": reply.kind, "content-length": str(len(reply.body)), **reply.headers
    }  # fmt: skip
    await send({"type": "http.response.start", "status": reply.status, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": reply.body})


async def send_stream(send: Send, stream: Stream) -> None:
    """Write events as they come; an error on the way becomes the last one."""
    events = stream.events
    first = await anext(events, b"")  # what fails before the first event has its own status
    headers = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",  # nginx would collect the events
    }
    await send({"type": "http.response.start", "status": 200, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    try:
        async for data in events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except (Failure, PunaError) as error:
        told = b"data: " + failure_of(error).body + b"\n\n" + DONE
        await send({"type": "http.response.body", "body": told, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]


async def unless_client_leaves(receive: Receive, answer: Callable[[], Awaitable[None]]) -> None:
    """Answer, and stop at once when the client goes; what the answer held is given back.

    Raises:
        ClientLeft: it went.
    """
    work = asyncio.ensure_future(answer())
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            raise ClientLeft
        await work
    finally:
        for task in (work, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        # An error holds this frame, and the task holds the error: without this, a prompt that was
        # refused would stay in memory until the next full collection.
        del work, gone, task


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
