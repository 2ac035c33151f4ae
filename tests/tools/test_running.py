"""A tool that hangs, or that a person stops, ends; the dialog stays one that can go on."""

import asyncio
import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from puna.chat.messages import Message
from puna.tools.calculator import CALCULATOR
from puna.tools.function import tool
from puna.tools.loop import STOPPED, Event, Returned, StoppedInTool, run_tools
from puna.tools.tool import Tool
from tests.chat.dialogs import assistant, call


def _run(*answers: Message, tools: Any, **limits: Any) -> list[Event]:
    remaining = iter(answers)
    question = [{"role": "user", "content": "Work."}]
    return list(run_tools(lambda _: next(remaining), question, tools, **limits))


def _tool(name: str, call: Callable[[dict[str, Any]], str]) -> Tool:
    return Tool(name=name, description="", call=call)


def test_a_hanging_tool_does_not_hang_the_loop() -> None:
    """A loop of Python ends at its next step; what waits outside Python is left behind."""
    begun, ended = threading.Event(), threading.Event()

    def spin(arguments: dict[str, Any]) -> str:
        begun.set()
        try:
            while True:
                pass
        finally:
            ended.set()

    wait = Tool(name="wait", description="", call=lambda a: str(time.sleep(5)), timeout=0.05)
    begin = time.perf_counter()
    events = _run(
        assistant(call("spin"), call("wait")),
        assistant(content="ok"),
        tools=[_tool("spin", spin), wait],
        timeout=0.1,
    )
    assert time.perf_counter() - begin < 4
    results = [event.result for event in events if isinstance(event, Returned)]
    assert results == [
        "error: spin was stopped after 0.1 seconds, which is all it has.",
        "error: wait was stopped after 0.05 seconds, which is all it has.",
    ]
    assert begun.is_set()
    assert ended.wait(5)


def test_a_tool_with_a_way_to_stop_it_is_stopped_that_way() -> None:
    stop = threading.Event()
    tools = [
        Tool(
            name="wait", description="", call=lambda a: str(stop.wait(10)), cancel=stop.set,
            timeout=0.05,
        )
    ]  # fmt: skip
    events = _run(assistant(call("wait")), assistant(content="ok"), tools=tools)
    assert isinstance(events[2], Returned)
    assert events[2].is_error
    assert events[2].result.endswith("all it has. True")


def test_an_async_tool_is_cancelled_and_cleans_up() -> None:
    ended = threading.Event()

    @tool(timeout=0.1)
    async def wait() -> str:
        try:
            await asyncio.sleep(10)
        finally:
            ended.set()
        return "never"

    events = _run(assistant(call("wait")), assistant(content="ok"), tools=[wait])
    assert isinstance(events[2], Returned)
    assert events[2].result.startswith("error: wait was stopped after 0.1 seconds")
    assert ended.wait(1)


def test_without_a_limit_a_tool_runs_in_the_callers_thread() -> None:
    """Some libraries allow nothing else: a connection of sqlite3 belongs to its thread."""
    tools = [_tool("where", lambda a: threading.current_thread().name)]
    for timeout, result in ((None, threading.current_thread().name), (5, "tool where")):
        events = _run(
            assistant(call("where")), assistant(content="ok"), tools=tools, timeout=timeout
        )
        assert isinstance(events[2], Returned)
        assert events[2].result == result


def test_a_tool_sees_the_context_of_its_caller() -> None:
    name = contextvars.ContextVar("name", default="nobody")
    token = name.set("somebody")
    events = _run(
        assistant(call("who")), assistant(content="ok"), tools=[_tool("who", lambda a: name.get())]
    )
    name.reset(token)
    assert isinstance(events[2], Returned)
    assert events[2].result == "somebody"


def test_ctrl_c_in_a_tool_leaves_a_dialog_that_can_be_continued() -> None:
    def interrupt(arguments: dict[str, Any]) -> str:
        raise KeyboardInterrupt

    calls = [call("calculator", query="1"), call("stop"), call("calculator", query="2")]
    with pytest.raises(StoppedInTool) as stopped:
        _run(assistant(*calls), tools=[CALCULATOR, _tool("stop", interrupt)])
    results = [(m.tool_call_id, m.content) for m in stopped.value.messages if m.role == "tool"]
    assert results == [(calls[0].id, "1"), (calls[1].id, STOPPED), (calls[2].id, STOPPED)]


def test_ctrl_c_stops_a_tool_that_is_running() -> None:
    """The signal reaches the main thread while a loop of Python runs in the tool's thread."""
    ended = threading.Event()

    def spin(arguments: dict[str, Any]) -> str:
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            while True:
                pass
        finally:
            ended.set()

    with pytest.raises(StoppedInTool) as stopped:
        _run(assistant(call("spin")), tools=[_tool("spin", spin)])
    assert stopped.value.messages[-1].content == STOPPED
    assert ended.wait(5)


def test_what_a_stopped_tool_still_says_is_kept_for_the_model() -> None:
    """The code interpreter says here that its variables are gone."""
    stop = threading.Event()

    def work(arguments: dict[str, Any]) -> str:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        stop.wait(10)
        return "The variables are gone."

    tools = [Tool(name="work", description="", call=work, cancel=stop.set)]
    with pytest.raises(StoppedInTool) as stopped:
        _run(assistant(call("work"), call("work")), tools=tools)
    first, second = (m.content for m in stopped.value.messages if m.role == "tool")
    assert first == f"{STOPPED}\nThe variables are gone."
    assert second == STOPPED
