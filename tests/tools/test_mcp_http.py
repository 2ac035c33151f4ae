"""MCP servers over HTTP: the streamable transport, the older one, headers, and what goes wrong."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from puna.errors import StateError

pytest.importorskip("mcp", reason="the extra `tools` is not installed")

import uvicorn
from mcp.server import MCPServer, Server
from mcp_types import ListToolsResult, PaginatedRequestParams, ToolAnnotations
from mcp_types import Tool as ListedTool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from puna.tools.mcp import mcp_tools
from puna.tools.tool import Tool


class Locked:
    """Lets nobody in without the token."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_locked = scope["type"] == "http"
        if is_locked and Request(scope).headers.get("authorization") != "Bearer s3cret":
            await PlainTextResponse("no", status_code=401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def zoo() -> MCPServer:
    server = MCPServer("zoo")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def add(first: int, second: int) -> int:
        """Add two whole numbers."""
        return first + second

    @server.tool()
    async def sleep(seconds: float) -> str:
        """Takes its time."""
        import anyio

        await anyio.sleep(seconds)
        return "awake"

    return server


def many(*, pages: int | None) -> Server[Any]:
    """A server that lists two tools a page; None: the same page for ever."""

    async def pages_of_tools(
        context: object, asked: PaginatedRequestParams | None
    ) -> ListToolsResult:
        page = int((asked and asked.cursor) or 0)
        tools = [
            ListedTool(name=f"tool_{2 * page + number}", input_schema={"type": "object"})
            for number in range(2)
        ]
        if pages is None:
            return ListToolsResult(tools=tools, next_cursor="0")
        return ListToolsResult(tools=tools, next_cursor=str(page + 1) if page + 1 < pages else None)

    return Server("many", on_list_tools=pages_of_tools)


@contextlib.contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def named(tools: list[Tool]) -> dict[str, Tool]:
    return {tool.name: tool for tool in tools}


def test_tools_are_called_over_http() -> None:
    with (
        serving(zoo().streamable_http_app()) as url,
        mcp_tools(f"mcp:{url}/mcp", call_s=0.5) as tools,
    ):
        assert named(tools)["add"](first=20, second=22) == "42"
        assert not named(tools)["add"].needs_consent
        assert named(tools)["sleep"](seconds=30.0) == "error: sleep: no answer within 0.5 s."
        assert named(tools)["add"](first=1, second=2) == "3"


def test_a_list_of_several_pages_is_read_to_its_end() -> None:
    with serving(many(pages=3).streamable_http_app()) as url, mcp_tools(f"{url}/mcp") as tools:
        assert [tool.name for tool in tools] == [f"tool_{number}" for number in range(6)]


@pytest.mark.parametrize(("pages", "said"), [(None, "in a circle"), (10_000, "more than 5 tools")])
def test_a_list_that_does_not_end_is_refused(
    pages: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.tools.mcp_link.MAX_TOOLS", 5)
    with (
        serving(many(pages=pages).streamable_http_app()) as url,
        pytest.raises(StateError, match=said),
        mcp_tools(f"{url}/mcp"),
    ):
        pass


def test_a_server_of_the_older_transport_is_reached() -> None:
    with serving(zoo().sse_app()) as url, mcp_tools(f"mcp:{url}/sse") as tools:
        assert named(tools)["add"](first=20, second=22) == "42"


def test_the_token_opens_a_locked_server(monkeypatch: pytest.MonkeyPatch) -> None:
    app = zoo().streamable_http_app()
    app.user_middleware.append(Middleware(Locked))
    with serving(app) as url:
        with pytest.raises(StateError, match="HTTP 401") as raised, mcp_tools(f"{url}/mcp"):
            pass
        monkeypatch.setenv("PUNA_MCP_TOKEN_127_0_0_1", "wrong-token")
        with pytest.raises(StateError) as refused, mcp_tools(f"{url}/mcp"):
            pass
        assert "wrong-token" not in str(refused.value) + str(raised.value)
        monkeypatch.setenv("PUNA_MCP_TOKEN_127_0_0_1", "s3cret")
        with mcp_tools(f"{url}/mcp") as tools:
            assert named(tools)["add"](first=20, second=22) == "42"


def test_a_server_that_goes_away_is_an_error_for_the_model() -> None:
    with contextlib.ExitStack() as server:
        url = server.enter_context(serving(zoo().streamable_http_app()))
        with mcp_tools(f"{url}/mcp", call_s=5, connect_s=5) as tools:
            server.close()
            said = [named(tools)["add"](first=1, second=2) for _ in range(3)]
    assert all(text.startswith("error: ") for text in said)


def test_an_address_where_nobody_answers_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with (
        pytest.raises(StateError, match=r"mcp server 127\.0\.0\.1: it cannot be used"),
        mcp_tools(f"http://127.0.0.1:{port}/mcp"),
    ):
        pass
