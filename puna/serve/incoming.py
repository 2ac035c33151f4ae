"""What is left of a body that nobody reads: it is taken and dropped before a refusal ends.

A client that still sends when the server closes the connection gets a reset, and the answer that
lies in its buffer is lost: it would never see the 413, 401 or 404 that it was given.

Source: RFC 9112, section 9.6, on closing in stages.
"""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive

LINGER_S = 5.0  # how long a refused client may still send


class Incoming:
    """`receive`, which remembers whether all of the body has come."""

    __slots__ = ("_is_whole", "_receive")

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive, self._is_whole = receive, not has_body

    async def __call__(self) -> Message:
        """Return the next message of the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_whole = True
        return message

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the body is still to come."""
        return self._is_whole

    async def drop_rest(self) -> None:
        """Take what still comes, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self._is_whole:
                    await self()
