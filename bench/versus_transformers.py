"""Decode, prefill and training beside transformers, on the same random weights, in one run.

The two sides alternate within each round, because a machine's memory bandwidth changes within
seconds; the result is the median of the ratios of the rounds. The read bandwidth and the matrix
peak are measured in the same rounds. puna's side is what a user gets by default: `generate_ids`, on
which `puna.load` stands, and the gradients of `puna raise`. That of transformers is its model in a
loop of ours, which does less than its `generate`.
Run: python bench/versus_transformers.py [--quick] [--only 1B]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import puna
from puna.checkpoint.names import places
from puna.data.loader import Loader
from puna.data.shards import Piece, TokenStream, write_shards
from puna.device import machine, measure_matrix_peak, measure_read_bandwidth, pick_dtype
from puna.infer.generate import generate_ids
from puna.infer.sampling import SamplingConfig
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.ops import native
from puna.train.loop import Job, TrainConfig, accumulate_gradients, precision

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


def write_ours(model: Llama, prompt: torch.Tensor, tokens: int) -> list[int]:
    """Write tokens greedily after a prompt, ignoring the end of text."""
    greedy = SamplingConfig(temperature=0.0)
    (row,) = generate_ids(model, prompt.tolist(), max_tokens=tokens, sampling=greedy)
    return list(row.ids)


def write_theirs(model: Any, prompt: torch.Tensor, tokens: int) -> list[int]:
    """The same with transformers."""
    cache, ids = DynamicCache(), prompt
    written = []
    for _ in range(tokens):
        out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        ids = out.logits[:, -1].argmax(-1)[:, None]
        written.append(int(ids))
    return written


def compare(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    rounds: int,
    tokens: int,
    limit: Callable[[], float],
    limited_by: str,
) -> Row:
    """Time both sides in turn, the first of each round changing, and the machine beside them."""
    sides, speeds, limits = (ours, theirs), ([], []), []
    for number in range(rounds):
        limits.append(limit())
        for side in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            sides[side]()
            speeds[side].append(tokens / (time.perf_counter() - began))
    return Row(
        name=name,
        ours=speeds[0],
        theirs=speeds[1],
        limit=statistics.median(limits),
        limited_by=limited_by,
    )


def compare_inference(name: str, dtype: torch.dtype, rounds: int, tokens: int) -> Iterator[Row]:
    """Decode at batch 1 and prefill 512 tokens."""
    config = SHAPES[name]
    ours, theirs = twins(config, dtype)
    width = ours.embed.weight.element_size()
    with torch.no_grad():
        prompt = tokens_of(config, 64)
        mine, other = write_ours(ours, prompt, 5), write_theirs(theirs, prompt, 5)
        # In bfloat16 sums that are rounded in another order may choose another token.
        assert dtype != torch.float32 or mine == other, (mine, other)
        first = prompt[:, :1]
        yield compare(
            f"{name} decode",
            lambda: write_ours(ours, first, tokens),
            lambda: write_theirs(theirs, first, tokens),
            rounds=rounds,
            tokens=tokens,
            limit=lambda: measure_read_bandwidth() / (config.parameters * width),
            limited_by="read bandwidth",
        )
        long = tokens_of(config, 512)
        flops = config.forward_flops_per_token(256) - 2 * config.vocab * config.width
        yield compare(
            f"{name} prefill 512",
            lambda: write_ours(ours, long, 1),
            lambda: write_theirs(theirs, long, 1),
            rounds=rounds,
            tokens=512,
            limit=lambda: measure_matrix_peak(dtype) / flops,
            limited_by="matrix peak",
        )


def compare_training(dtype: torch.dtype, rounds: int, folder: Path) -> Row:
    """Forward and backward of 512 tokens times 8."""
    config = TRAINED
    ours, theirs = twins(config, torch.float32)
    ours.train().requires_grad_(True)
    theirs.train().requires_grad_(True)
    name = str(dtype).removeprefix("torch.")
    write_shards([Piece(ids=tokens_of(config, 8192)[0].tolist())], folder, vocab=config.vocab)
    job = Job(
        title="bench",
        model=ours,
        loader=Loader(TokenStream(folder), sequence=512, batch=8, seed=0),
        config=TrainConfig(steps=1, batch=8, sequence=512, dtype=name),
        folder=folder,
        metrics=folder,
        identity="",
    )
    batch = job.loader.batch(0)

    def step_ours() -> float:
        loss = accumulate_gradients(job, batch)
        ours.zero_grad(set_to_none=True)
        return loss

    def step_theirs() -> float:
        with precision(name, torch.device("cpu")):
            loss = theirs(batch.ids, labels=batch.ids, use_cache=False).loss
        loss.backward()
        theirs.zero_grad(set_to_none=True)
        return float(loss.detach())

    mine, other = step_ours(), step_theirs()
    assert abs(mine - other) < 0.02, (mine, other)  # theirs has no target at the end of a row
    return compare(
        "15M training 512 x 8",
        step_ours,
        step_theirs,
        rounds=rounds,
        tokens=4096,
        limit=lambda: measure_matrix_peak(dtype) / (3 * config.forward_flops_per_token(256)),
        limited_by="matrix peak",
    )


def tokens_of(config: ModelConfig, count: int) -> torch.Tensor:
    """Return a row of random tokens, always the same."""
    return torch.randint(config.vocab, (1, count), generator=torch.Generator().manual_seed(count))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds; 1B only if asked for")
    parser.add_argument("--only", choices=[*SHAPES, "training"])
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 7
    facts, dtype = machine(), pick_dtype("auto")
    print(f"{facts.processor}, {facts.cores} cores, {' '.join(facts.features)}")
    print(
        f"puna {puna.__version__} ({native.level() or 'torch'}), torch {facts.torch}, transformers "
        f"{transformers.__version__}, {dtype}, {torch.get_num_threads()} threads, {rounds} rounds"
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
        with tempfile.TemporaryDirectory() as folder:
            row = compare_training(dtype, rounds, Path(folder) / "tokens")
        print(row.line(), flush=True)


if __name__ == "__main__":
    main()
