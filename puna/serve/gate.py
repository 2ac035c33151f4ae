"""Every request passes here: its id, its key, whether the server still takes it, and its log line.

It is plain ASGI round the routes, so that nothing is copied on the way out. What an endpoint did
not foresee ends here, logged with its traceback and told without it.
"""

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from puna.serve.call import Call
from puna.serve.failures import Failure, draining, failure_of
from puna.serve.incoming import Incoming
from puna.serve.state import State
from puna.serve.traces import Tracer
from puna.serve.wire import Reply, send_reply

logger = logging.getLogger("puna.serve")
_ID = re.compile(r"[\w.\-]{1,64}")
_GUARDED = ("/v1/", "/tokenize", "/detokenize", "/metrics")  # what a key is needed for


class Gate:
    """The first and the last to see a request."""

    def __init__(self, app: ASGIApp, state: State, tracer: Tracer) -> None:
        self._app, self._state, self._tracer = app, state, tracer
        self._keys = [hashlib.sha256(key.encode()).digest() for key in state.settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        path = scope["path"]
        call = Call(path=path, method=scope["method"], client=(scope.get("client") or ("",))[0])
        if _ID.fullmatch(given := headers.get(b"x-request-id", "")):
            call.id = given
        scope.setdefault("state", {})["call"] = call
        has_body = headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
        incoming = Incoming(receive, has_body=has_body)
        answer = _Answer(send, call, incoming)
        is_work = path.startswith("/v1/")
        if is_work:
            self._state.begin()
        try:
            with self._tracer.span(call, headers):
                await self._pass(scope, incoming, answer, headers)
        finally:
            if is_work:
                self._state.end()
            self._note(scope, call)

    async def _pass(
        self, scope: Scope, receive: Receive, answer: "_Answer", headers: Mapping[bytes, str]
    ) -> None:
        call: Call = scope["state"]["call"]
        try:
            if call.path.startswith(_GUARDED):
                call.owner = self._owner(headers)
            if self._state.is_draining and call.method == "POST" and call.path.startswith("/v1/"):
                raise draining()
            await self._app(scope, receive, answer)
        except Exception as error:  # the top of a request: what nobody foresaw
            if not isinstance(error, Failure):
                logger.exception("request %s failed", call.id)
            if not answer.has_begun:
                failure = failure_of(error)
                await send_reply(
                    answer,
                    Reply(body=failure.body, status=failure.status, headers=failure.headers),
                )
            else:
                await answer.tell(failure_of(error))

    def _owner(self, headers: Mapping[bytes, str]) -> str:
        """Return a name for the key that was given; every key takes the same time to refuse."""
        if not self._keys:
            return ""
        scheme, _, key = headers.get(b"authorization", "").partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "replace")).digest()
        found = [hmac.compare_digest(given, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(found):
            raise Failure(
                401,
                "The key is missing or wrong; send a valid one as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
            )
        return given.hex()[:8]

    def _note(self, scope: Scope, call: Call) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or "other"
        self._state.metrics.note(call, path)
        if path not in ("/health", "/metrics"):
            logger.info("%s", json.dumps(line_of(call), ensure_ascii=False))


class _Answer:
    """`send`, which puts the id of the request on its answer and remembers that it has begun."""

    __slots__ = ("_call", "_incoming", "_send", "has_begun", "is_stream")

    def __init__(self, send: Send, call: Call, incoming: Incoming) -> None:
        self._send, self._call, self._incoming = send, call, incoming
        self.has_begun = self.is_stream = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._call.status = message["status"]
            headers = message.setdefault("headers", [])
            kinds = [value for key, value in headers if key == b"content-type"]
            self.is_stream = bool(kinds) and kinds[0].startswith(b"text/event-stream")
            message["headers"] = [
                *headers,
                (b"x-request-id", self._call.id.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        elif not message.get("more_body", False) and not self._incoming.is_whole:
            await self._send({**message, "more_body": True})
            await self._incoming.drop_rest()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def tell(self, failure: Failure) -> None:
        """End an answer that has begun: a stream says why, anything else just ends."""
        told = b"data: " + failure.body + b"\n\ndata: [DONE]\n\n" if self.is_stream else b""
        await self._send({"type": "http.response.body", "body": told})


def line_of(call: Call) -> dict[str, Any]:
    """Return what the log tells of a request; texts are in it only where the operator asks."""
    line: dict[str, Any] = {
        "event": "request", "id": call.id, "method": call.method, "path": call.path,
        "status": call.status, "took_s": round(call.took_s, 4), "client": call.client,
    }  # fmt: skip
    if call.model:
        line |= {"model": call.model, "stream": call.is_stream, "finish_reason": call.reason}
    if call.owner:
        line["key"] = call.owner
    if call.spent is not None:
        line |= {
            "prompt_tokens": call.spent.prompt_tokens,
            "cached_tokens": call.spent.cached_tokens,
            "completion_tokens": call.spent.completion_tokens,
            "queued_s": round(call.spent.queued_s, 4),
        }
    if call.has_left:
        line["left"] = True
    texts = {"prompt": call.prompt, "answer": call.answer}
    return line | {key: text for key, text in texts.items() if text is not None}
