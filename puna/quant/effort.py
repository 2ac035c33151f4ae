"""How long calibration will take on this machine, said before it begins.

Two things cost time: products, whose number is known and whose rate is measured, and work on single
weights (grids, columns, sweeps), which is measured by rounding a small matrix. On the way a bar
counts; this is for the person who has to decide whether to wait.
"""

import time
from collections.abc import Callable

import torch

from puna.log import note
from puna.model.config import ModelConfig
from puna.quant.awq import products_of_search
from puna.quant.codes import Scheme
from puna.quant.gptq import Gptq, gptq

_LONG = 1e12  # floating-point operations; below it nobody waits long enough to be told
_SIDE = 1024  # of the product that is timed
_ROWS, _COLUMNS = 4096, 256  # of the matrix that is rounded
_TRIES = 3
_REACHED = 0.7  # of that product's rate, by a layer of the 1B shape: 224 s where 150 s were counted


def announce(
    config: ModelConfig, tokens: int, scheme: Scheme, choices: Gptq | None, *, with_awq: bool
) -> None:
    """Say how long calibration will take, where it is worth saying.

    Args:
        choices: of error-compensating rounding; None where it is not used.
        with_awq: whether scales are searched.
    """
    products = count_products(config, tokens, choices, with_awq=with_awq)
    if products < _LONG:
        return
    side = torch.rand(_SIDE, _SIDE)
    seconds = products * _fastest(lambda: side @ side) / (2 * _SIDE**3) / _REACHED
    if choices is not None:
        weight, hessian = torch.rand(_ROWS, _COLUMNS), torch.eye(_COLUMNS)
        each = _fastest(lambda: gptq(weight, hessian, scheme, choices)) / weight.numel()
        seconds += each * sum(out * inner for out, inner in _stages(config))
    spoken = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
    note(f"Calibrating on {tokens:,} tokens will take about {spoken} on this machine as it is now.")


def count_products(
    config: ModelConfig, tokens: int, choices: Gptq | None, *, with_awq: bool
) -> float:
    """Return how many floating-point operations the products of a calibration take."""
    total = 0.0
    for out, inner in _stages(config):
        total += 2 * 2 * tokens * (out * inner + inner**2)  # two streams; moments and their drift
        if with_awq:
            total += 2 * tokens * (out * inner + inner**2) + products_of_search(out, inner)
        if choices is not None:
            total += 2 * inner**3 / 3  # two factors
            total += 2 * out * inner**2 * (3.5 + choices.sweeps)  # the target, columns and sweeps
    return total


def _stages(config: ModelConfig) -> list[tuple[int, int]]:
    """Return the shapes of what is rounded, matrices that read the same inputs as one."""
    heads, kv_heads = config.heads * config.head_width, config.kv_heads * config.head_width
    width, mlp = config.width, config.mlp_width
    block = [(heads + 2 * kv_heads, width), (width, heads), (2 * mlp, width), (width, mlp)]
    return block * config.layers


def _fastest(action: Callable[[], object]) -> float:
    """Return the seconds of the fastest of a few tries; the first one warms up."""
    best = float("inf")
    for _ in range(_TRIES):
        began = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - began)
    return best
