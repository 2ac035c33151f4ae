"""Clients that leave, queues that are full, and a server that is told to end."""

import asyncio
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from starlette.types import Message

from puna.infer.engine import EngineConfig
from puna.serve.bodies.chat import ChatBody
from puna.serve.call import Call
from puna.serve.endpoint import post
from puna.serve.failures import Failure
from puna.serve.settings import Settings
from puna.serve.state import State
from puna.serve.wire import Reply
from tests.llm.folders import save_folder
from tests.serve.live import Live, running, tiny_llm

CHAT = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 900, "ignore_eos": True}


def send(live: Live, body: object) -> socket.socket:
    """Send a request and leave its answer unread."""
    host, port = live.url.removeprefix("http://").split(":")
    raw = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
        % (CHAT.encode(), len(raw), raw)
    )
    return connection


def steps_of(live: Live) -> int:
    return live.server.state.models["tiny"].driver.engine.stats().steps


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_its_pages_within_a_step(is_stream: bool) -> None:
    with running() as live:
        engine = live.server.state.models["tiny"].driver.engine
        connection = send(live, {**LONG, "stream": is_stream})
        while engine.stats().steps < 20:
            time.sleep(0.001)
        assert engine.stats().free_pages < engine.stats().pages
        connection.close()
        assert live.is_idle(within_s=2)
        assert engine.stats().ended == {"cancelled": 1}
        assert engine.stats().steps < 400  # of 900: it did not write on to the end


def test_many_clients_that_leave_at_any_moment_leak_no_page() -> None:
    with running(config=EngineConfig(cache_tokens=8192, page_tokens=16, most_running=16)) as live:

        def come_and_go(number: int) -> None:
            more = {"n": 2} if number % 3 == 0 else {}
            connection = send(live, {**LONG, "stream": bool(number % 2), "max_tokens": 300, **more})
            time.sleep(0.002 * (number % 7))
            connection.close()

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(come_and_go, range(100)))
        assert live.is_idle(within_s=10)
        assert live.ask()["usage"]["completion_tokens"] == 8
        assert live.is_idle(within_s=10)  # a client that left before it was accepted came last


def test_a_full_queue_is_told_with_a_time_to_come_back() -> None:
    config = EngineConfig(
        cache_tokens=2048, page_tokens=16, most_running=1, tokens_a_step=64, queue_limit=2
    )
    with running(config=config) as live:
        waiting = [send(live, {**LONG, "stream": True})]
        while steps_of(live) < 3:
            time.sleep(0.001)
        waiting += [send(live, {**LONG, "stream": True}) for _ in range(2)]
        engine = live.server.state.models["tiny"].driver.engine
        while engine.stats().waiting < 2:
            time.sleep(0.001)
        for more in ({}, {"stream": True}):
            answer = live.post(CHAT, {**LONG, **more})
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["type"] == "rate_limit_error"
        assert live.client.get("/health").is_success
        for connection in waiting:
            connection.close()
        assert live.is_idle()
        assert live.ask()["usage"]["completion_tokens"] == 8


def test_health_answers_while_long_prompts_are_read() -> None:
    with running(tiny_llm(context=8192), config=EngineConfig(cache_tokens=32768)) as live:
        long = {"messages": [{"role": "user", "content": "word " * 1500}], "max_tokens": 4}
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(live.post, CHAT, long) for _ in range(4)]
            took = []
            while not all(answer.done() for answer in answers):
                began = time.perf_counter()
                assert live.client.get("/health").is_success
                took.append(time.perf_counter() - began)
            assert all(answer.result().is_success for answer in answers)
        assert sorted(took)[len(took) // 2] < 0.25


def serve(tmp_path: Path, *flags: str) -> tuple[subprocess.Popen[str], str, float]:
    folder = save_folder(tmp_path / "tiny")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "puna", "serve", f"tiny={folder}", "--port", "0", *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, process.communicate()
    return process, found[0], time.perf_counter() - began


def test_sigterm_lets_answers_end_and_refuses_new_ones(tmp_path: Path) -> None:
    """One run of the command: its log, its drain and its exit code."""
    process, url, _ = serve(tmp_path, "--drain-s", "20")
    body = {"messages": [{"role": "user", "content": "private words"}], "max_tokens": 200,
            "temperature": 0, "ignore_eos": True}  # fmt: skip
    statuses = []
    with httpx2.Client(base_url=url, timeout=30) as client:
        with client.stream("POST", CHAT, json={**body, "stream": True}) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 5
            while 503 not in statuses and time.monotonic() < until:
                try:
                    statuses.append(client.post(CHAT, json={**body, "max_tokens": 1}).status_code)
                except httpx2.TransportError:
                    break
            said = list(lines)
        assert "data: [DONE]" in said
    out, err = process.communicate(timeout=20)
    assert 503 in statuses
    assert process.returncode == 0, err
    assert out == ""
    assert "private words" not in err
    requests = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    whole = next(line for line in requests if line.get("stream"))
    assert whole["status"] == 200
    assert whole["completion_tokens"] == 200
    assert whole["finish_reason"] == "length"


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    process, url, _ = serve(tmp_path, "--log-text")
    body = {**LONG, "stream": True, "max_tokens": 230}
    client = httpx2.Client(base_url=url, timeout=30)
    answered = threading.Event()

    def read() -> None:
        try:
            with client.stream("POST", CHAT, json=body) as answer:
                for _ in answer.iter_lines():
                    answered.set()
        except httpx2.TransportError:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    assert answered.wait(10)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    thread.join(10)
    client.close()
    assert not thread.is_alive()


def test_a_refused_body_does_not_wait_for_the_garbage_collector() -> None:
    """An error, its traceback and the task that holds it would keep the whole prompt in memory."""
    bodies: list[weakref.ref[ChatBody]] = []

    async def refuse(state: State, call: Call, body: ChatBody) -> Reply:
        bodies.append(weakref.ref(body))
        await asyncio.sleep(0)
        raise Failure(400, "No.")

    async def ask() -> None:
        scope = {"type": "http", "headers": [], "state": {"call": Call(path=CHAT)}}
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            if sent or bodies:
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": b'{"messages":[{"role":"user","content":"a"}]}'}

        await post(SimpleNamespace(settings=Settings()), ChatBody, refuse)(scope, receive, send)  # type: ignore[arg-type]
        assert sent[0]["status"] == 400

    gc.disable()
    try:
        asyncio.run(ask())
        assert [reference() for reference in bodies] == [None]
    finally:
        gc.enable()
