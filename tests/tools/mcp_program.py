"""A real MCP server, written with the SDK, for the tests: `python mcp_program.py [--noise N]`."""

import json
import os
import subprocess
import sys

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)


def make_server(name: str = "zoo") -> MCPServer:
    server = MCPServer(name)

    @server.tool(annotations=READS)
    def add(first: int, second: int) -> int:
        """Add two whole numbers."""
        return first + second

    @server.tool()
    def feed(animal: str) -> str:
        """Feed an animal."""
        return f"The {animal} ate."

    @server.tool(annotations=READS)
    def census() -> dict[str, int]:
        """Count the animals."""
        return {"lions": 2, "owls": 3}

    @server.tool()
    def photo() -> Image:
        """Take a picture."""
        return Image(data=b"\x89PNG" + bytes(96), format="png")

    @server.tool()
    def fail(why: str) -> str:
        """Always fails."""
        raise ToolError(why)

    @server.tool()
    def refuse() -> CallToolResult:
        """Answers with an error result."""
        return CallToolResult(
            content=[TextContent(type="text", text="the gate is closed")], is_error=True
        )

    @server.tool()
    async def nap(seconds: float) -> str:
        """Takes its time, and can be woken."""
        await anyio.sleep(seconds)
        return "awake"

    @server.tool()
    def crash() -> str:
        """Ends the server in the middle of the call."""
        print("the roof fell in", file=sys.stderr, flush=True)
        os._exit(3)

    @server.tool(annotations=READS)
    def identity() -> str:
        """Say which processes this server is made of, and what its environment holds."""
        sleeper = subprocess.Popen(["sleep", "60"])
        return json.dumps(
            {"server": os.getpid(), "sleeper": sleeper.pid, "environment": dict(os.environ)}
        )

    @server.tool()
    def brave_search(query: str) -> str:
        """Has the name of a built-in."""
        return query

    return server


if __name__ == "__main__":
    if "--noise" in sys.argv:
        sys.stderr.write("noise\n" * 100_000)
        sys.stderr.flush()
    if "--refuse-to-start" in sys.argv:
        sys.exit("zoo: the key is missing")
    make_server().run()
