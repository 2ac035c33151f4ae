"""MCP servers as tools, against real servers written with the SDK."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from puna.errors import StateError
from puna.log import show
from puna.tools.mcp import mcp_tools
from puna.tools.tool import Tool

pytest.importorskip("mcp", reason="the extra `tools` is not installed")

PROGRAM = Path(__file__).with_name("mcp_program.py")
COMMAND = f"mcp:{shlex.join([sys.executable, str(PROGRAM)])}"


@contextmanager
def zoo(target: str = COMMAND, **options: float) -> Iterator[dict[str, Tool]]:
    with mcp_tools(target, **options) as tools:
        yield {tool.name: tool for tool in tools}


@pytest.fixture(scope="module")
def tools() -> Iterator[dict[str, Tool]]:
    with zoo() as named:
        yield named


def test_the_tools_of_a_server_carry_their_schema(tools: dict[str, Tool]) -> None:
    add = tools["add"]
    assert add.description == "Add two whole numbers."
    assert add.parameters["properties"]["first"]["type"] == "integer"
    assert add.parameters["required"] == ["first", "second"]
    assert not add.is_builtin


def test_a_call_returns_the_text_of_the_result(tools: dict[str, Tool]) -> None:
    assert tools["add"].call({"first": 20, "second": 22}) == "42"
    assert tools["feed"].call({"animal": "lion"}) == "The lion ate."


def test_structured_content_is_said_once(tools: dict[str, Tool]) -> None:
    assert json.loads(tools["census"].call({})) == {"lions": 2, "owls": 3}


def test_a_picture_becomes_a_note(tools: dict[str, Tool]) -> None:
    assert tools["photo"].call({}).startswith("[image: image/png, 10")


def test_a_failing_tool_returns_its_error_as_text(tools: dict[str, Tool]) -> None:
    assert tools["fail"].call({"why": "no hay"}).startswith("error: ")
    assert "no hay" in tools["fail"].call({"why": "no hay"})
    assert tools["refuse"].call({}) == "error: the gate is closed"


def test_wrong_arguments_are_an_error_and_the_server_goes_on(tools: dict[str, Tool]) -> None:
    assert tools["add"].call({"first": "many"}).startswith("error: ")
    assert tools["add"].call({"first": 1, "second": 2}) == "3"


def test_a_tool_needs_consent_unless_it_only_reads(tools: dict[str, Tool]) -> None:
    assert not tools["add"].needs_consent
    assert tools["feed"].needs_consent


def test_a_foreign_tool_never_takes_the_name_of_a_builtin(tools: dict[str, Tool]) -> None:
    assert "brave_search" not in tools
    assert tools["zoo_brave_search"].call({"query": "hay"}) == "hay"


def test_a_call_can_be_stopped_from_another_thread(tools: dict[str, Tool]) -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(tools["nap"].call({"seconds": 30})))
    thread.start()
    time.sleep(0.2)
    cancel = tools["nap"].cancel
    assert cancel is not None
    eventually(lambda: cancel() or not thread.is_alive())
    assert said == ["error: nap: the call was stopped."]
    assert tools["add"].call({"first": 1, "second": 2}) == "3"


def test_a_started_server_is_quiet_knows_no_secret_and_takes_no_name(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One start for what is true of every start, since each takes a second."""
    monkeypatch.setenv("BRAVE_API_KEY", "a secret")
    monkeypatch.setenv("ZOO_KEY", "for the zoo")
    target = f"mcp:KEY=$ZOO_KEY {COMMAND.removeprefix('mcp:')} --noise"
    with show(), mcp_tools(target, taken={"add", "zoo_feed"}) as tools:
        named = {tool.name: tool for tool in tools}
        told = json.loads(named["identity"].call({}))
    eventually(lambda: not is_running(told["server"]) and not is_running(told["sleeper"]))
    assert told["environment"]["KEY"] == "for the zoo"
    assert "BRAVE_API_KEY" not in told["environment"]
    assert "zoo_add" in named and "feed" in named and "add" not in named
    shown = capfd.readouterr()
    assert shown.out == "" and "noise" not in shown.err
    assert "mcp zoo: another tool is called add; this one is called zoo_add." in shown.err


def test_a_server_that_was_lost_is_started_again_once() -> None:
    with zoo() as tools:
        os.kill(json.loads(tools["identity"].call({}))["server"], signal.SIGKILL)
        eventually(lambda: tools["add"].call({"first": 1, "second": 2}) == "3")
        said = tools["crash"].call({})
        assert said.startswith("error: crash: the server stopped during the call")
        tools["crash"].call({})
        said = tools["add"].call({"first": 1, "second": 2})
        assert said.startswith("error: ") and "not started any more" in said


def test_a_server_that_does_not_start_is_explained_by_its_last_words() -> None:
    with (
        pytest.raises(StateError, match=r"zoo: the key is missing.*exit status 1"),
        zoo(COMMAND + " --refuse-to-start"),
    ):
        pass


def test_a_command_that_does_not_exist_is_a_clear_error() -> None:
    with pytest.raises(StateError, match="no-such-zoo: No such file"), zoo("mcp:no-such-zoo"):
        pass


def test_a_program_that_never_answers_is_given_up() -> None:
    with (
        pytest.raises(StateError, match=r"no answer within 0\.5 s"),
        zoo("mcp:sleep 60", connect_s=0.5),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_the_server_dies_with_a_puna_that_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from puna.tools.mcp import mcp_tools\n"
        "with mcp_tools(sys.argv[1]) as tools:\n"
        "    named = {tool.name: tool for tool in tools}\n"
        "    print(named['identity'].call({}), flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as puna:
        assert puna.stdout is not None
        told = json.loads(puna.stdout.readline())
        assert is_running(told["server"]) and is_running(told["sleeper"])
        puna.kill()
    eventually(lambda: not is_running(told["server"]) and not is_running(told["sleeper"]))


def test_calls_from_several_threads_do_not_mix(tools: dict[str, Tool]) -> None:
    results: dict[int, str] = {}

    def call(number: int) -> None:
        results[number] = tools["add"].call({"first": number, "second": 1})

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: str(number + 1) for number in range(6)}


def eventually(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    ends = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
