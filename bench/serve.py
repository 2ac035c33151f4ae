"""The server beside its own engine: what HTTP costs, many requests at once, and a known prefix.

One request over HTTP as a stream, against the same request on the engine alone: the two take turns,
and the medians are compared. The time to the first token of a 2,000-token prompt, new and the
second time, and the processor time of the server for each. Text that repeats itself, with guesses
and without. Sixteen requests at once, about 128 tokens in and 128 out, over HTTP: where a .gguf is
given, llama-cpp-python's server gets the same sixteen, and the two take turns.
Run: python bench/serve.py [--quick] [--model MODEL] [--quantize int4] [--peer FILE.gguf]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from puna import __version__
from puna.checkpoint.huggingface import save_huggingface
from puna.device import machine, measure_read_bandwidth
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
PORT, PEER_PORT = "8731", "8732"
GUESSES = 6  # a step, where guesses are measured
WORDS = [
    "the",
    "big",
    "dog",
    "saw",
    "a",
    "little",
    "bird",
    "and",
    "ran",
    "to",
    "play",
    "with",
    "it",
    "in",
    "the",
    "park",
    "by",
    "the",
    "old",
    "tree",
]


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


class Running(NamedTuple):
    """A server that runs."""

    ready_s: float  # how long its start took
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the processor time that it has taken."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def server(command: list[str], url: str) -> Iterator[Running]:
    """Start a server, wait until it is ready, yield it, and end it."""
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
        yield Running(time.perf_counter() - began, psutil.Process(process.pid))
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


def on_engine(
    served: Served, ids: list[int], tokens: int, bias: Mapping[int, float] | None = None
) -> float:
    """Ask the engine once, without a server."""
    began = time.perf_counter()
    request = Request(
        ids=ids, sampling=GREEDY, max_tokens=tokens, ignore_eos=True, logit_bias=bias or {}
    )
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
        vocab = vocab if vocab > 0 else llm.tokenizer.vocab
        stored = given.quantize or "as stored"
        print(f"{machine()}\n{llm.model.config.parameters:,} parameters, {stored}")
        flags = [] if given.quantize is None else ["--quantize", given.quantize]
        puna = ["puna", "--quiet", "serve", str(model), "--port", PORT, *flags]
        url = f"http://127.0.0.1:{PORT}"
        with server([sys.executable, "-m", *puna], url) as running:
            print(f"start to ready              {running.ready_s:8.2f} s")
            one = Served.of("model", llm, EngineConfig(cache_tokens=8192))
            rate = measure_one(url, one, rounds, tokens, vocab)
            one.close()
            print_limit(llm, rate)
            measure_prefix(url, running, rounds, vocab, llm.model.config.context)
            measure_guesses(llm, rounds, tokens, vocab)
            bodies = many_bodies(llm, tokens)
            if given.peer is None:
                rates = [rate_of(url, bodies) for _ in range(2)]
                print(f"16 requests at once         {max(rates):8.1f} tokens/s")
            else:
                measure_beside(url, given.peer, bodies, rounds)


def measure_one(url: str, served: Served, rounds: int, tokens: int, vocab: int) -> float:
    """Print what HTTP costs one request; the sides take turns. Return the engine's tokens/s."""
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
          f"{100 * (http / engine - 1):.1f} % (goal: under 3 %)")  # fmt: skip
    return tokens / engine


def print_limit(llm: LLM, rate: float) -> None:
    """Print how fast the weights could be read at all: once a token, by one request."""
    state = llm.model.state_dict().values()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state)
    read = measure_read_bandwidth(megabytes=128)
    print(f"limit of the memory         {read / weights:8.1f} tokens/s at {read / 1e9:.0f} GB/s: "
          f"{rate * weights / read:.0%} of it reached")  # fmt: skip


def measure_prefix(url: str, running: Running, rounds: int, vocab: int, context: int) -> None:
    """Print the time to the first token of a long prompt, new and known."""
    seconds: dict[str, list[float]] = {"new": [], "known": []}
    worked: dict[str, list[float]] = {"new": [], "known": []}
    count = min(2000, context - 64)
    for at in range(rounds):
        ids = prompt(1000 + at, count, vocab)
        for name, asked in (("new", ids), ("known", [*ids, 7])):
            before = running.cpu_s()
            seconds[name].append(over_http(url, body(asked, 1))[0])
            worked[name].append(running.cpu_s() - before)
    first, second = (statistics.median(found) for found in seconds.values())
    work, again = (statistics.median(found) for found in worked.values())
    print(f"first token of {count} tokens   {1e3 * first:8.1f} ms, the second time "
          f"{1e3 * second:.1f} ms: {first / second:.1f} times shorter (goal: 10)\n"
          f"  processor time            {1e3 * work:8.1f} ms, the second time "
          f"{1e3 * again:.1f} ms")  # fmt: skip


def measure_guesses(llm: LLM, rounds: int, tokens: int, vocab: int) -> None:
    """Print what guesses from the text itself give where it repeats itself; sides take turns."""
    plain = Served.of("plain", llm, EngineConfig(cache_tokens=4096))
    guessing = Served.of("guessing", llm, EngineConfig(cache_tokens=4096, draft_tokens=GUESSES))
    ratios = []
    for at in range(rounds + 1):
        ids = prompt(50 + at, 64, vocab)
        again = {ids[-1]: 100.0}  # what is written repeats itself, whatever the weights are
        sides = [plain, guessing][:: 1 if at % 2 else -1]
        took = {side.name: on_engine(side, ids, tokens, again) for side in sides}
        if at:
            ratios.append(took["plain"] / took["guessing"])
    stats = guessing.driver.engine.stats()
    share = stats.accepted_tokens / max(1, stats.drafted_tokens)
    plain.close()
    guessing.close()
    print(f"text that repeats itself    {statistics.median(ratios):8.2f} times faster with "
          f"{GUESSES} guesses, {share:.0%} of them right (goal: 1.5)")  # fmt: skip


def many_bodies(llm: LLM, tokens: int) -> list[dict[str, Any]]:
    """Return sixteen texts of about 128 tokens to continue; no token may end one."""
    bodies = []
    for at in range(16):
        words = [WORDS[at % len(WORDS)]]
        while len(llm.tokenizer.encode(" ".join(words))) < 128:
            words.append(WORDS[(at * 7 + len(words) * (at + 3)) % len(WORDS)])
        never = {str(token): -100 for token in sorted(llm.stop_ids | llm.tokenizer.stop_ids)}
        bodies.append({"prompt": " ".join(words), "max_tokens": tokens, "temperature": 0,
                       "logit_bias": never})  # fmt: skip
    return bodies


def ask_whole(url: str, given: dict[str, Any]) -> int:
    """Ask for an answer in one piece; return how many tokens it has."""
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(given).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return int(json.load(answer)["usage"]["completion_tokens"])


def rate_of(url: str, bodies: Sequence[dict[str, Any]]) -> float:
    """Return tokens a second of requests that come at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(bodies)) as pool:
        written = sum(pool.map(lambda given: ask_whole(url, given), bodies))
    return written / (time.perf_counter() - began)


def measure_beside(url: str, file: Path, bodies: list[dict[str, Any]], rounds: int) -> None:
    """Print sixteen requests at once beside llama-cpp-python's server; the two take turns."""
    other = f"http://127.0.0.1:{PEER_PORT}"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--port", PEER_PORT,
               "--n_ctx", "1024", "--interrupt_requests", "false"]  # fmt: skip
    rates: dict[str, list[float]] = {url: [], other: []}
    with server(command, other):
        for at in range(rounds + 1):
            for side in list(rates)[:: 1 if at % 2 else -1]:
                rate = rate_of(side, bodies)
                if at:  # the first round warms up
                    rates[side].append(rate)
    ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
    ours, theirs = (statistics.median(found) for found in rates.values())
    print(f"16 requests at once         {ours:8.1f} tokens/s, puna {__version__}\n"
          f"                            {theirs:8.1f} tokens/s, llama-cpp-python's server "
          f"{version('llama-cpp-python')}\n"
          f"                            puna is {ratio:.2f} times as fast (goal: 1.5)")  # fmt: skip


if __name__ == "__main__":
    main()
