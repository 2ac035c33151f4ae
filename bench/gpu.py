"""How near decoding comes to the memory of a GPU, and reading prompts to its matrix units.

One run measures the card's read bandwidth and its bfloat16 matrix peak, then decodes with random
weights of the 8B shape in bfloat16, fp8 and int4 at batch 1, 8 and 16, step by step as
`puna.infer.graphs` records them, and reads a prompt. A row says tokens a second, the share of the
bandwidth that the weights and the cache of a step make of it, and TFLOP/s of the prompt. Without a
GPU it says so and ends.
Run: python bench/gpu.py [--only int4] [--quick]
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from puna.infer.graphs import GraphRunner
from puna.infer.runner import PAGE_TOKENS, PagedCache, Part
from puna.model.config import ModelConfig
from puna.model.family import FAMILY
from puna.model.llama import Llama
from puna.ops.gpu.choice import gpu_of
from puna.quant.codes import Scheme, quantize_weight
from puna.quant.fp8 import quantize_fp8
from puna.quant.linear import QuantLinear
from puna.quant.recipe import FEED_FORWARD, as_layer

FORMATS = ("bf16", "fp8", "int4")
BATCHES = (1, 8, 16)
PROMPT, HELD = 2048, 512  # tokens of the prompt, and of the past of a decoding step
TOKEN = 5


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the mean time of a piece of work, after three that warm up."""
    for _ in range(3):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(rounds):
        work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / rounds


def read_bandwidth(rounds: int) -> float:
    """Return bytes per second of reading four gigabytes, which no cache holds."""
    x = torch.ones(10**9, device="cuda")
    return x.numel() * x.element_size() / seconds(x.sum, rounds)


def matrix_peak(rounds: int) -> float:
    """Return operations per second of a large product of random bfloat16 numbers."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, rounds)


def random_model(config: ModelConfig, format: str) -> Llama:
    """Build a model on the GPU whose matrices repeat a few random rows: speed does not notice."""
    with torch.device("meta"):
        model = Llama(config)
    model.freqs = model.freqs.new_ones(config.head_width // 2, device="cpu")
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            out, inner = module.weight.shape
            seed = torch.randn(64, inner) * 0.02
            owner, _, leaf = name.rpartition(".")
            layer = in_format(name, seed, out, format, config.layers)
            if layer is None:
                weight = seed.to("cuda", torch.bfloat16).repeat(-(-out // 64), 1)[:out]
                module.weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
            else:
                setattr(model.get_submodule(owner), leaf, layer)
        elif hasattr(module, "eps"):
            ones = torch.ones(config.width, device="cuda", dtype=torch.bfloat16)
            module.weight = torch.nn.Parameter(ones)
    return model.eval().requires_grad_(False)


def in_format(
    name: str, seed: torch.Tensor, out: int, format: str, layers: int
) -> torch.nn.Module | None:
    """Return the layer in few bits as puna.quant.recipe would make it; None leaves it bfloat16."""
    if format == "bf16" or name == "embed":
        return None
    times = -(-out // len(seed))
    if format == "int4":
        few = quantize_weight(seed, Scheme(bits=8 if name == "head" else 4))
        codes, scales = (part.repeat(times, 1)[:out] for part in (few.codes, few.scales))
        return QuantLinear(replace(few, codes=codes, scales=scales), device="cuda")
    is_inside = any(name.startswith(f"blocks.{layer}.") for layer in range(1, layers - 1))
    if not is_inside or not name.endswith(FEED_FORWARD):
        return None
    return as_layer(quantize_fp8(seed.to("cuda").repeat(times, 1)[:out]), "cuda")


def step_bytes(model: Llama) -> int:
    """Return the bytes of weights that a step reads: everything but the embedding."""
    total = 0
    for name, module in model.named_modules():
        if name == "embed" or list(module.children()):
            continue
        packed = getattr(module, "packed", None)
        tensors = [*module.parameters(), *module.buffers()]
        total += packed.nbytes if packed is not None else sum(x.nbytes for x in tensors)
    return total


def measure(
    format: str, config: ModelConfig, *, bandwidth: float, peak: float, rounds: int
) -> None:
    """Print the rows of one format."""
    model = random_model(config, format)
    runner = GraphRunner(model)
    pages = -(-(PROMPT + 1) // PAGE_TOKENS)
    cache = PagedCache(config, pages * max(BATCHES), dtype=torch.bfloat16, device=runner.device)
    cache.keys.zero_()
    cache.values.zero_()
    weights = step_bytes(model)
    for rows in BATCHES:
        parts = [
            Part(ids=[TOKEN], held=HELD, pages=range(row * pages, (row + 1) * pages))
            for row in range(rows)
        ]
        time = seconds(partial(runner.step, parts, cache), rounds)
        moved = weights + rows * HELD * config.cache_bytes_per_token(2)
        print(
            f"{format:<6}decode b{rows:<4}{rows / time:>10,.1f} tokens/s"
            f"{moved / time / bandwidth:>8.0%} of the bandwidth",
            flush=True,
        )
    part = [Part(ids=[TOKEN] * PROMPT, held=0, pages=range(pages))]
    time = seconds(partial(runner.step, part, cache), max(3, rounds // 10))
    work = PROMPT * config.forward_flops_per_token(PROMPT / 2) / time
    print(
        f"{format:<6}prompt {PROMPT:<5}{PROMPT / time:>9,.1f} tokens/s"
        f"{work / 1e12:>8,.0f} TFLOP/s, {work / peak:.0%} of the matrix peak in bf16",
        flush=True,
    )


def main() -> int:
    """Print the table, or say in one line what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FORMATS, help="one format")
    parser.add_argument("--quick", action="store_true", help="few rounds, the 1B shape")
    arguments = parser.parse_args()
    gpu = gpu_of(torch.device("cuda")) if torch.cuda.is_available() else None
    if gpu is None or not gpu.runs_triton:
        print(
            "bench/gpu.py needs an NVIDIA GPU that multiplies bfloat16, and triton; nothing to "
            "measure here.",
            file=sys.stderr,
        )
        return 0
    rounds = 20 if arguments.quick else 100
    config = FAMILY["llama-3.2-1b" if arguments.quick else "llama-3.1-8b"].config
    bandwidth, peak = read_bandwidth(rounds), matrix_peak(rounds)
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: reads "
        f"{bandwidth / 1e12:.2f} TB/s, multiplies {peak / 1e12:,.0f} TFLOP/s in bf16"
    )
    for format in FORMATS:
        if arguments.only in (None, format):
            measure(format, config, bandwidth=bandwidth, peak=peak, rounds=rounds)
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
