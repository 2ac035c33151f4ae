"""The one address of many replicas: an ASGI application that hands each request on.

It knows no model: keys, bodies and errors are the replicas' work. It reads a body, says what the
request wants (`puna.serve.replicas.balance`), passes the answer back as it comes, and answers
`/health` and `/metrics` for all. A replica that dies before it has said anything is asked no more,
and another one answers; one that dies in the middle of a stream ends that stream with an error.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from puna import __version__
from puna.serve.call import Call
from puna.serve.failures import Failure, draining, failure_of
from puna.serve.replicas.balance import Wanted
from puna.serve.replicas.carried import Asked, Begun, ReplicaLost
from puna.serve.replicas.figures import FrontFigures
from puna.serve.replicas.prefixes import prefix_keys
from puna.serve.settings import MEBIBYTE, Settings
from puna.serve.wire import ClientLeft, Reply, read_body, send_reply, unless_client_leaves

logger = logging.getLogger("puna.serve")
_ID = re.compile(r"[\w.\-]{1,64}")
_STORED = re.compile(r"/v1/responses/([^/]+)")
_HELD = ("/v1/files", "/v1/batches")  # live in the memory or the folder of one replica
_LARGE = 64 * 1024  # bytes; smaller bodies are read faster than a thread is asked
_LOOK_S = 1.0  # how often the replicas are counted
_TRIES = 3  # replicas that one request may lose


class Fleet(Protocol):
    """The replicas, and whatever runs them."""

    def ask(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        """Let one replica answer; raises ReplicaLost where it dies."""

    async def ask_all(self, asked: Asked) -> Sequence[tuple[Begun, bytes]]:
        """Let every replica answer."""

    async def count(self) -> int:
        """Return how many replicas can answer."""

    def close(self) -> None:
        """End all of them."""


@dataclass(slots=True, kw_only=True)
class FrontState:
    """What lives as long as the front."""

    settings: Settings
    replicas: int  # that were asked for
    ready: int = 0  # that could answer when they were last counted
    is_draining: bool = False
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Front:
    """The application and its state."""

    def __init__(self, fleet: Fleet, settings: Settings, replicas: int) -> None:
        self.state = FrontState(settings=settings, replicas=replicas)
        self.figures = FrontFigures()
        self._fleet = fleet
        self._life = Router(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI wants it."""
        if scope["type"] != "http":
            await self._life(scope, receive, send)
            return
        headers = dict(scope["headers"])
        call = Call(path=scope["path"], method=scope["method"])
        if _ID.fullmatch(given := headers.get(b"x-request-id", b"").decode("latin-1")):
            call.id = given
        is_work = call.path.startswith("/v1/")
        self.state.running += is_work
        self.state.idle.clear()
        try:
            await self._pass(scope, receive, send, call)
        except ClientLeft:
            call.has_left = True
        finally:
            self.state.running -= is_work
            if not self.state.running:
                self.state.idle.set()
            self._note(call)

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.state.ready = await self._fleet.count()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await asyncio.to_thread(self._fleet.close)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self.state.ready = await self._fleet.count()

    async def _pass(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        passed = Passed(send, call)
        try:
            if call.path == "/health":
                await passed.reply(self._health())
            elif self.state.is_draining and call.method == "POST" and call.path.startswith("/v1/"):
                raise draining()
            else:
                asked = await self._read(scope, receive, call)
                is_for_all = call.path == "/metrics"
                answer = self._answer_all if is_for_all else self._answer
                await unless_client_leaves(receive, lambda: answer(asked, passed))
        except ClientLeft:
            raise
        except Exception as error:  # the top of a request: what nobody foresaw
            if not isinstance(error, Failure):
                logger.exception("request %s failed", call.id)
            await passed.fail(failure_of(error))

    async def _read(self, scope: Scope, receive: Receive, call: Call) -> Asked:
        """Read a request whole, and find out what it wants."""
        settings = self.state.settings
        is_file = call.path == "/v1/files"
        most = settings.max_file_bytes + MEBIBYTE if is_file else settings.max_body_bytes
        body = await read_body(scope, receive, most)
        named = [(key, value) for key, value in scope["headers"] if key != b"x-request-id"]
        if len(body) < _LARGE:
            wants = wanted_of(call, body, dict(named))
        else:
            wants = await asyncio.to_thread(wanted_of, call, body, dict(named))
        return Asked(
            method=call.method, path=call.path, query=scope["query_string"], body=body,
            raw_path=scope.get("raw_path") or call.path.encode(),
            headers=(*named, (b"x-request-id", call.id.encode())),
            client=scope.get("client"), wanted=wants,
        )  # fmt: skip

    async def _answer(self, asked: Asked, passed: "Passed") -> None:
        """Pass on the answer of one replica, or of another where that one dies at once."""
        if not self.state.ready:
            self.state.ready = await self._fleet.count()
        if not self.state.ready:
            raise no_replica()
        for left in reversed(range(_TRIES)):
            try:
                async with aclosing(self._fleet.ask(asked)) as parts:
                    async for part in parts:
                        if isinstance(part, Begun):
                            self.figures.routed(part, len(asked.wanted.keys))
                        await passed.take(part)
                await passed.end()
            except ReplicaLost:
                self.figures.lost.inc()
                if passed.has_begun or not left:
                    raise no_replica() from None
            else:
                return

    async def _answer_all(self, asked: Asked, passed: "Passed") -> None:
        """Tell the metrics of all replicas and of the front; what one refuses, all refuse."""
        told = await self._fleet.ask_all(asked)
        if not told:
            raise no_replica()
        refused = [(begun, body) for begun, body in told if begun.status != 200]
        if refused:
            for part in refused[0]:
                await passed.take(part)
            await passed.end()
            return
        texts = {begun.replica: body.decode() for begun, body in told}
        body = self.figures.text(texts, running=self.state.running, ready=len(texts))
        await passed.reply(Reply(body=body, kind=CONTENT_TYPE_LATEST))

    def _health(self) -> Reply:
        state = self.state
        status = "draining" if state.is_draining else "ok" if state.ready else "starting"
        told = {
            "status": status, "version": __version__, "running": state.running,
            "replicas": {"ready": state.ready, "wanted": state.replicas},
        }  # fmt: skip
        return Reply.json(told, status=200 if status == "ok" else 503)

    def _note(self, call: Call) -> None:
        if call.path in ("/health", "/metrics"):
            return
        line: dict[str, Any] = {
            "event": "passed", "id": call.id, "method": call.method, "path": call.path,
            "status": call.status, "took_s": round(call.took_s, 4), "replica": call.model,
        }  # fmt: skip
        logger.info("%s", json.dumps(line | ({"left": True} if call.has_left else {})))


class Passed:
    """The answer to one client, which comes from elsewhere."""

    def __init__(self, send: Send, call: Call) -> None:
        self._send, self._call = send, call
        self.has_begun = self._is_stream = False

    async def take(self, part: Begun | bytes) -> None:
        """Pass on a part."""
        if isinstance(part, bytes):
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            return
        self.has_begun, self._call.status, self._call.model = True, part.status, part.replica
        kind = dict(part.headers).get(b"content-type", b"")
        self._is_stream = kind.startswith(b"text/event-stream")
        headers = list(part.headers)
        await self._send({"type": "http.response.start", "status": part.status, "headers": headers})

    async def end(self) -> None:
        """Say that all has come."""
        await self._send({"type": "http.response.body", "body": b""})

    async def reply(self, reply: Reply) -> None:
        """Answer in one piece, from here."""
        self.has_begun, self._call.status = True, reply.status
        headers = {
            **reply.headers, "x-request-id": self._call.id, "x-content-type-options": "nosniff"
        }  # fmt: skip
        await send_reply(
            self._send,
            Reply(body=reply.body, status=reply.status, kind=reply.kind, headers=headers),
        )

    async def fail(self, failure: Failure) -> None:
        """Tell an error; where the answer has begun, a stream says why and the rest is cut off."""
        if not self.has_begun:
            reply = Reply(body=failure.body, status=failure.status, headers=failure.headers)
            await self.reply(reply)
        elif self._is_stream:
            await self.take(b"data: " + failure.body + b"\n\ndata: [DONE]\n\n")
            await self.end()


def wanted_of(call: Call, raw: bytes, headers: dict[bytes, bytes]) -> Wanted:
    """Return what a request wants of the replicas; a body that is no JSON wants nothing."""
    if call.path.startswith(_HELD):
        return Wanted(home=b"files")
    if stored := _STORED.match(call.path):
        return Wanted(home=stored[1].encode("utf-8", "surrogatepass"))
    if call.method != "POST" or not call.path.startswith("/v1/"):
        return Wanted()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return Wanted()
    keys = prefix_keys(call.path, body, headers.get(b"authorization", b""))
    if call.path != "/v1/responses" or not isinstance(body, dict):
        return Wanted(keys=keys)
    before = body.get("previous_response_id")
    return Wanted(
        keys=keys,
        home=before.encode("utf-8", "surrogatepass") if isinstance(before, str) else None,
        makes=f"resp_{call.id}".encode(),  # as puna.serve.responses names it
    )


def no_replica() -> Failure:
    """Return the failure where no replica could answer."""
    return Failure(
        503, "No replica could answer; one that died is being replaced. Try again.",
        code="no_replica", retry_after_s=5,
    )  # fmt: skip
