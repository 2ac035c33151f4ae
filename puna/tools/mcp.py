"""The tools of a Model Context Protocol server, as tools like any other.

`mcp_target` reads where the server is, `mcp_link` keeps the connection, `mcp_text` turns results
into text. Names and descriptions come from the server: they are made fit for a prompt here.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from puna.errors import PunaError
from puna.log import note
from puna.tools.mcp_link import CALL_S, CONNECT_S, Link
from puna.tools.mcp_target import parse_target
from puna.tools.mcp_text import result_text
from puna.tools.tool import Tool

if TYPE_CHECKING:
    from mcp_types import Tool as ListedTool

MAX_NAME = 64  # source: OpenAI's API reference, tools.function.name
MAX_DESCRIPTION = 4000  # characters; the rest would only fill the prompt

# Llama 3.1 knows these by heart: a foreign tool under such a name would be called by mistake.
BUILTIN_NAMES = frozenset({"brave_search", "wolfram_alpha", "code_interpreter"})

_NOT_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@contextmanager
def mcp_tools(
    target: str,
    *,
    taken: Collection[str] = (),
    connect_s: float = CONNECT_S,
    call_s: float = CALL_S,
) -> Iterator[list[Tool]]:
    """Yield the tools of one server; it ends with the block.

    A tool needs consent unless the server says that it only reads.

    Args:
        target: a command or an address, as `parse_target` reads it.
        taken: names of tools that are there already; a tool with such a name gets the server's
            name in front, and the person is told.
    Raises:
        RequestError: the target is not understood.
        ExtraError: the SDK is not installed.
        StateError: the server cannot be used.
    """
    with Link(parse_target(target), connect_s=connect_s, call_s=call_s) as link:
        names = set(taken) | BUILTIN_NAMES
        tools = []
        for listed in link.tools():
            name = _free_name(listed.name, link.server_name, names)
            names.add(name)
            tools.append(_tool(listed, name, link, call_s))
        yield tools


def _tool(listed: "ListedTool", name: str, link: Link, call_s: float) -> Tool:
    def call(arguments: dict[str, Any]) -> str:
        try:
            return result_text(link.call(listed.name, arguments))
        except PunaError as error:
            return f"error: {error}"

    hints = listed.annotations
    return Tool(
        name=name,
        description=_description(listed, link.server_name),
        call=call,
        parameters=listed.input_schema,
        needs_consent=not (hints and hints.read_only_hint),
        timeout=call_s + CONNECT_S,  # a server that was lost is started first
        cancel=link.cancel,
    )


def _description(listed: "ListedTool", server: str) -> str:
    text = listed.description or listed.title or ""
    if len(text) > MAX_DESCRIPTION:
        note(f"mcp {server}: the description of {listed.name} is cut to {MAX_DESCRIPTION} signs.")
        text = text[:MAX_DESCRIPTION] + " ..."
    return text


def _free_name(given: str, server: str, taken: Collection[str]) -> str:
    """Return a name that a model can write and that no other tool has."""
    plain = _NOT_NAME.sub("_", given)[:MAX_NAME] or "tool"
    if plain not in taken:
        return plain
    owned = f"{_NOT_NAME.sub('_', server)[:30] or 'mcp'}_{plain}"[:MAX_NAME]
    free, number = owned, 2
    while free in taken:
        free = f"{owned[: MAX_NAME - 5]}_{number}"
        number += 1
    note(f"mcp {server}: another tool is called {plain}; this one is called {free}.")
    return free
