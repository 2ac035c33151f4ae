"""From a function that answers a body to an ASGI application: read, check, answer, and never break.

An endpoint is a function of the server's state, the call and a checked body; it returns a `Reply`
or a `Stream`, or raises. Large bodies are read in a thread, so that others need not wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from puna.errors import PunaError
from puna.log import logger
from puna.serve.bodies.strict import Body
from puna.serve.call import Call
from puna.serve.failures import Failure, failure_of
from puna.serve.state import State
from puna.serve.wire import (
    ClientLeft,
    Reply,
    Stream,
    read_body,
    send_reply,
    send_stream,
    unless_client_leaves,
)

B = TypeVar("B", bound=Body)
Answer = Callable[[State, Call, B], Awaitable[Reply | Stream]]
_LARGE = 64 * 1024  # bytes; smaller bodies are checked faster than a thread is asked


def post(state: State, body_type: type[B], answer: Answer[B]) -> ASGIApp:
    """Return the application of one endpoint that takes a body."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["call"]

        async def run() -> None:
            result = await answer(state, call, body)
            await send_result(send, call, result)

        try:
            raw = await read_body(scope, receive, state.settings.max_body_bytes)
            body = await checked(body_type, raw)
            await unless_client_leaves(receive, run)
        except ClientLeft:
            call.has_left = True
        except (Failure, PunaError, ValidationError) as error:
            await send_failure(send, call, failure_of(error))

    return app


def get(state: State, answer: Callable[[State, Call, dict[str, str]], Awaitable[Reply]]) -> ASGIApp:
    """Return the application of one endpoint without a body; it takes the parts of its path."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        call: Call = scope["state"]["call"]
        try:
            result = await answer(state, call, scope.get("path_params", {}))
            await send_result(send, call, result)
        except (Failure, PunaError) as error:
            await send_failure(send, call, failure_of(error))

    return app


async def checked(body_type: type[B], raw: bytes) -> B:
    """Read a body as its class."""
    if len(raw) < _LARGE:
        return body_type.model_validate_json(raw)
    return await asyncio.to_thread(body_type.model_validate_json, raw)


async def send_result(send: Send, call: Call, result: Reply | Stream) -> None:
    """Send what an endpoint answered."""
    if isinstance(result, Reply):
        call.status = result.status
        await send_reply(send, result)
        return
    call.is_stream = True
    await send_stream(send, result)


async def send_failure(send: Send, call: Call, failure: Failure) -> None:
    """Send an error, unless the answer has begun: then only the connection can tell."""
    if failure.status >= 500:
        logger.error("request %s failed: %s", call.id, failure.message)
    if call.status == 0 or not call.is_stream:
        call.status = failure.status
        reply = Reply(body=failure.body, status=failure.status, headers=failure.headers)
        await send_reply(send, reply)


__all__: list[Any] = ["checked", "get", "post", "send_failure"]
