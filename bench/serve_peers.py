"""What bench/serve.py compares with: llama.cpp's server of Python, and llama.cpp without a server.

The server answers one request after the other. What llama.cpp reaches with many at once is measured
at its own interface, as its batched bench does: prompts together, then a token of each, with
nothing drawn, no text and no HTTP. That is more than any server around it can give.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llamacpp

PORT = "8732"
URL = f"http://127.0.0.1:{PORT}"
CHUNK = 32  # tokens of each prompt that llama.cpp reads in one call
ALONE = 2  # requests that tell how fast a server is that answers one after the other


def peer_version() -> str | None:
    """Name the peer, or answer None where it is not installed."""
    try:
        return f"llama.cpp (llama-cpp-python {version('llama-cpp-python')})"
    except PackageNotFoundError:
        return None


def server_command(file: Path) -> list[str]:
    """Return the command of the peer's server."""
    return [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--port", PORT,
            "--n_ctx", "1024", "--interrupt_requests", "false"]  # fmt: skip


def ask_whole(url: str, given: dict[str, Any]) -> int:
    """Ask for an answer in one piece; return how many tokens it has."""
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(given).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return int(json.load(answer)["usage"]["completion_tokens"])


def server_rate(bodies: Sequence[dict[str, Any]], never: Sequence[int]) -> float:
    """Return tokens a second of the peer's server; no token of `never` may end an answer."""
    bias = {str(token): -100 for token in never}
    began = time.perf_counter()
    written = 0
    for body in bodies[:ALONE]:
        known = {key: value for key, value in body.items() if key != "ignore_eos"}
        written += ask_whole(URL, {**known, "logit_bias": bias})
    return written / (time.perf_counter() - began)


class Batched:
    """llama.cpp with many sequences in one batch."""

    def __init__(self, file: Path, *, rows: int, threads: int) -> None:
        self._rows = rows
        self._model = llamacpp.LlamaCpp(file, threads=threads, rows=rows, batch=rows * CHUNK)

    def rate(self, prompt: int, tokens: int) -> float:
        """Return tokens a second, where every row reads a prompt and writes on."""
        began, prompt = time.perf_counter(), prompt // CHUNK * CHUNK
        for held in range(0, prompt, CHUNK):
            self._model.read(self._rows, CHUNK, held)
        for held in range(prompt, prompt + tokens - 1):  # the prompt has given the first token
            self._model.read(self._rows, 1, held)
        return self._rows * tokens / (time.perf_counter() - began)
