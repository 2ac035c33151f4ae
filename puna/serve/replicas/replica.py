"""One replica in a process of its own: the whole server, without a socket.

Ray Serve makes it, asks it whether it is well, and makes another where it died.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager

from starlette.types import ASGIApp

from puna.errors import StateError
from puna.serve.app import Server
from puna.serve.replicas.carried import Asked, Begun, carried

Build = Callable[[], AbstractContextManager[Server]]  # must be picklable: it runs elsewhere


class Replica:
    """A server that answers what a front hands on."""

    def __init__(self, build: Build) -> None:
        from ray import serve

        self._name = str(serve.get_replica_context().replica_id.unique_id)
        self._held = contextlib.ExitStack()
        self._server = self._held.enter_context(build())
        self._app: ASGIApp = self._server

    async def answer(self, asked: Asked, known: int = 0) -> AsyncGenerator[Begun | bytes, None]:
        """Yield an answer in parts; cancelled, it gives back what the request held."""
        async with contextlib.aclosing(
            carried(self._app, asked, replica=self._name, known=known)
        ) as parts:
            async for part in parts:
                yield part

    async def whole(self, asked: Asked) -> tuple[Begun, bytes]:
        """Return an answer in one piece."""
        begun, *rest = [part async for part in self.answer(asked)]
        assert isinstance(begun, Begun), "an answer begins with how it begins"
        return begun, b"".join(part for part in rest if isinstance(part, bytes))

    def check_health(self) -> None:
        """Raise where an engine's thread has ended, so that this replica is replaced.

        Raises:
            StateError: it is so.
        """
        for name, served in self._server.state.models.items():
            if not served.driver.is_alive:
                raise StateError(f"replica: the engine of {name!r} has ended; it must run.")

    async def __del__(self) -> None:
        """End the engines and the tools; Ray Serve calls it before the process ends."""
        if hasattr(self, "_server"):
            await end(self._server)
        self._held.close()


async def end(server: Server) -> None:
    """End a server that no socket belongs to, as the end of its life would."""
    async with server.router.lifespan_context(server.router):
        pass
