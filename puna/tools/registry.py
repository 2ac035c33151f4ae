"""Tools by the names of the command line: `code`, `search:FOLDER`, `wolfram`, `calc`, `mcp:...`.

Each name opens what it needs (a sandbox, a server, an index) and closes it with the block. A tool's
file is imported when the tool is asked for, since each brings libraries of its own.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from puna.errors import RequestError
from puna.tools.calculator import CALCULATOR
from puna.tools.loop import by_name
from puna.tools.tool import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the tools of one call of `open_tools` are opened with."""

    folder: Path | None  # of the code interpreter
    unprotected: bool  # run code without walls where none can be built
    raised_with: Collection[str]  # tools that the model knows by name
    taken: set[str]  # names of the tools that are open already
    stack: ExitStack  # closes them


def _open_code(value: str, opening: Opening) -> list[Tool]:
    from puna.tools.sandbox.interpreter import code_interpreter

    folder = Path(value).expanduser() if value else opening.folder
    tool = code_interpreter(folder, unprotected=opening.unprotected)
    return [opening.stack.enter_context(tool)]


def _open_search(value: str, opening: Opening) -> list[Tool]:
    from puna.tools.search import web_search

    return [web_search(Path(value).expanduser() if value else None)]


def _open_wolfram(value: str, opening: Opening) -> list[Tool]:
    from puna.tools.wolfram import wolfram_alpha

    return [wolfram_alpha()]


def _open_calc(value: str, opening: Opening) -> list[Tool]:
    # Meta's models know no built-in of this name: they are shown it as a function.
    is_known = CALCULATOR.name in opening.raised_with
    return [dataclasses.replace(CALCULATOR, is_builtin=is_known)]


def _open_mcp(value: str, opening: Opening) -> list[Tool]:
    from puna.tools.mcp import mcp_tools

    return opening.stack.enter_context(mcp_tools(value, taken=opening.taken))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    open: Callable[[str, Opening], list[Tool]]
    usage: str
    takes: str = ""  # what may follow the colon
    must_take: bool = False


KINDS: Mapping[str, _Kind] = {
    "calc": _Kind(open=_open_calc, usage="calc"),
    "code": _Kind(open=_open_code, usage="code[:FOLDER]", takes="a folder"),
    "search": _Kind(open=_open_search, usage="search[:FOLDER]", takes="a folder"),
    "wolfram": _Kind(open=_open_wolfram, usage="wolfram"),
    "mcp": _Kind(
        open=_open_mcp, usage="mcp:COMMAND|URL", takes="a command or a URL", must_take=True
    ),
}
USAGE = ", ".join(kind.usage for kind in KINDS.values())

# A comma begins a new tool only where the name of one follows: commands and folders hold commas.
_BETWEEN = re.compile(rf"\s*,\s*(?=(?:{'|'.join(KINDS)})\s*(?:[:,]|$))")


def read_names(texts: Sequence[str]) -> list[str]:
    """Read what `--tools` was given: `calc,code`, `mcp:server --a,b`, or `none`.

    Raises:
        RequestError: a name is not known, or lacks what it needs.
    """
    names = [name for text in texts for name in _BETWEEN.split(text.strip()) if name]
    if names == ["none"]:
        return []
    for name in names:
        _kind(name)
    return names


@contextmanager
def open_tools(
    names: Sequence[str],
    *,
    folder: Path | None = None,
    unprotected: bool = False,
    raised_with: Collection[str] = (),
) -> Iterator[list[Tool]]:
    """Yield the tools of these names, in order; they end with the block.

    Args:
        names: as on the command line, one tool or one server each.
        folder: where the code interpreter reads and writes; None makes a temporary one.
        unprotected: run code without walls where this machine lets none be built.
        raised_with: built-in tools that the model was trained to call by name.
    Raises:
        RequestError: a name is not known, or two tools have one name.
        ExtraError: a library that the tool needs is not installed.
        StateError: a tool cannot be opened here.
    """
    with ExitStack() as stack:
        tools: list[Tool] = []
        for name in names:
            kind, value = _kind(name)
            opening = Opening(
                folder=folder,
                unprotected=unprotected,
                raised_with=raised_with,
                taken={tool.name for tool in tools},
                stack=stack,
            )
            tools += kind.open(value, opening)
        by_name(tools)
        yield tools


def _kind(name: str) -> tuple[_Kind, str]:
    """Return the kind of tool that a name asks for, and what follows its colon."""
    word, colon, value = name.partition(":")
    word, value = word.strip(), value.strip()
    if word not in KINDS:
        near = difflib.get_close_matches(word, KINDS, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RequestError(f"tools: there is no '{word}'.{hint} Known: {USAGE}.")
    kind = KINDS[word]
    if value and not kind.takes:
        raise RequestError(f"tools: {name} given; nothing can follow '{word}'. Write {kind.usage}.")
    if not value and (kind.must_take or colon):
        raise RequestError(f"tools: {name} given; {kind.takes} is expected. Write {kind.usage}.")
    return kind, value
