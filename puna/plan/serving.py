"""What serving one model takes: bytes of weights, cache and work, and how many devices hold them.

Everything is counted from the model's shape, the format of its weights and the load; `puna deploy`
writes the results into its files. Formulas hold for `puna serve`: weights once, a cache of a fixed
number of tokens, one step of at most `tokens_a_step` tokens at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from puna.errors import ConfigError, RequestError
from puna.model.config import ModelConfig

Format = Literal["float32", "bfloat16", "fp8", "int8", "int4"]
GIB = 2**30

OVERHEAD = 0.10  # of weights and cache, for fragments and what libraries keep. Assumed
HOST_BYTES = 2 * GIB  # a process with torch, a tokenizer and the server. Measured: 0.9; rounded up
_SCALE_BITS = 16 / 32  # puna.ops.lowbit: a float16 scale for each group of 32 weights
_BITS: Mapping[Format, float] = {
    "float32": 32, "bfloat16": 16, "fp8": 8, "int8": 8 + _SCALE_BITS, "int4": 4 + _SCALE_BITS
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One kind of accelerator."""

    title: str
    memory_bytes: int  # as its maker tells it, in powers of ten: the driver keeps the difference
    a_node: int  # that stand in one machine, joined by fast links


# Sources: NVIDIA's data sheets of each product; eight a machine as in the paper, section 3.3.1.
GPUS: Mapping[str, Gpu] = {
    "h200": Gpu(title="NVIDIA H200 141 GB", memory_bytes=141 * 10**9, a_node=8),
    "h100": Gpu(title="NVIDIA H100 80 GB", memory_bytes=80 * 10**9, a_node=8),
    "a100": Gpu(title="NVIDIA A100 80 GB", memory_bytes=80 * 10**9, a_node=8),
    "a100-40": Gpu(title="NVIDIA A100 40 GB", memory_bytes=40 * 10**9, a_node=8),
    "l40s": Gpu(title="NVIDIA L40S 48 GB", memory_bytes=48 * 10**9, a_node=8),
    "l4": Gpu(title="NVIDIA L4 24 GB", memory_bytes=24 * 10**9, a_node=8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much a service must do at the same time."""

    running: int = 16  # answers that are written together
    tokens: int = 8192  # of one of them, its prompt included
    tokens_a_step: int = 512

    def __post_init__(self) -> None:
        for name in ("running", "tokens", "tokens_a_step"):
            if getattr(self, name) < 1:
                raise ConfigError(f"load: {name}={getattr(self, name)} must be at least 1.")

    @property
    def cache_tokens(self) -> int:
        """Tokens that the cache must hold."""
        return self.running * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one server takes, and the devices that it is spread over."""

    parameters: int
    weight_bytes: int
    cache_bytes: int
    work_bytes: int  # of one step, on every device
    gpu: Gpu | None
    tensor_parallel: int = 1  # devices that share each matrix
    pipeline_parallel: int = 1  # groups of them that follow one another

    @property
    def gpus(self) -> int:
        """Devices in all."""
        return self.tensor_parallel * self.pipeline_parallel if self.gpu else 0

    @property
    def nodes(self) -> int:
        """Machines."""
        return -(-self.gpus // self.gpu.a_node) if self.gpu else 1

    @property
    def gpus_a_node(self) -> int:
        """Devices of one machine."""
        return -(-self.gpus // self.nodes)

    @property
    def device_bytes(self) -> int:
        """Bytes on the fullest device, or in memory where there is none."""
        shared = (self.weight_bytes + self.cache_bytes) / max(1, self.gpus)
        return int(shared * (1 + OVERHEAD)) + self.work_bytes

    @property
    def host_bytes(self) -> int:
        """Memory of one machine: all of it, or what loading through it takes."""
        if self.gpu is None:
            return HOST_BYTES + self.device_bytes
        # Weights are mapped and copied shard by shard; every device has a process of its own.
        return HOST_BYTES * self.gpus_a_node + self.weight_bytes // self.gpus


def weight_bytes(config: ModelConfig, kind: Format) -> int:
    """Return the bytes of a model's weights in memory.

    int8 and int4 round the matrices of all blocks and put the head into int8, which a tied
    embedding shares; fp8 rounds the feed-forward matrices of all layers but the first and the last,
    with a float32 scale a row.
    What is left is bfloat16. Source: puna.quant.recipe; for fp8 the paper, section 6.2.
    """
    D, F, L = config.width, config.mlp_width, config.layers
    table = config.vocab * D
    if kind in ("float32", "bfloat16"):
        return int(config.parameters * _BITS[kind] / 8)
    if kind == "fp8":
        inner = max(0, L - 2)
        low = inner * 3 * D * F
        scales = inner * 4 * (2 * F + D)
        return low + scales + 2 * (config.parameters - low)
    norms = 2 * L * D + D
    low = config.parameters_without_embeddings - norms
    head = table * _BITS["int8"] / 8
    plain = norms if config.tied else table + norms
    return int(low * _BITS[kind] / 8 + head + 2 * plain)


def work_bytes(config: ModelConfig, load: Load) -> int:
    """Return the bytes that one step needs besides weights and cache, at most.

    The residual stream, its norm, queries and output and three rows of the MLP for every token of
    the step, in 16 bits; scores over the vocabulary in float32, twice, for every answer.
    """
    wide = 2 * config.width + 2 * config.heads * config.head_width + 3 * config.mlp_width
    return 2 * load.tokens_a_step * wide + 2 * 4 * load.running * config.vocab


def needs_of(
    config: ModelConfig,
    load: Load,
    *,
    kind: Format = "bfloat16",
    gpu: str | None = None,
    stored_bytes: int | None = None,
) -> Needs:
    """Return what serving takes, with as few devices as hold it.

    Matrices are shared inside one machine, where links are fast; what one machine cannot hold is
    cut into stages, one a machine. Source: the paper, section 6.1.

    Args:
        gpu: a name of `GPUS`; None serves from the processor.
        stored_bytes: of weights that are in few bits on disk already and stay so.
    Raises:
        RequestError: the format or the device is not known, the load does not fit the context, or
            no number of devices that divides the model holds it.
    """
    if kind not in get_args(Format):
        raise RequestError(f"{kind!r} was given; one of {', '.join(get_args(Format))} is expected.")
    if gpu is not None and gpu not in GPUS:
        raise RequestError(f"--gpu: {gpu!r} was given; one of {', '.join(GPUS)} is expected.")
    if load.tokens > config.context:
        raise RequestError(
            f"--tokens: {load.tokens:,} a request were given; this model reads {config.context:,} "
            "at most. Ask for fewer."
        )
    value_bytes = 4 if kind == "float32" else 2
    facts = {
        "parameters": config.parameters,
        "weight_bytes": weight_bytes(config, kind) if stored_bytes is None else stored_bytes,
        "cache_bytes": load.cache_tokens * config.cache_bytes_per_token(value_bytes),
        "work_bytes": work_bytes(config, load),
    }
    if gpu is None:
        return Needs(gpu=None, **facts)
    device = GPUS[gpu]
    for tensor, pipeline in splits(config, device.a_node):
        needs = Needs(gpu=device, tensor_parallel=tensor, pipeline_parallel=pipeline, **facts)
        if needs.device_bytes <= device.memory_bytes:
            return needs
    raise RequestError(
        f"{device.title}: no number of devices that divides {config.kv_heads} key heads and "
        f"{config.layers} layers holds {facts['weight_bytes'] / GIB:,.0f} GiB of weights and "
        f"{facts['cache_bytes'] / GIB:,.0f} GiB of cache. Ask for less, or for another device."
    )


def splits(config: ModelConfig, a_node: int) -> list[tuple[int, int]]:
    """Return how a model may be spread, the fewest devices first: (tensor, pipeline)."""
    tensor = [n for n in (1, 2, 4, 8) if n <= a_node and config.kv_heads % n == 0]
    stages = [n for n in (2, 4, 8, 16) if n <= config.layers]
    return [(n, 1) for n in tensor] + [(tensor[-1], n) for n in stages]


__all__ = [
    "GIB", "GPUS", "HOST_BYTES", "OVERHEAD", "Format", "Gpu", "Load", "Needs", "needs_of",
    "splits", "weight_bytes", "work_bytes",
]  # fmt: skip
