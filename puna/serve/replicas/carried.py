"""A request and its answer as they travel between the front and a replica, and the replica's side.

The front has read the whole body; the replica runs the application on it as if a socket were there.
A front that stops listening is to the application what a client is that leaves.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Scope

from puna.serve.replicas.balance import Wanted

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, whole."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    client: tuple[str, int] | None
    body: bytes
    wanted: Wanted

    def scope(self) -> Scope:
        """Return the request as an ASGI application takes it."""
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1", "scheme": "http", "server": None, "root_path": "",
            "method": self.method, "path": self.path, "raw_path": self.raw_path,
            "query_string": self.query, "headers": list(self.headers), "client": self.client,
            "state": {},
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """How an answer begins; the parts of its body follow."""

    status: int
    headers: Headers
    replica: str  # that answers
    known: int  # keys of the text that it had read before


class ReplicaLost(Exception):  # noqa: N818  (an event; what it means depends on when it comes)
    """The replica that answered died."""


async def answers(app: ASGIApp, asked: Asked) -> AsyncGenerator[Message, None]:
    """Run an application on a request and yield what it sends, as it sends it.

    Closing the iterator tells the application that the client has left, and waits for it.
    """
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    left = asyncio.Event()
    unread = [asked.body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.put_nowait(message)

    async def run() -> None:
        try:
            await app(asked.scope(), receive, send)
        finally:
            sent.put_nowait(None)

    work = asyncio.create_task(run())
    try:
        while (message := await sent.get()) is not None:
            yield message
        await work
    finally:
        left.set()
        await asyncio.wait({work})


async def carried(
    app: ASGIApp, asked: Asked, *, replica: str, known: int
) -> AsyncGenerator[Begun | bytes, None]:
    """Yield an application's answer as it travels: how it begins, then the parts of its body."""
    async with aclosing(answers(app, asked)) as messages:
        async for message in messages:
            if message["type"] == "http.response.start":
                headers = tuple((bytes(k), bytes(v)) for k, v in message.get("headers", ()))
                yield Begun(status=message["status"], headers=headers, replica=replica, known=known)
            elif part := message.get("body", b""):
                yield part
