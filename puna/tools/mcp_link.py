"""A lasting connection to one MCP server, used from ordinary code.

The SDK is asynchronous: an event loop on a thread of its own runs the sessions, and calls wait for
it. A server that is lost during a call is started again at the next one, once; the call itself is
never repeated, since nobody knows how much of it was done.
"""

import logging
import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from puna.errors import ExtraError, StateError
from puna.log import logger, note
from puna.tools.mcp_session import Session, failures, reason
from puna.tools.mcp_target import Target

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from mcp import Client
    from mcp_types import CallToolResult
    from mcp_types import Tool as ListedTool

CONNECT_S = 30.0
CALL_S = 60.0
RESTARTS = 1  # in a row; a call that is answered gives the chance back
MAX_TOOLS = 500  # of one server: a prompt holds far fewer, and a list may never end


class Link:
    """One server. Open it with `with`; its methods may be called from any thread."""

    def __init__(
        self, target: Target, *, connect_s: float = CONNECT_S, call_s: float = CALL_S
    ) -> None:
        self.target = target
        self._connect_s, self._call_s = connect_s, call_s
        self._lock = threading.Lock()
        self._loop = ExitStack()
        self._portal: BlockingPortal
        self._session: Session | None = None
        self._restarts = 0

    def __enter__(self) -> Self:
        """Start the server or reach it.

        Raises:
            ExtraError: the SDK is not installed.
            StateError: the server does not start or does not answer.
        """
        try:
            import mcp  # noqa: F401 (looked for here, used by the session)
            from anyio.from_thread import start_blocking_portal
        except ImportError as error:
            raise ExtraError(
                "tools of an MCP server need the extra `tools`: pip install 'puna[tools]'."
            ) from error
        # Without any handler, Python would print the SDK's warnings on the terminal.
        logging.getLogger("mcp").addHandler(logging.NullHandler())
        with ExitStack() as loop:
            self._portal = loop.enter_context(start_blocking_portal("asyncio"))
            self._session = Session(self.target, self._portal, self._connect_s)
            self._loop = loop.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End the session, and the server where it was started here."""
        with self._lock, self._loop:
            if self._session is not None:
                self._session.close()
                self._session = None

    @property
    def server_name(self) -> str:
        """What the server calls itself, or else how it was given."""
        info = self._session.client.server_info if self._session else None
        return info.name if info and info.name else self.target.label

    def tools(self) -> "list[ListedTool]":
        """Return all tools that the server lists, page by page.

        Raises:
            StateError: the list does not come, or does not end.
        """
        session = self._live_session()
        try:
            tools = session.run(partial(_all_tools, session.client), self._connect_s)
        except failures() as error:
            raise StateError(
                f"mcp server {self.target.label}: it does not list its tools "
                f"({reason(error, self._connect_s)}).{session.last_words()}"
            ) from error
        if len(tools) > MAX_TOOLS:
            raise StateError(
                f"mcp server {self.target.label}: it lists more than {MAX_TOOLS} tools; "
                "a server with fewer is expected."
            )
        return tools

    def call(self, name: str, arguments: dict[str, Any]) -> "CallToolResult":
        """Call a tool and wait for its result.

        Raises:
            StateError: the server is lost, is too slow or refuses; the message is for the model.
        """
        session = self._live_session()
        try:
            result = session.run(partial(session.client.call_tool, name, arguments), self._call_s)
        except failures() as error:
            if session.is_lost:
                logger.info("mcp server %s stopped.%s", self.target.label, session.last_words())
                raise StateError(
                    f"{name}: the server stopped during the call, which may be done in part. "
                    "The next call tries it again."
                ) from error
            raise StateError(f"{name}: {reason(error, self._call_s)}.") from error
        self._restarts = 0
        return result

    def cancel(self) -> None:
        """Stop the calls that are running, from any thread."""
        if session := self._session:
            session.cancel()

    def _live_session(self) -> Session:
        """Return the session; where the server was lost, start it again first."""
        where = f"mcp server {self.target.label}"
        with self._lock:
            if self._session is None:
                raise StateError(f"{where}: the connection is closed; open it again.")
            if not self._session.is_lost:
                return self._session
            if self._restarts >= RESTARTS:
                raise StateError(f"{where}: it stopped again and is not started any more.")
            self._restarts += 1
            note(f"{where} stopped; it is tried again.")
            self._session.close()
            try:
                self._session = Session(self.target, self._portal, self._connect_s)
            except StateError as error:
                logger.warning("%s", error)  # for a person: it may quote what the server wrote
                raise StateError(f"{where}: it stopped and could not be started again.") from error
            return self._session


async def _all_tools(client: "Client") -> "list[ListedTool]":
    """Follow the pages to the end, or until there are too many tools."""
    tools: list[ListedTool] = []
    cursor, seen = None, set[str]()
    while len(tools) <= MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
        if cursor in seen:
            raise ValueError("its pages go in a circle")
        seen.add(cursor)
    return tools
