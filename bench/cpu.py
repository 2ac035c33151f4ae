"""Decoding and reading prompts on the CPU beside llama.cpp and OpenVINO, in one run.

The sides alternate within each round, because a machine's memory bandwidth changes within seconds;
a row of the table is the median of the ratios of the rounds, beside the share of the read bandwidth
(decoding) or of the matrix peak (prompts) that was measured in the same rounds. Weights are random,
and the same format and shape is made for each peer; q4_k is one file that both read. OpenVINO is
left out where it is not installed; it runs in a process of its own, and its cell says so where that
process crashed.
Run: python bench/cpu.py [--quick] [--only 135M] [--formats int4,q4_k]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import openvino_llama
import torch
from llamacpp import MIXED, LlamaCpp, version, write_gguf

from puna.checkpoint.load import load_model
from puna.device import machine, measure_matrix_peak, measure_read_bandwidth
from puna.infer.runner import PAGE_TOKENS, PagedCache, Part, Runner
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.ops import native
from puna.quant.codes import Scheme, quantize_weight
from puna.quant.linear import QuantLinear, RowEmbedding

SHAPES = {
    "135M": ModelConfig(
        width=576, layers=30, heads=9, kv_heads=3, mlp_width=1536, vocab=49_152, tied=True
    ),
    "1B": ModelConfig(
        width=2048, layers=16, heads=32, kv_heads=8, mlp_width=8192, vocab=128_256, tied=True
    ),
}
PEER_FORMATS = {"f32": "F32", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
FILES = {"q4_k": MIXED}  # formats of a file that both sides read
BLOCK = 256  # weights of a row in one block of these
PROMPT, BATCH = 512, 8
Side = Callable[[int, int, int], None]  # reads rows, tokens of each, after so many held
TOKEN = 5  # decoded again and again: the weights read do not depend on it


def random_model(config: ModelConfig, format: str) -> Llama:
    """Build a model whose matrices repeat a few random rows: memory and time do not notice."""
    with torch.device("meta"):
        model = Llama(config)
    model.freqs = Llama(config_of_one_layer(config)).freqs
    generator = torch.Generator().manual_seed(0)
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                out, inner = module.weight.shape
                seed = torch.randn(min(out, 64), inner, generator=generator) * 0.02
                weight = seed.repeat(-(-out // len(seed)), 1)[:out]
                setattr(parent, name, in_format(module, weight, format))
            elif hasattr(module, "eps"):
                module.weight = torch.nn.Parameter(torch.ones(config.width))
    return model.eval().requires_grad_(False)


def config_of_one_layer(config: ModelConfig) -> ModelConfig:
    """Return a small model's shape with the same positions."""
    return ModelConfig(
        width=8, layers=1, heads=1, kv_heads=1, mlp_width=8, vocab=8,
        head_width=config.head_width, rope_theta=config.rope_theta,
    )  # fmt: skip


def in_format(module: torch.nn.Module, weight: torch.Tensor, format: str) -> torch.nn.Module:
    """Return the layer with this weight in this format."""
    if format in ("f32", "bf16"):
        dtype = torch.float32 if format == "f32" else torch.bfloat16
        module.weight = torch.nn.Parameter(weight.to(dtype).contiguous(), requires_grad=False)
        return module
    codes = quantize_weight(weight, Scheme(bits=4 if format == "int4" else 8))
    layer = QuantLinear(codes)
    if isinstance(module, torch.nn.Embedding):
        return RowEmbedding(layer.packed, torch.empty(0))
    return layer


def bytes_read(model: Llama) -> int:
    """Count what a token reads: every matrix once, for a tied head is the embedding."""
    packed = [module.packed for module in model.modules() if hasattr(module, "packed")]
    plain = [weight for weight in model.parameters() if weight.ndim == 2]
    sizes = {matrix.codes.data_ptr(): matrix.nbytes for matrix in packed}
    return sum((sizes | {weight.data_ptr(): weight.nbytes for weight in plain}).values())


class Puna:
    """Our side: the native runner over a paged cache."""

    def __init__(self, model: Llama, format: str) -> None:
        self.model, config = model, model.config
        runner = Runner.of(self.model)
        assert runner is not None, "puna was installed without its kernels"
        self.runner = runner
        self.pages = PROMPT // PAGE_TOKENS
        dtype = torch.float32 if format == "f32" else torch.bfloat16
        self.cache = PagedCache(config, self.pages * BATCH, dtype=dtype)
        self.weight_bytes = bytes_read(model)

    def read(self, rows: int, tokens: int, held: int) -> None:
        """Read the next tokens of some rows."""
        parts = [
            Part(
                ids=[TOKEN] * tokens,
                held=held,
                pages=range(row * self.pages, (row + 1) * self.pages),
            )
            for row in range(rows)
        ]
        self.runner.step(parts, self.cache)


def speed(read: Side, rows: int, steps: int) -> float:
    """Return tokens per second of decoding, or of the prompt where `steps` is 0."""
    began = time.perf_counter()
    if not steps:
        read(1, PROMPT, 0)
        return PROMPT / (time.perf_counter() - began)
    for held in range(steps):
        read(rows, 1, held)
    return rows * steps / (time.perf_counter() - began)


def speed_or_none(read: Side, rows: int, steps: int) -> float | None:
    """Return `speed`, or None where the peer is gone."""
    try:
        return speed(read, rows, steps)
    except openvino_llama.CrashError:
        return None


def sides_of(name: str, format: str) -> tuple[Puna, dict[str, Side]]:
    """Return our side, and all of them by their names."""
    config, threads = SHAPES[name], torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        write_gguf(path, config, (PEER_FORMATS | FILES)[format])
        is_file = format in FILES
        model = load_model(path, as_stored=True) if is_file else random_model(config, format)
        ours = Puna(model, format)
        sides: dict[str, Side] = {"puna": ours.read}
        sides["llama.cpp"] = LlamaCpp(path, threads=threads, rows=BATCH, batch=PROMPT).read
    if openvino_llama.version() and not is_file:
        try:
            sides["openvino"] = openvino_llama.InChild(config, format, threads=threads).read
        except openvino_llama.CrashError:
            sides["openvino"] = crashed
    return ours, sides


def crashed(rows: int, tokens: int, held: int) -> None:
    """Stand for a peer that could not even begin."""
    raise openvino_llama.CrashError


def compare(name: str, format: str, rounds: int) -> None:
    """Print the rows of one shape and format."""
    ours, sides = sides_of(name, format)
    steps = 12 if name == "1B" else 40
    works = {
        "decode b1": (1, steps),
        f"decode b{BATCH}": (BATCH, steps // 2),
        f"prompt {PROMPT}": (1, 0),
    }
    for work, (rows, count) in works.items():
        speeds: dict[str, list[float]] = {side: [] for side in sides}
        shares = []
        for number in range(rounds + 1):
            order = list(sides) if number % 2 else list(sides)[::-1]
            now = {side: speed_or_none(sides[side], rows, count) for side in order}
            if number:  # the first round warms all up
                for side, value in now.items():
                    if value is not None:
                        speeds[side].append(value)
                shares.append(share(speeds["puna"][-1] / rows, ours, decodes=count > 0))
        mine = speeds.pop("puna")
        cells = [f"{statistics.median(mine):>10,.1f}"]
        for theirs in speeds.values():
            if len(theirs) < len(mine):
                cells.append(f"{'crashed':>10}{'':>7} {'':<15}")
                continue
            ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
            middle, spread = statistics.median(ratios), f"({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append(f"{statistics.median(theirs):>10,.1f}{middle:>7.2f} {spread:<15}")
        what = "bandwidth" if count else "peak in f32"
        limit = f"{statistics.median(shares):>5.0%} of {what}"
        print(f"{name:<6}{format:<6}{work:<12}{''.join(cells)}{limit}", flush=True)


def share(speed: float, ours: Puna, *, decodes: bool) -> float:
    """Return which share of the physical limit a speed is, in tokens per second of one row."""
    if decodes:
        return speed * ours.weight_bytes / measure_read_bandwidth(megabytes=128)
    return speed * ours.model.config.forward_flops_per_token(PROMPT / 2) / measure_matrix_peak()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds, the small shape")
    parser.add_argument("--only", choices=SHAPES, help="one shape")
    parser.add_argument("--formats", default=",".join(PEER_FORMATS))
    arguments = parser.parse_args()
    if os.environ.get("OMP_WAIT_POLICY"):  # passive threads decode at a fifth of llama.cpp's speed
        sys.exit("OMP_WAIT_POLICY is set, which may slow the peers' threads. Unset it to compare.")
    facts = machine()
    print(f"{facts.processor}, {facts.cores} cores, {' '.join(facts.features)}")
    print(
        f"puna's level {native.level()}, {version()}, torch {facts.torch}, "
        f"{openvino_llama.version() or 'no openvino'}, {torch.get_num_threads()} threads"
    )
    peers = "".join(
        f"{peer:>10}{'ratio':>7} {'(spread)':<15}"
        for peer in ("llama.cpp", "openvino")
        if peer != "openvino" or openvino_llama.version()
    )
    print(f"{'tokens per second':<24}{'puna':>10}{peers}")
    for name in SHAPES:
        if arguments.only == name or (
            not arguments.only and not (arguments.quick and name == "1B")
        ):
            for format in arguments.formats.split(","):
                if format in FILES and SHAPES[name].width % BLOCK:
                    continue
                compare(name, format, rounds=3 if arguments.quick else 7)


if __name__ == "__main__":
    main()
