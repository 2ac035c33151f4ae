"""A stand-in for puna's server: it gives the page its files and says what a test tells it to say.

A reply is a list of steps: a `dict` is sent as one event, a number is a pause in seconds, `Gate`
waits until the test opens it, `CUT` drops the connection, `Refusal` answers with a status.
"""

import contextlib
import http.server
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import puna.serve

PAGE = Path(puna.serve.__file__).parent / "page"
CUT = object()
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str = ""
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


Gate = threading.Event
Step = Any
Reply = Callable[[dict[str, Any]], Refusal | Sequence[Step]]


def chunk(delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
    return {"object": "chat.completion.chunk", "choices": [choice]}


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def spoken(text: str, pause_s: float = 0.0, size: int = 7) -> list[Step]:
    """Return the steps of an ordinary answer, in pieces of `size` characters."""
    steps: list[Step] = [chunk({"role": "assistant", "content": ""})]
    for start in range(0, len(text), size):
        steps += [chunk({"content": text[start : start + size]}), pause_s]
    return [*steps, chunk({}, "stop"), usage(31, max(1, len(text) // 4))]


def called(name: str, arguments: str, *, id: str = "call_1") -> list[Step]:
    """Return the steps of an answer that calls a function of the client, in two pieces."""
    first = {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}
    half = len(arguments) // 2
    parts = [{"index": 0, "function": {"arguments": arguments[:half]}}]
    parts += [{"index": 0, "function": {"arguments": arguments[half:]}}]
    calls = [chunk({"tool_calls": [part]}) for part in (first, *parts)]
    return [chunk({"role": "assistant", "content": ""}), *calls, chunk({}, "tool_calls")]


def ran(
    name: str, arguments: dict[str, Any], result: str, *, id: str = "call_1", is_error: bool = False
) -> dict[str, Any]:
    """Return the note of a server that ran a tool itself (`puna.serve.tool_steps`)."""
    told = {"tool_call_id": id, "name": name, "arguments": arguments}
    return {"choices": [], "puna": {**told, "result": result, "is_error": is_error}}


def measured(words: Sequence[tuple[str, float, Sequence[tuple[str, float]]]]) -> list[Step]:
    """Return an answer whose tokens come with their probability and their rivals'."""
    steps: list[Step] = []
    for place, (text, share, rivals) in enumerate(words):
        top = [{"token": other, "logprob": math.log(p)} for other, p in [(text, share), *rivals]]
        entry = {"token": text, "id": 100 + place, "logprob": math.log(share), "top_logprobs": top}
        steps.append(chunk({"content": text}, logprobs={"content": [entry]}))
    return [*steps, chunk({}, "stop"), usage(20, len(words))]


@dataclass
class StandIn:
    """What a test sets, and what the page asked for."""

    url: str = ""
    reply: Reply = lambda body: spoken("Hello.")
    key: str = ""
    models: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0  # streams that the page gave up

    def reset(self) -> None:
        self.reply, self.key, self.left = (lambda body: spoken("Hello.")), "", 0
        about = {"temperature": 0.6, "top_p": 0.9}
        self.models = [{"id": "cria-chat", "max_model_len": 8192, "puna": about}]
        self.models += [{"id": "cria-base", "max_model_len": 2048}]
        self.bodies.clear()


@contextlib.contextmanager
def stand_in() -> Iterator[StandIn]:
    """Serve on a free port until the block ends."""
    here = StandIn()
    here.reset()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the page's many small files share a few connections

        def do_GET(self) -> None:
            if self.path.startswith("/v1/"):
                if self.allowed():
                    self.answer(200, json.dumps({"data": here.models}).encode(), KINDS[".js"])
                return
            name = self.path.partition("?")[0].lstrip("/") or "index.html"
            path = PAGE / name
            if path.is_file() and path.resolve().is_relative_to(PAGE.resolve()):
                kept = {"cache-control": "max-age=600"}  # the profile fetches each file once
                self.answer(200, path.read_bytes(), KINDS[path.suffix], kept)
            else:
                self.answer(404, b"", "text/plain")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not self.allowed():
                return
            here.bodies.append(body)
            reply = here.reply(body)
            if isinstance(reply, Refusal):
                self.refuse(reply)
                return
            self.begin(200, "text/event-stream", {"connection": "close"})
            try:
                self.stream(reply)
            except OSError:
                here.left += 1

        def allowed(self) -> bool:
            if here.key and self.headers.get("authorization") != f"Bearer {here.key}":
                self.refuse(Refusal(401, "No such key."))
                return False
            return True

        def stream(self, steps: Sequence[Step]) -> None:
            for step in steps:
                if step is CUT:
                    return
                if isinstance(step, Gate):
                    while not step.wait(0.05):
                        self.wfile.write(b": still here\n\n")
                elif isinstance(step, float):
                    time.sleep(step)
                else:
                    self.wfile.write(b"data: " + json.dumps(step).encode() + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def refuse(self, refusal: Refusal) -> None:
            told = {"error": {"message": refusal.message, "code": refusal.code}}
            self.answer(refusal.status, json.dumps(told).encode(), KINDS[".js"], refusal.headers)

        def begin(self, status: int, kind: str, more: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"content-type": kind, **(more or {})}.items():
                self.send_header(name, value)
            self.send_header("content-security-policy", POLICY)
            self.end_headers()

        def answer(
            self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None
        ) -> None:
            with contextlib.suppress(OSError):  # the page may be gone
                self.begin(status, kind, {"content-length": str(len(body)), **(more or {})})
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
