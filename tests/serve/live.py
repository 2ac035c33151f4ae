"""Servers for tests: the real application behind a real socket, on tiny random models."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import torch
import uvicorn
from torch import Tensor

from puna.infer.engine import EngineConfig
from puna.infer.sampling import SamplingConfig
from puna.llm import LLM, ChatStyle
from puna.model.llama import Llama
from puna.serve.app import Server
from puna.serve.served import Served
from puna.serve.settings import Settings
from puna.tools.calculator import CALCULATOR
from tests.infer.tiny import tiny_model
from tests.llm.scripted import BYTES

CONTEXT = 1024
SMALL = EngineConfig(cache_tokens=4096, page_tokens=16, most_running=8, tokens_a_step=64)


class Terse(Llama):
    """A random model that likes to close what it has opened, so that its JSON ends."""

    def logits(self, x: Tensor) -> Tensor:
        liked = torch.zeros(self.config.vocab)
        for sign, liking in (('"', 9.0), ("}", 12.0), ("]", 9.0), (" ", -9.0), ("\n", -9.0)):
            liked[ord(sign)] = liking
        return super().logits(x) + liked


def tiny_llm(*, name: str = "tiny", context: int = CONTEXT, is_terse: bool = False) -> LLM:
    model = tiny_model(vocab=BYTES.vocab, context=context)
    if is_terse:
        model.__class__ = Terse
    return LLM(
        model,
        BYTES,
        style=ChatStyle(dialect="meta", source="the test", is_instruct=True),
        stop_ids=BYTES.stop_ids,
        sampling=SamplingConfig(temperature=0),
        name=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A server that runs, and a plain client of it."""

    url: str
    server: Server
    client: httpx2.Client

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        return self.client.post(path, content=json.dumps(body), headers=headers)

    def ask(self, text: str = "Hi", **more: Any) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}
        answer = self.post("/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def is_idle(self, *, within_s: float = 5.0) -> bool:
        """Whether soon nothing runs and every page is back."""
        until = time.monotonic() + within_s
        state = self.server.state
        while time.monotonic() < until:
            stats = [served.driver.engine.stats() for served in state.models.values()]
            is_busy = state.running or any(s.running or s.waiting for s in stats)
            if not is_busy and all(s.free_pages == s.pages for s in stats):
                return True
            time.sleep(0.01)
        return False


@contextlib.contextmanager
def running(*llms: LLM, config: EngineConfig = SMALL, **settings: Any) -> Iterator[Live]:
    """Run a server until the block ends."""
    models = {llm.name: Served.of(llm.name, llm, config) for llm in llms or (tiny_llm(),)}
    server = Server(models, Settings(**settings))
    with listening(server) as (url, client):
        yield Live(url=url, server=server, client=client)


@contextlib.contextmanager
def listening(application: Any) -> Iterator[tuple[str, httpx2.Client]]:
    """Run an application behind a free port, with a client of it, until the block ends."""
    door = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="on")
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [door]})
    thread.start()
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    try:
        while not runner.started:
            assert thread.is_alive()
            time.sleep(0.005)
        with httpx2.Client(base_url=url, timeout=30) as client:
            yield url, client
    finally:
        runner.should_exit = True
        thread.join()


def events_of(text: str) -> list[Any]:
    """Return the data of every event of a stream, [DONE] left out."""
    data = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(item) for item in data[:-1]]


__all__ = [
    "CALCULATOR",
    "CONTEXT",
    "SMALL",
    "Live",
    "events_of",
    "listening",
    "running",
    "tiny_llm",
]
