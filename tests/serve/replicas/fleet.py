"""Replicas in the process of the test: real servers and the real balance, without Ray."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from puna.llm import LLM
from puna.serve.app import Server
from puna.serve.replicas.balance import Balance
from puna.serve.replicas.carried import Asked, Begun, ReplicaLost, carried
from puna.serve.replicas.front import Front
from puna.serve.replicas.replica import end
from puna.serve.served import Served
from puna.serve.settings import Settings
from tests.serve.live import SMALL, listening


class LocalFleet:
    """Replicas that die when they are told to, after so many parts of an answer."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self.servers = servers
        self.balance = Balance()
        self.dies_after: dict[str, int] = {}
        self.asked: list[tuple[str, str, int]] = []  # replica, path, known keys

    async def ask(self, asked: Asked) -> AsyncGenerator[Begun | bytes, None]:
        if not self.servers:
            raise ReplicaLost("nobody lives")
        self.balance.meet(self.servers)
        choice = self.balance.choose(asked.wanted)
        name = choice.replica
        self.asked.append((name, asked.path, choice.known))
        self.balance.began(name)
        try:
            async with contextlib.aclosing(
                carried(self.servers[name], asked, replica=name, known=choice.known)
            ) as parts:
                left = self.dies_after.get(name)
                if left == 0:
                    self.die(name)
                async for part in parts:
                    yield part
                    left = None if left is None else left - 1
                    if left == 0:
                        self.die(name)
        finally:
            self.balance.ended(name)

    def die(self, name: str) -> None:
        self.balance.lose(name)
        self.servers = {other: s for other, s in self.servers.items() if other != name}
        raise ReplicaLost(name)

    async def ask_all(self, asked: Asked) -> Sequence[tuple[Begun, bytes]]:
        told = []
        for name, server in self.servers.items():
            begun, *rest = [p async for p in carried(server, asked, replica=name, known=0)]
            assert isinstance(begun, Begun)
            told.append((begun, b"".join(part for part in rest if isinstance(part, bytes))))
        return told

    async def count(self) -> int:
        return len(self.servers)

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """A front that runs, and a plain client of it."""

    url: str
    front: Front
    fleet: LocalFleet
    client: httpx2.Client

    def chat(self, *texts: str, **more: Any) -> httpx2.Response:
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
        body = {"messages": messages, "max_tokens": 4, **more}
        return self.client.post("/v1/chat/completions", json=body)

    def is_idle(self, *, within_s: float = 5.0) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            servers = self.fleet.servers.values()
            served = [one for server in servers for one in server.state.models.values()]
            stats = [one.driver.engine.stats() for one in served]
            if not any(s.running or s.waiting or s.free_pages < s.pages for s in stats):
                return not self.front.state.running
            time.sleep(0.01)
        return False


@contextlib.contextmanager
def many(llms: Sequence[LLM], **settings: Any) -> Iterator[Many]:
    """Run a front of one replica for each model until the block ends."""
    shared = Settings(**settings)
    servers = {
        f"r{number}": Server({"tiny": Served.of("tiny", llm, SMALL)}, shared)
        for number, llm in enumerate(llms)
    }
    fleet = LocalFleet(servers)
    front = Front(fleet, shared, len(servers))
    try:
        with listening(front) as (url, client):
            yield Many(url=url, front=front, fleet=fleet, client=client)
    finally:
        for server in servers.values():
            asyncio.run(end(server))
