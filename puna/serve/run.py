"""The server as a process: uvicorn, and an end that lets answers be finished.

The first SIGTERM or Ctrl-C drains: new requests get 503 and running ones go on, for as long as the
operator allows. The second ends at once. uvicorn alone would close its door first, and a balancer
would see refused connections where it should see 503.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import Receive, Scope, Send

from puna.errors import StateError
from puna.log import note
from puna.serve.settings import Settings

_ANSWER_S = 0.5  # how long the door stays open at least, so that others learn of the end
# How long the engine's thread may go on while an answer wants to leave. Python's own 5 ms would be
# waited for several times on the way through one request.
_SWITCH_S = 0.0002
# Objects made between two collections. The 50,000 that suit a command take 16 ms and more to look
# through, and everybody waits for that.
_COLLECT = (2_000, 10, 10)


class Ending(Protocol):
    """What must be known of an application to end it well."""

    settings: Settings
    is_draining: bool
    running: int
    idle: asyncio.Event


class Application(Protocol):
    """The server, or the front of many."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI wants it."""

    @property
    def state(self) -> Ending:
        """Who still runs."""


class Draining(uvicorn.Server):
    """uvicorn, which drains before it closes its door."""

    def __init__(
        self, config: uvicorn.Config, server: Application, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._app, self._ready = server, ready
        self._drain: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the door, and say so."""
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or end at once where that has begun."""
        if self._app.state.is_draining or not hasattr(self, "_loop"):
            self.should_exit = self.force_exit = True
            return
        self._app.state.is_draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._drain = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        state = self._app.state
        note(f"draining: {state.running} requests are being answered; a second signal ends at once")
        await asyncio.sleep(_ANSWER_S)
        if state.running:
            try:
                await asyncio.wait_for(state.idle.wait(), state.settings.drain_s)
            except TimeoutError:
                note(f"draining: {state.running} requests did not end in time and are cut off")
        self.should_exit = True


def open_socket(host: str, port: int) -> socket.socket:
    """Take an address before models are loaded, so that a port in use is told at once.

    Raises:
        StateError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except (OSError, OverflowError) as error:
        door.close()
        why = getattr(error, "strerror", None) or error
        raise StateError(
            f"serve: {host}:{port} cannot be listened on ({why}); a free address of this machine "
            "is expected. Choose another --port."
        ) from None
    return door


def run(server: Application, door: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal ends it."""
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()  # what was loaded stays: no collection needs to look through it again
    gc.set_threshold(*_COLLECT)
    config = uvicorn.Config(
        server, log_config=None, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=1, ws="none", timeout_keep_alive=30,
        h11_max_incomplete_event_size=65_536,
    )  # fmt: skip
    Draining(config, server, ready).run(sockets=[door])


__all__ = ["open_socket", "run"]
