"""The server beside its own engine and beside llama.cpp: six figures, each with its goal.

`start`: from the command to the first answer. `one`: a request over HTTP, as a stream, against the
same request on the engine alone. `prefix`: the time to the first token of a 2,000-token prompt, new
and the second time. `lookup` and `draft`: text that repeats itself, with guesses and without, from
the text itself and from a small model. `many`: sixteen requests at once, about 128 tokens in and
128 out, over HTTP, beside llama.cpp where it is installed (bench/serve_peers.py). Sides take turns,
figures are medians. Without a MODEL weights are random: int4 here, Q4_0 there.
Run: python bench/serve.py [--quick] [--model MODEL] [--peer FILE.gguf] [--only one,many]
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import serve_peers
import torch

from puna import __version__
from puna.checkpoint.convert import convert
from puna.checkpoint.huggingface import save_huggingface
from puna.device import machine, measure_read_bandwidth
from puna.infer.driver import Driver
from puna.infer.engine import Engine, EngineConfig
from puna.infer.request import Request
from puna.infer.runner import Runner
from puna.infer.sampling import SamplingConfig
from puna.llm import LLM, load
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.serve.served import Served
from puna.tokenizer.ranks import RankTokenizer

GREEDY = SamplingConfig(temperature=0)
PARTS = ("start", "one", "prefix", "lookup", "draft", "many")
TOKENS = 128
ROWS = 16  # requests at once
PORT = "8731"
URL = f"http://127.0.0.1:{PORT}"
GUESSES = 12  # a step, where guesses are measured
TEXT = "the big dog saw a little bird and ran to play with it in some park by that old tree"


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
    driver: Driver, ids: list[int], tokens: int, bias: Mapping[int, float] | None = None
) -> float:
    """Ask the engine once, without a server."""
    began = time.perf_counter()
    request = Request(
        ids=ids, sampling=GREEDY, max_tokens=tokens, ignore_eos=True, logit_bias=bias or {}
    )
    for _ in driver.submit(request):
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
    parser.add_argument("--peer", type=Path, help="the same model as .gguf, for llama.cpp")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=None, help="3, or 7 without --quick")
    parser.add_argument("--tokens", type=int, default=None, help="to write: 64, or 128")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - {*PARTS}:
        parser.error(f"--only: {', '.join(unknown)}; some of {', '.join(PARTS)} are expected")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        model, peer, quantize = given.model, given.peer, given.quantize
        if model is None:
            model = random_folder(Path(scratch) / "model", is_quick=given.quick)
            quantize = quantize or "int4"
            if peer is None and "many" in parts and serve_peers.peer_version() is not None:
                peer = Path(scratch) / "model.gguf"
                convert(model, peer, "gguf", dtype="q4_0")
        rounds = given.rounds or (3 if given.quick else 7)
        tokens = given.tokens or (TOKENS // 2 if given.quick else TOKENS)
        llm: LLM = load(model, quantize=quantize)
        print(f"{machine()}\npuna {__version__}, {llm.model.config.parameters:,} parameters, "
              f"{quantize or 'as stored'}, {torch.get_num_threads()} threads")  # fmt: skip
        flags = [] if quantize is None else ["--quantize", quantize]
        command = [sys.executable, "-m", "puna", "--quiet", "serve", str(model), "--port", PORT,
                   "--cache-tokens", "16384", *flags]  # fmt: skip
        if "start" in parts:
            measure_start(command)
        if "lookup" in parts:
            measure_guesses(llm, None, rounds, tokens)
        if "draft" in parts:
            measure_guesses(llm, echo(llm), rounds, tokens)
        if {"one", "prefix", "many"} & {*parts}:
            with server(command, URL) as running:
                if "one" in parts:
                    print_limit(llm, measure_one(llm, rounds, tokens))
                if "prefix" in parts:
                    measure_prefix(running, rounds, vocab_of(llm), llm.model.config.context)
                if "many" in parts:
                    measure_many(llm, peer, rounds, tokens)
    print(f"all of it took              {time.perf_counter() - began:8.0f} s")


def vocab_of(llm: LLM) -> int:
    """Return how many ids are ordinary text."""
    return min(llm.model.config.vocab, llm.tokenizer.vocab) - len(llm.tokenizer.specials)


def measure_start(command: list[str]) -> None:
    """Print how long a server takes until it answers."""
    found = []
    for _ in range(3):
        with server(command, URL) as running:
            found.append(running.ready_s)
    print(f"start to ready              {statistics.median(found):8.2f} s (goal: under 3 s)")


def measure_one(llm: LLM, rounds: int, tokens: int) -> float:
    """Print what HTTP costs one request; the sides take turns. Return the engine's tokens/s."""
    sides: dict[str, list[float]] = {"engine": [], "http": []}
    served = Served.of("model", llm, EngineConfig(cache_tokens=8192))
    for at in range(rounds + 1):
        ids = prompt(at, 16, vocab_of(llm))
        for name in list(sides)[:: 1 if at % 2 else -1]:
            if name == "engine":
                took = on_engine(served.driver, ids, tokens)
            else:
                took = over_http(URL, body(ids, tokens))[1]
            if at:  # the first round warms up
                sides[name].append(took)
    served.close()
    engine, http = (statistics.median(found) for found in sides.values())
    cost = statistics.median(b / a for a, b in zip(*sides.values(), strict=True)) - 1
    print(f"one request on the engine   {tokens / engine:8.1f} tokens/s")
    print(f"one request over HTTP       {tokens / http:8.1f} tokens/s")
    print(f"cost of HTTP                {100 * cost:8.1f} % (goal: under 3 %)")
    return tokens / engine


def print_limit(llm: LLM, rate: float) -> None:
    """Print how fast the weights could be read at all: once a token, by one request."""
    runner = Runner.of(llm.model)
    if runner is None:
        return
    read_whole = [name for name in runner.matrices if name != "embed" or llm.model.head is None]
    weights = sum(runner.matrices[name].nbytes for name in read_whole)
    read = measure_read_bandwidth(megabytes=128)
    print(f"limit of the memory         {read / weights:8.1f} tokens/s at {read / 1e9:.0f} GB/s: "
          f"{rate * weights / read:.0%} of it reached")  # fmt: skip


def measure_prefix(running: Running, rounds: int, vocab: int, context: int) -> None:
    """Print the time to the first token of a long prompt, new and known."""
    seconds: dict[str, list[float]] = {"new": [], "known": []}
    worked: dict[str, list[float]] = {"new": [], "known": []}
    count = min(2000, context - 64)
    for at in range(rounds):
        ids = prompt(1000 + at, count, vocab)
        for name, asked in (("new", ids), ("known", [*ids, 7])):
            before = running.cpu_s()
            seconds[name].append(over_http(URL, body(asked, 1))[0])
            worked[name].append(running.cpu_s() - before)
    first, second = (statistics.median(found) for found in seconds.values())
    work, again = (statistics.median(found) for found in worked.values())
    print(f"first token of {count} tokens   {1e3 * first:8.1f} ms, the second time "
          f"{1e3 * second:.1f} ms: {first / second:.1f} times shorter (goal: 10)\n"
          f"  processor time            {1e3 * work:8.1f} ms, the second time "
          f"{1e3 * again:.1f} ms")  # fmt: skip


def echo(llm: LLM) -> Llama:
    """Return a small model of the same vocabulary that says every token once more.

    A tied model whose layers write nothing finds the token it has just read likeliest.
    """
    c = llm.model.config
    width = max(64, c.width // 8)
    config = ModelConfig(
        width=width, layers=2, heads=4, kv_heads=2, mlp_width=2 * width, vocab=c.vocab,
        context=c.context, tied=True,
    )  # fmt: skip
    draft = Llama(config)
    initialise(draft, seed=0, std=0.0, embed_std=1.0)
    return draft.eval().requires_grad_(False)


def measure_guesses(llm: LLM, draft: Llama | None, rounds: int, tokens: int) -> None:
    """Print what guesses give where a text repeats itself; sides take turns."""
    plain, guessing = (
        Driver(Engine(llm.model, llm.tokenizer, EngineConfig(cache_tokens=4096, draft_tokens=count),
                      draft=draft if count else None))
        for count in (0, GUESSES)
    )  # fmt: skip
    ratios = []
    for at in range(rounds + 1):
        ids = prompt(50 + at, 64, vocab_of(llm))
        again = {ids[-1]: 100.0}  # what is written repeats itself, whatever the weights are
        sides = [plain, guessing][:: 1 if at % 2 else -1]
        took = {id(side): on_engine(side, ids, tokens, again) for side in sides}
        if at:
            ratios.append(took[id(plain)] / took[id(guessing)])
    stats = guessing.engine.stats()
    share = stats.accepted_tokens / max(1, stats.drafted_tokens)
    plain.close()
    guessing.close()
    who = "the text itself" if draft is None else "a draft model"
    print(f"text that repeats itself    {statistics.median(ratios):8.2f} times faster with "
          f"{GUESSES} guesses of {who}, {share:.0%} right (goal: 1.5)")  # fmt: skip


def many_bodies(llm: LLM, tokens: int, seed: int) -> list[dict[str, Any]]:
    """Return texts of about 128 tokens to continue, of which none begins as another did."""
    chance, known = random.Random(seed), TEXT.split()
    bodies = []
    for _ in range(ROWS):
        words = chance.choices(known, k=16)
        while len(llm.tokenizer.encode(" ".join(words))) < 127:
            words.append(chance.choice(known))
        bodies.append({"prompt": " ".join(words), "max_tokens": tokens, "temperature": 0,
                       "ignore_eos": True})  # fmt: skip
    return bodies


def rate_of(bodies: Sequence[dict[str, Any]]) -> float:
    """Return tokens a second of requests that come at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(bodies)) as pool:
        written = sum(pool.map(lambda given: serve_peers.ask_whole(URL, given), bodies))
    return written / (time.perf_counter() - began)


def measure_many(llm: LLM, peer: Path | None, rounds: int, tokens: int) -> None:
    """Print sixteen requests at once, beside llama.cpp where its file is given."""
    rate_of(many_bodies(llm, 8, seed=0))  # warms up
    if peer is None or serve_peers.peer_version() is None:
        rates = [rate_of(many_bodies(llm, tokens, seed)) for seed in range(1, rounds + 1)]
        print(f"{ROWS} requests at once         {statistics.median(rates):8.1f} tokens/s")
        return
    batched = serve_peers.Batched(peer, rows=ROWS, threads=torch.get_num_threads())
    batched.rate(32, 2)
    never = sorted(llm.stop_ids | llm.tokenizer.stop_ids)
    found: dict[str, list[float]] = {"puna": [], "batched": [], "server": []}
    with server(serve_peers.server_command(peer), serve_peers.URL):
        for at in range(1, rounds + 1):
            bodies = many_bodies(llm, tokens, seed=at)
            sides = {
                "puna": partial(rate_of, bodies),
                "batched": partial(batched.rate, 128, tokens),
                "server": partial(serve_peers.server_rate, bodies, never),
            }
            for side in list(sides)[:: 1 if at % 2 else -1]:
                found[side].append(sides[side]())
    ours = statistics.median(found["puna"])
    print(f"{ROWS} requests at once         {ours:8.1f} tokens/s over HTTP "
          f"({min(found['puna']):.1f} to {max(found['puna']):.1f})")  # fmt: skip
    for side, what in (("server", "its server"), ("batched", "batched, without a server")):
        ratios = [a / b for a, b in zip(found["puna"], found[side], strict=True)]
        print(f"                            {statistics.median(found[side]):8.1f} tokens/s, "
              f"{serve_peers.peer_version()}, {what}: puna is {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}) times as fast (goal: 1.5)")  # fmt: skip


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # as the command line of puna sets it, before torch
        env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        os.execve(sys.executable, [sys.executable, *sys.argv], env)
    main()
