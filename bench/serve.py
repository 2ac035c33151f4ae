"""The server beside its own engine: what HTTP costs, many requests at once, and a known prefix.

Three numbers. One request over HTTP as a stream, against the same request on the engine alone: the
two take turns, and the medians are compared. Sixteen requests at once, 128 tokens in and out, over
HTTP. The time to the first token of a 2,000-token prompt, new and the second time. Where
llama-cpp-python's server and a .gguf are given, it gets the same sixteen requests.
Run: python bench/serve.py [--quick] [--model MODEL] [--quantize int4] [--peer FILE.gguf]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from puna.checkpoint.huggingface import save_huggingface
from puna.device import machine
from puna.infer.engine import EngineConfig
from puna.infer.request import Request
from puna.infer.sampling import SamplingConfig
from puna.llm import LLM, load
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.serve.served import Served
from puna.tokenizer.ranks import RankTokenizer

GREEDY = SamplingConfig(temperature=0)
TOKENS = 128


def random_folder(folder: Path, *, is_quick: bool) -> Path:
    """Write a random model: of about 0.1 billion weights, or much smaller."""
    tok = RankTokenizer([bytes([value]) for value in range(256)])
    width = 256 if is_quick else 1024
    config = ModelConfig(
        width=width, layers=4 if is_quick else 8, heads=8, kv_heads=4, mlp_width=3 * width,
        vocab=tok.vocab, context=4096,
    )  # fmt: skip
    model = Llama(config)
    initialise(model, seed=0, std=0.1)
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    save_huggingface(
        model, config, folder, tokenizer=tok, dtype=torch.bfloat16, chat_template=template
    )
    return folder


@contextmanager
def server(command: list[str], url: str) -> Iterator[float]:
    """Start a server, wait until it is ready, yield the seconds that took, and end it."""
    began = time.perf_counter()
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/v1/models", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{' '.join(command)} ended"
                time.sleep(0.02)
        yield time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def body(ids: list[int], tokens: int) -> dict[str, Any]:
    """Return a streamed completion of ids."""
    return {"prompt": ids, "max_tokens": tokens, "temperature": 0, "stream": True,
            "ignore_eos": True}  # fmt: skip


def over_http(url: str, given: dict[str, Any]) -> tuple[float, float]:
    """Ask once; return seconds to the first event and to the last."""
    data = json.dumps(given).encode()
    request = urllib.request.Request(f"{url}/v1/completions", data)
    began, first = time.perf_counter(), 0.0
    with urllib.request.urlopen(request, timeout=600) as answer:
        for line in answer:
            if not first and line.startswith(b"data:"):
                first = time.perf_counter() - began
    return first, time.perf_counter() - began


async def at_once(url: str, bodies: list[dict[str, Any]]) -> float:
    """Ask all at the same time; return seconds until the last is answered."""
    began = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(over_http, url, given) for given in bodies))
    return time.perf_counter() - began


def on_engine(served: Served, ids: list[int], tokens: int) -> float:
    """Ask the engine once, without a server."""
    began = time.perf_counter()
    request = Request(ids=ids, sampling=GREEDY, max_tokens=tokens, ignore_eos=True)
    for _ in served.driver.submit(request):
        pass
    return time.perf_counter() - began


def prompt(seed: int, count: int, vocab: int) -> list[int]:
    """Return random ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, vocab, (count,), generator=generator).tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, few rounds")
    parser.add_argument("--model", type=Path, help="a MODEL; a random one without it")
    parser.add_argument("--quantize", default=None)
    parser.add_argument("--peer", type=Path, help="the same model as .gguf, for llama.cpp's server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = given.model or random_folder(Path(scratch) / "model", is_quick=given.quick)
        llm: LLM = load(model, quantize=given.quantize)
        rounds, tokens = (3, 64) if given.quick else (7, TOKENS)
        vocab = min(llm.model.config.vocab, llm.tokenizer.vocab) - 256
        stored = given.quantize or "as stored"
        print(f"{machine()}\n{llm.model.config.parameters:,} parameters, {stored}")
        flags = [] if given.quantize is None else ["--quantize", given.quantize]
        port = "8731"
        url = f"http://127.0.0.1:{port}"
        puna = [
            sys.executable,
            "-m",
            "puna",
            "--quiet",
            "serve",
            str(model),
            "--port",
            port,
            *flags,
        ]
        served = Served.of("model", llm, EngineConfig(cache_tokens=8192))
        with server(puna, url) as ready_s:
            print(f"start to ready              {ready_s:8.2f} s")
            measure_one(url, served, rounds, tokens, vocab)
            measure_prefix(url, rounds, vocab, llm.model.config.context)
            rate = measure_many(url, tokens, vocab)
            print(f"16 requests at once, puna   {rate:8.1f} tokens/s")
        served.close()
        if given.peer is not None:
            peer = [sys.executable, "-m", "llama_cpp.server", "--model", str(given.peer), "--port",
                    port, "--n_ctx", "8192"]  # fmt: skip
            with server(peer, url):
                rate = measure_many(url, tokens, vocab)
                print(f"16 requests at once, llama-cpp-python's server {rate:8.1f} tokens/s")


def measure_one(url: str, served: Served, rounds: int, tokens: int, vocab: int) -> None:
    """Print what HTTP costs one request; the sides take turns."""
    sides: dict[str, list[float]] = {"engine": [], "http": []}
    for at in range(rounds + 1):
        ids = prompt(at, 16, vocab)
        for name in list(sides)[:: 1 if at % 2 else -1]:
            if name == "engine":
                took = on_engine(served, ids, tokens)
            else:
                took = over_http(url, body(ids, tokens))[1]
            if at:  # the first round warms up
                sides[name].append(took)
    engine, http = (statistics.median(found) for found in sides.values())
    print(f"one request on the engine   {tokens / engine:8.1f} tokens/s")
    print(f"one request over HTTP       {tokens / http:8.1f} tokens/s")
    print(f"cost of HTTP                {1e3 * (http - engine) / tokens:8.3f} ms a token, "
          f"{100 * (http / engine - 1):.1f} %")  # fmt: skip


def measure_prefix(url: str, rounds: int, vocab: int, context: int) -> None:
    """Print the time to the first token of a long prompt, new and known."""
    new, known = [], []
    count = min(2000, context - 64)
    for at in range(rounds):
        ids = prompt(1000 + at, count, vocab)
        new.append(over_http(url, body(ids, 4))[0])
        known.append(over_http(url, body([*ids, 7], 4))[0])
    first, second = statistics.median(new), statistics.median(known)
    print(f"first token of {count} tokens   {1e3 * first:8.1f} ms, the second time "
          f"{1e3 * second:.1f} ms: {first / second:.1f} times shorter")  # fmt: skip


def measure_many(url: str, tokens: int, vocab: int) -> float:
    """Return tokens a second of sixteen requests at once; the better of two rounds."""
    took = []
    for at in range(2):
        bodies = [body(prompt(100 * at + i, 128, vocab), tokens) for i in range(16)]
        took.append(asyncio.run(at_once(url, bodies)))
    return 16 * tokens / min(took)


if __name__ == "__main__":
    main()
