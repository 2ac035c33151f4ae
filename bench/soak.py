"""A server under two hundred clients of every kind: nothing may leak, be lost, or hold others up.

Clients ask in one piece and in streams, with schemas and without; some leave in the middle, some
send prompts that are too long, bodies that are none or far too large. Meanwhile another process
asks for /health. Afterwards every page of the cache must be back, every request must have had a
right answer, the memory of the server must have stopped growing, and 99 of 100 answers of /health
must have come within 50 ms.
Run: python bench/soak.py [--seconds 300] [--clients 200] [--model MODEL]
"""

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from serve import random_folder, server

from puna.device import machine

HEALTH_S = 0.050  # the 99th percentile of /health
GROWTH = 1.05  # of the memory, from the second third of the time to the last
PATIENCE_S = 240.0  # a request without an answer for so long is lost
BUSY = {200, 429}  # a full queue is an answer, with the time to come back
KINDS = {  # of a client's next request: how often, and the statuses that are right
    "stream": (30, BUSY),
    "whole": (20, BUSY),
    "schema": (5, BUSY),
    "leaves": (25, BUSY),
    "too long": (8, {400}),
    "no JSON": (6, {400}),
    "wrong form": (3, {422}),
    "no such model": (1, {404}),
    "too large": (1, {413}),
    "half a body": (1, set()),
}


@dataclass(slots=True)
class Count:
    """What the clients have seen."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    tokens: int = 0


def body_of(kind: str, chance: random.Random, context: int) -> bytes:
    """Return a body of this kind."""
    words = " ".join(chance.choices(("water", "stone", "llama", "salt"), k=chance.randint(1, 60)))
    told: dict[str, Any] = {
        "messages": [{"role": "user", "content": words}],
        "max_tokens": chance.randint(1, 60), "temperature": chance.choice((0, 1.0)),
        "stream": kind in ("stream", "leaves"), "ignore_eos": True,
    }  # fmt: skip
    match kind:
        case "schema":
            names = {f"k{chance.randrange(50)}": {"enum": [1, 2, words[:9]]} for _ in range(3)}
            schema = {"type": "object", "properties": names, "required": [*names],
                      "additionalProperties": False}  # fmt: skip
            form = {"name": "x", "schema": schema}
            told |= {"response_format": {"type": "json_schema", "json_schema": form}}
            told |= {"max_tokens": 200, "ignore_eos": False}
        case "too long":
            told["messages"][0]["content"] = "salt " * (context * chance.randint(1, 5))
        case "no JSON":
            return json.dumps(told).encode()[: chance.randint(0, 40)]
        case "wrong form":
            told["temperature"] = "hot"
        case "no such model":
            told["model"] = "nobody"
        case "too large":
            told["messages"][0]["content"] = "x" * 2_000_000
    return json.dumps(told).encode()


async def ask(port: int, kind: str, chance: random.Random, context: int, count: Count) -> None:
    """Send one request on a connection of its own and judge the answer."""
    data = body_of(kind, chance, context)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head + (data[: len(data) // 2] if kind == "half a body" else data))
        if kind in ("leaves", "half a body"):
            await asyncio.sleep(chance.expovariate(5))
            count.left += 1
            return
        judge(kind, await reader.read(), count)
    finally:
        writer.close()


def judge(kind: str, raw: bytes, count: Count) -> None:
    """Note the status of an answer, and what is wrong with it."""
    head, _, text = raw.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
    count.statuses[kind, status] += 1
    if status not in KINDS[kind][1]:
        count.wrong.append(f"{kind}: status {status}: {text[:200]!r}")
    elif status == 429:
        if b"retry-after" not in head.lower():
            count.wrong.append(f"{kind}: 429 without Retry-After")
    elif status != 200:
        json.loads(text)["error"]["message"]
    elif kind == "stream":
        if b"data: [DONE]" not in text[-40:] or b'"finish_reason":"length"' not in text:
            count.wrong.append(f"stream: it ends with {text[-200:]!r}")
        count.tokens += text.count(b'"content"') - 1
    else:
        done = json.loads(text)
        count.tokens += done["usage"]["completion_tokens"]
        if kind == "schema" and done["choices"][0]["finish_reason"] == "stop":
            json.loads(done["choices"][0]["message"]["content"])


async def client(port: int, number: int, until: float, context: int, count: Count) -> None:
    """Ask one thing after the other until the time is over."""
    chance = random.Random(number)
    kinds, weights = list(KINDS), [often for often, _ in KINDS.values()]
    while time.monotonic() < until:
        kind = chance.choices(kinds, weights)[0]
        try:
            await asyncio.wait_for(ask(port, kind, chance, context, count), PATIENCE_S)
        except (OSError, TimeoutError, ValueError, KeyError) as error:
            count.wrong.append(f"{kind}: {type(error).__name__}: {error}")
        if chance.random() < 0.2:
            await asyncio.sleep(chance.expovariate(2))


async def soak(port: int, seconds: float, clients: int, context: int) -> Count:
    """Let all clients ask for so long."""
    count, until = Count(), time.monotonic() + seconds
    await asyncio.gather(*(client(port, i, until, context, count) for i in range(clients)))
    return count


def probe(port: int, seconds: float) -> None:
    """Ask for /health thirty times a second and print how long each answer took."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
        took.append(time.perf_counter() - began)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        time.sleep(0.033)
    print(json.dumps(took))


def watch(process: psutil.Process, seconds: float) -> list[int]:
    """Return the memory of a process once a second, in bytes."""
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(process.memory_info().rss)
        time.sleep(1)
    return found


def figures(url: str) -> dict[str, float]:
    """Return the engine's figures from /metrics."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    parts = [line.partition("{")[0::2] for line in lines if line.startswith("puna_engine_")]
    return {name.removeprefix("puna_engine_"): float(rest.split()[-1]) for name, rest in parts}


def idle_figures(url: str) -> dict[str, float]:
    """Wait until nothing runs, at most half a minute, and return the figures."""
    until = time.monotonic() + 30
    while True:
        found = figures(url)
        if not found["running"] + found["waiting"] or time.monotonic() > until:
            return found
        time.sleep(0.1)


async def run(port: int, process: psutil.Process, seconds: float, clients: int,
              context: int) -> tuple[Count, list[int], list[float]]:  # fmt: skip
    """Let clients, the probe and the watch run together."""
    probing = subprocess.Popen(
        [sys.executable, __file__, "--probe", str(port), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
    )
    count, memory, (told, _) = await asyncio.gather(
        soak(port, seconds, clients, context),
        asyncio.to_thread(watch, process, seconds),
        asyncio.to_thread(probing.communicate),
    )
    return count, memory, sorted(json.loads(told))


def report(count: Count, memory: list[int], health: list[float], found: dict[str, float]) -> bool:
    """Print everything and return whether all is well."""
    for (kind, status), number in sorted(count.statuses.items()):
        print(f"{kind:<16} {status} {number:8,}")
    leaked = found["pages"] - found["free_pages"]
    third = len(memory) // 3
    growth = max(memory[-third:]) / max(memory[third:-third])
    p99 = health[int(0.99 * len(health))]
    print(f"{'left':<16}     {count.left:8,}\n{'tokens read':<16}     {count.tokens:8,}")
    print(f"pages of {found['pages']:.0f} leaked  {leaked:.0f}")
    print(f"wrong or lost      {len(count.wrong)}")
    print(f"memory             {memory[0] / 2**20:.0f} MiB at first, "
          f"{max(memory[third:-third]) / 2**20:.0f} MiB in the second third, "
          f"{max(memory[-third:]) / 2**20:.0f} MiB in the last")  # fmt: skip
    print(f"/health            median {1e3 * health[len(health) // 2]:.1f} ms, p99 "
          f"{1e3 * p99:.1f} ms, longest {1e3 * health[-1]:.1f} ms of {len(health):,}")  # fmt: skip
    for line in count.wrong[:10]:
        print(line)
    is_idle = not found["running"] + found["waiting"]
    return is_idle and not leaked and not count.wrong and growth < GROWTH and p99 < HEALTH_S


def main() -> int:
    """Soak a server and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--model", type=Path, help="a MODEL; a random one without it")
    parser.add_argument("--quick", action="store_true", help="twenty seconds")
    parser.add_argument("--probe", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    seconds = min(given.seconds, 20) if given.quick else given.seconds
    if given.probe:
        probe(given.probe, seconds)
        return 0
    with tempfile.TemporaryDirectory() as scratch, socket.create_server(("127.0.0.1", 0)) as door:
        model = given.model or random_folder(Path(scratch) / "model", is_quick=True)
        port = door.getsockname()[1]
        door.close()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "puna", "--quiet", "serve", str(model), "--port",
                   str(port), "--max-queue", "100", "--max-body-mib", "1",
                   "--cache-tokens", "32768"]  # fmt: skip
        with server(command, url) as running:
            with urllib.request.urlopen(f"{url}/v1/models") as answer:
                context = json.load(answer)["data"][0]["max_model_len"]
            print(f"{machine()}\n{given.clients} clients for {seconds:.0f} s")
            told = asyncio.run(run(port, running.process, seconds, given.clients, context))
            return 0 if report(*told, idle_figures(url)) else 1


if __name__ == "__main__":
    sys.exit(main())
