"""Decode, prefill and training beside transformers, on the same random weights, in one run.

The two sides alternate within each round, because a machine's memory bandwidth changes within
seconds; the result is the median of the ratios of the rounds. The read bandwidth and the matrix
peak are measured in the same rounds. Run: python bench/versus_transformers.py [--quick]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from puna.checkpoint.names import places
from puna.data.loader import Batch
from puna.device import machine, measure_matrix_peak, measure_read_bandwidth, pick_dtype
from puna.model.cache import KVCache
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.train.loop import next_token_loss, precision

SHAPES = {
    "135M": ModelConfig(
        width=576, layers=30, heads=9, kv_heads=3, mlp_width=1536, vocab=49_152, tied=True
    ),
    "1B": ModelConfig(
        width=2048, layers=16, heads=32, kv_heads=8, mlp_width=8192, vocab=128_256, tied=True
    ),
}
TRAINED = ModelConfig(
    width=384, layers=8, heads=6, kv_heads=6, mlp_width=1024, vocab=8192, tied=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison: tokens per second of both sides, round by round."""

    name: str
    ours: list[float]
    theirs: list[float]
    limit: float  # tokens per second that the machine allows, from the same rounds
    limited_by: str

    def line(self) -> str:
        """Write medians, the median of the ratios with its spread, and the share of the limit."""
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return (
            f"{self.name:<24}{ours:>10,.1f}{theirs:>14,.1f}"
            f"{statistics.median(ratios):>8.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            f"{ours / self.limit:>8.0%} of {self.limited_by}"
        )


def twins(config: ModelConfig, dtype: torch.dtype) -> tuple[Llama, Any]:
    """Build the two models around one set of random weights, held once in memory."""
    with torch.device("meta"):
        ours = Llama(config)
    ours.to_empty(device="cpu")
    initialise(ours, seed=0)
    ours.to(dtype).eval().requires_grad_(False)
    theirs_config = LlamaConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        intermediate_size=config.mlp_width,
        vocab_size=config.vocab,
        max_position_embeddings=config.context,
        tie_word_embeddings=config.tied,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
    )
    with torch.device("meta"):
        theirs = LlamaForCausalLM(theirs_config)
    theirs.to_empty(device="cpu")
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config=theirs_config)
    weights = ours.state_dict()
    state = {place.name: weights[place.puna] for place in places(config, "huggingface")}
    theirs.load_state_dict(state, strict=False, assign=True)
    theirs.tie_weights()
    return ours, theirs.to(dtype).eval().requires_grad_(False)


def decode_ours(model: Llama, prompt: torch.Tensor, tokens: int) -> list[int]:
    """Decode greedily after a prompt, ignoring the end of text."""
    cache = KVCache(model.config, 1, prompt.shape[1] + tokens, dtype=model.embed.weight.dtype)
    last = torch.tensor([prompt.shape[1] - 1])
    token = model(prompt, cache=cache, last=last).argmax(-1)
    written = []
    for _ in range(tokens):
        written.append(int(token))
        token = model(token[:, None], cache=cache)[:, -1].argmax(-1)
    return written


def decode_theirs(model: Any, prompt: torch.Tensor, tokens: int) -> list[int]:
    """The same with transformers."""
    cache = DynamicCache()
    out = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1)
    token = out.logits[:, -1].argmax(-1)
    written = []
    for _ in range(tokens):
        written.append(int(token))
        out = model(token[:, None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].argmax(-1)
    return written


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], *, rounds: int, tokens: int
) -> Iterator[tuple[float, float]]:
    """Time both sides in turn, the first of each round changing; yield tokens per second."""
    for number in range(rounds):
        pair = [(ours, 0), (theirs, 1)]
        speeds = [0.0, 0.0]
        for work, side in pair if number % 2 else pair[::-1]:
            began = time.perf_counter()
            work()
            speeds[side] = tokens / (time.perf_counter() - began)
        yield speeds[0], speeds[1]


def compare_inference(name: str, dtype: torch.dtype, rounds: int, tokens: int) -> Iterator[Row]:
    """Decode at batch 1 and prefill 512 tokens."""
    config = SHAPES[name]
    ours, theirs = twins(config, dtype)
    prompt = torch.randint(config.vocab, (1, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = decode_ours(ours, prompt, 4)
        assert dtype != torch.float32 or mine == decode_theirs(theirs, prompt, 4)
        decode_theirs(theirs, prompt, 2)
        speeds, bandwidth = [], []
        for _ in range(rounds):
            bandwidth.append(measure_read_bandwidth())
            speeds += alternate(
                lambda: decode_ours(ours, prompt[:, :1], tokens),
                lambda: decode_theirs(theirs, prompt[:, :1], tokens),
                rounds=1,
                tokens=tokens + 1,
            )
        weight_bytes = config.parameters * ours.embed.weight.element_size()
        yield Row(
            name=f"{name} decode",
            ours=[a for a, _ in speeds],
            theirs=[b for _, b in speeds],
            limit=statistics.median(bandwidth) / weight_bytes,
            limited_by="read bandwidth",
        )
        long = torch.randint(config.vocab, (1, 512), generator=torch.Generator().manual_seed(1))
        last = torch.tensor([511])
        speeds, peaks = [], []
        for _ in range(rounds):
            peaks.append(measure_matrix_peak(dtype))
            speeds += alternate(
                lambda: ours(long, last=last),
                lambda: theirs(long, logits_to_keep=1, use_cache=True),
                rounds=1,
                tokens=512,
            )
        flops = config.forward_flops_per_token(256) - 2 * config.vocab * config.width
        yield Row(
            name=f"{name} prefill 512",
            ours=[a for a, _ in speeds],
            theirs=[b for _, b in speeds],
            limit=statistics.median(peaks) / flops,
            limited_by="matrix peak",
        )


def compare_training(dtype: torch.dtype, rounds: int) -> Row:
    """Forward and backward of 512 tokens times 8."""
    config = TRAINED
    ours, theirs = twins(config, torch.float32)
    ours.train().requires_grad_(True)
    theirs.train().requires_grad_(True)
    name = str(dtype).removeprefix("torch.")
    ids = torch.randint(config.vocab, (8, 513), generator=torch.Generator().manual_seed(2))
    documents = torch.zeros(8, 512, dtype=torch.int64)
    batch = Batch(ids=ids[:, :-1], targets=ids[:, 1:], documents=documents)

    def step_ours() -> None:
        for micro in batch.split(2):
            with precision(name, torch.device("cpu")):
                loss = next_token_loss(ours, micro) / 4096
            loss.backward()
        ours.zero_grad(set_to_none=True)

    def step_theirs() -> None:
        with precision(name, torch.device("cpu")):
            loss = theirs(ids[:, :-1], labels=ids[:, :-1], use_cache=False).loss
        loss.backward()
        theirs.zero_grad(set_to_none=True)

    step_ours()
    step_theirs()
    speeds, peaks = [], []
    for _ in range(rounds):
        peaks.append(measure_matrix_peak(dtype))
        speeds += alternate(step_ours, step_theirs, rounds=1, tokens=4096)
    return Row(
        name="15M training 512 x 8",
        ours=[a for a, _ in speeds],
        theirs=[b for _, b in speeds],
        limit=statistics.median(peaks) / (3 * config.forward_flops_per_token(256)),
        limited_by="matrix peak",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds; 1B only if asked for")
    parser.add_argument("--only", help="135M, 1B or training")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 7
    facts, dtype = machine(), pick_dtype("auto")
    print(f"{facts.processor}, {facts.cores} cores, {' '.join(facts.features)}")
    print(
        f"torch {facts.torch}, transformers {transformers.__version__}, {dtype}, "
        f"{torch.get_num_threads()} threads, {rounds} rounds"
    )
    print(f"{'tokens per second':<24}{'puna':>10}{'transformers':>14}{'ratio':>8} (spread)")
    for name in SHAPES:
        wanted = arguments.only or (name if name != "1B" or not arguments.quick else None)
        if wanted != name:
            continue
        tokens = 16 if name == "1B" else 48
        for row in compare_inference(name, dtype, rounds, tokens):
            print(row.line(), flush=True)
    if arguments.only in (None, "training"):
        print(compare_training(dtype, rounds).line(), flush=True)


if __name__ == "__main__":
    main()
