"""One life of an MCP server: the task that holds its client open, seen from ordinary threads.

The SDK must leave its client in the task where it entered it. So one task of the event loop holds
the client until it is told to close; calls run beside it, each with its own limit of time.
"""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from puna.errors import StateError
from puna.log import logger
from puna.tools.mcp_stderr import StderrTail
from puna.tools.mcp_target import Address, Program, Target

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from mcp import Client
    from mcp.client._transport import Transport

_TETHER = Path(__file__).with_name("tether.py")
_READ_S = 300.0  # how long a stream of events may be silent

_Value = TypeVar("_Value")


class Session:
    """A server that answers; it was started for this session, or reached over HTTP."""

    def __init__(self, target: Target, portal: "BlockingPortal", connect_s: float) -> None:
        import anyio

        self._portal = portal
        self._stderr = StderrTail() if isinstance(target, Program) else None
        self._closing: anyio.Event = portal.call(anyio.Event)
        self._was_lost = False
        self._running: set[Future[Any]] = set()
        opened: Future[Client] = Future()
        self._task = portal.start_task_soon(self._hold, target, opened)
        try:
            self.client = opened.result(connect_s)
        except failures() as error:
            self._abandon()
            raise StateError(
                f"mcp server {target.label}: it cannot be used ({reason(error, connect_s)})."
                f"{self.last_words()} Check the command or the address."
            ) from error
        except BaseException:  # an interrupt must not leave the server behind
            self._abandon()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the server has ended: a call noticed it, or its stderr is closed."""
        return self._was_lost or self._task.done() or bool(self._stderr and self._stderr.has_ended)

    def run(self, work: Callable[[], Awaitable[_Value]], limit_s: float) -> _Value:
        """Run work on the loop's thread and wait for its result, `limit_s` at most.

        Raises:
            one of `failures()`; where the server is gone, `is_lost` is true afterwards.
        """
        import anyio

        async def limited() -> _Value:
            with anyio.fail_after(limit_s):
                return await work()

        future = self._portal.start_task_soon(limited)
        self._running.add(future)
        try:
            return future.result()
        except BaseException as error:
            future.cancel()
            self._was_lost = self._was_lost or _means_lost(error)
            raise
        finally:
            self._running.discard(future)

    def cancel(self) -> None:
        """Stop what is running; the SDK tells the server that nobody waits for it any more."""
        for future in tuple(self._running):
            future.cancel()

    def last_words(self) -> str:
        """What the server wrote on stderr at last, as the end of a message to a person."""
        text = self._stderr.text() if self._stderr else ""
        return f" Its last words: {text}" if text else ""

    def close(self) -> None:
        """End the server: the SDK closes its input, then terminates it, then kills it."""
        self._portal.call(self._closing.set)
        self._wait()

    def _abandon(self) -> None:
        self._task.cancel()
        self._wait()

    def _wait(self) -> None:
        with suppress(CancelledError):
            self._task.exception()
        if self._stderr:
            self._stderr.writer.close()

    async def _hold(self, target: Target, opened: "Future[Client]") -> None:
        try:
            async with _open_client(target, self._stderr) as client:
                opened.set_result(client)
                await self._closing.wait()
        except Exception as error:  # a worker: who waits is told, or else the log
            if opened.done():
                logger.debug("an mcp session ended badly", exc_info=True)
            else:
                opened.set_exception(error)


def failures() -> tuple[type[Exception], ...]:
    """Return what the SDK raises where a server, and not puna, is to blame."""
    import httpx2
    from mcp import MCPError

    return (
        MCPError,
        OSError,
        httpx2.HTTPError,
        ValueError,  # what the server says breaks the protocol
        RuntimeError,
        CancelledError,
        ExceptionGroup,
    )


def reason(error: BaseException, limit_s: float) -> str:
    """Say in a few words what went wrong."""
    error = _cause(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {limit_s:g} s"
    if isinstance(error, CancelledError):
        return "the call was stopped"
    text = " ".join(str(error).split())[:500]
    return text or type(error).__name__


def _cause(error: BaseException) -> BaseException:
    """Return the first error of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _means_lost(error: BaseException) -> bool:
    import httpx2
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED

    error = _cause(error)
    if isinstance(error, MCPError):
        return error.code == CONNECTION_CLOSED
    gone = isinstance(error, (OSError, httpx2.TransportError))
    return gone and not isinstance(error, TimeoutError)


@asynccontextmanager
async def _open_client(target: Target, stderr: StderrTail | None) -> "AsyncIterator[Client]":
    """Open the client of a target; over HTTP the older transport is tried where the newer fails."""
    import httpx2
    from mcp import MCPError

    async with AsyncExitStack() as stack:
        if isinstance(target, Program):
            assert stderr is not None
            yield await stack.enter_async_context(_over_pipes(target, stderr))
            return
        refusals: list[int] = []
        try:
            client = await stack.enter_async_context(_over_http(target, refusals))
        except (MCPError, ExceptionGroup) as first:
            if not isinstance(_cause(first), MCPError):
                raise
            try:
                client = await stack.enter_async_context(_over_sse(target))
            except (MCPError, httpx2.HTTPError, OSError, ExceptionGroup):
                if refusals:  # the SDK's error does not say what the server answered
                    raise OSError(f"the server answers with HTTP {refusals[-1]}") from first
                raise first from None
        yield client


@asynccontextmanager
async def _over_pipes(target: Program, stderr: StderrTail) -> "AsyncIterator[Client]":
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client

    tether = ["-I", "-S", "-B", str(_TETHER), str(os.getpid())]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=[*tether, *target.command],
        env=dict(target.environment),
        encoding_error_handler="replace",
    )
    async with AsyncExitStack() as stack:
        client = _client(stdio_client(parameters, errlog=stderr.writer))
        try:
            await stack.enter_async_context(client)
        finally:
            stderr.writer.close()  # the server has its own; only then the pipe can end
        yield client


@asynccontextmanager
async def _over_http(target: Address, refusals: list[int]) -> "AsyncIterator[Client]":
    """Speak the streamable transport; `refusals` is filled with HTTP's codes of failure."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def remember(response: httpx2.Response) -> None:
        if response.is_error:
            refusals.append(response.status_code)

    limits = httpx2.Timeout(30.0, read=_READ_S)
    hooks = {"response": [remember]}
    async with (
        httpx2.AsyncClient(headers=dict(target.headers), timeout=limits, event_hooks=hooks) as http,
        _client(streamable_http_client(target.url, http_client=http)) as client,
    ):
        yield client


@asynccontextmanager
async def _over_sse(target: Address) -> "AsyncIterator[Client]":
    from mcp.client.sse import sse_client

    transport = sse_client(target.url, headers=dict(target.headers), sse_read_timeout=_READ_S)
    async with _client(transport) as client:
        yield client


def _client(transport: "Transport") -> "Client":
    from mcp import Client
    from mcp_types import Implementation

    import puna

    me = Implementation(name="puna", version=puna.__version__)
    return Client(transport, client_info=me, cache=None)
