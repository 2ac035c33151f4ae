"""Tools by their names on the command line: opened in order, closed together, refused in words."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from puna.errors import NotFoundError, RequestError
from puna.tools.registry import open_tools, read_names
from puna.tools.tool import Tool


def named(name: str) -> Tool:
    return Tool(name=name, description="", call=lambda arguments: name)


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand-ins for the sandbox and for servers, which write down what happens to them."""
    events: list[tuple[Any, ...]] = []

    @contextmanager
    def code_interpreter(folder: Path | None, *, unprotected: bool) -> Iterator[Tool]:
        events.append(("code", folder, unprotected))
        yield named("code_interpreter")
        events.append(("code closed",))

    @contextmanager
    def mcp_tools(target: str, *, taken: set[str]) -> Iterator[list[Tool]]:
        events.append(("mcp", target, sorted(taken)))
        try:
            yield [named(f"{target}_a"), named(f"{target}_b")]
        finally:
            events.append(("mcp closed", target))

    for place, function in (("sandbox.interpreter", code_interpreter), ("mcp", mcp_tools)):
        module = ModuleType(f"puna.tools.{place}")
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return events


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["calc"], ["calc"]),
        (["code,calc", "wolfram"], ["code", "calc", "wolfram"]),
        (["calc, search:a,b/c , code"], ["calc", "search:a,b/c", "code"]),
        (["mcp:server --a,b x,calc"], ["mcp:server --a,b x", "calc"]),
        (["mcp:http://h:1/mcp,mcp:node x"], ["mcp:http://h:1/mcp", "mcp:node x"]),
        (["none"], []),
        ([], []),
    ],
)
def test_commas_divide_tools_and_stay_inside_commands(texts: list[str], names: list[str]) -> None:
    assert read_names(texts) == names


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("calculator", r"there is no 'calculator'\. Did you mean 'calc'\? Known: calc, code"),
        ("serch:x", "Did you mean 'search'"),
        ("calc:3", "nothing can follow 'calc'"),
        ("mcp", r"a command or a URL is expected\. Write mcp:COMMAND"),
        ("mcp:", "a command or a URL is expected"),
        ("code:", "a folder is expected"),
        ("calc,none", "there is no"),
    ],
)
def test_a_name_that_is_wrong_is_refused_before_anything_is_opened(name: str, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        read_names([name])


def test_tools_are_opened_in_order_and_closed_in_reverse(rooms: list[tuple[Any, ...]]) -> None:
    names = ["calc", "mcp:one", "code", "mcp:two"]
    with open_tools(names, folder=Path("here"), unprotected=True) as tools:
        assert [tool.name for tool in tools] == [
            "calculator", "one_a", "one_b", "code_interpreter", "two_a", "two_b",
        ]  # fmt: skip
        assert rooms == [
            ("mcp", "one", ["calculator"]),
            ("code", Path("here"), True),
            ("mcp", "two", ["calculator", "code_interpreter", "one_a", "one_b"]),
        ]
    assert rooms[3:] == [("mcp closed", "two"), ("code closed",), ("mcp closed", "one")]


def test_a_folder_behind_the_colon_is_the_codes_own(rooms: list[tuple[Any, ...]]) -> None:
    with open_tools(["code:data"], folder=Path("here")):
        assert rooms == [("code", Path("data"), False)]


def test_what_is_open_is_closed_where_a_later_tool_fails(
    rooms: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError), open_tools(["mcp:one", f"search:{tmp_path / 'no'}"]):
        pass
    assert rooms[-1] == ("mcp closed", "one")


def test_two_tools_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="same name"), open_tools(["calc", "calc"]):
        pass


def test_the_calculator_is_a_built_in_only_for_models_raised_with_it() -> None:
    with open_tools(["calc"], raised_with=["calculator"]) as [tool]:
        assert tool.declaration == "calculator"
    with open_tools(["calc"]) as [tool]:
        assert tool.declaration["function"]["parameters"]["required"] == ["query"]  # type: ignore[index]


def test_search_reads_a_folder(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("The llama eats grass in the high Andes.")
    with open_tools([f"search:{tmp_path}"]) as [tool]:
        assert tool.name == "brave_search"
        assert "Andes" in tool(query="llama grass")


def test_opening_nothing_imports_nothing() -> None:
    with open_tools([]) as tools:
        assert tools == []
