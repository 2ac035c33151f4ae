"""The table that `puna quantize` ends with: what rounding cost and what it gave.

A list in the facts holds a number before and one after. What a number does not say by itself
stands below the table in a sentence.
"""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puna.checkpoint.quantize import Sizes
    from puna.cli.rows_of_text import Text
    from puna.llm import LLM

_SPEED_TOKENS, _SPEED_ROUNDS = 32, 3
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("bytes", 1))
_ALL = 0.99  # of the weights; norms are the rest
_FOREIGN = 100.0  # a perplexity that no model has on text of the kind that it was trained on


def table(sizes: "Sizes", before: "LLM", after: "LLM", rows: "Text | None") -> dict[str, Any]:
    """Measure size and speed, and on text how far the answers part."""
    facts: dict[str, Any] = {
        "bytes": [sizes.source_bytes, sizes.target_bytes],
        "bits_per_weight": [sizes.source_bits, sizes.target_bits],
        "bits_per_rounded_weight": sizes.matrix_bits,
        "rounded_share": sizes.rounded_share,
        "tokens_per_s": list(_speeds(before, after)),
        "device": next(before.model.parameters()).device.type,
    }
    if rows is None:
        return facts
    from puna.quant.measure import compare

    found = compare(before.model, after.model, rows.measured, rows.marked)
    return facts | {
        "perplexity": [found.original, found.rounded],
        "kl_divergence_nats": found.divergence,
        "same_likeliest_token": found.agreement,
        "text": rows.source,
        "measured_tokens": found.tokens,
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """Return the table, a fact a line, and what is to be said of it."""
    size, bits, speed = facts["bytes"], facts["bits_per_weight"], facts["tokens_per_s"]
    unit, of = next(pair for pair in _UNITS if size[0] >= pair[1])
    inner, share = facts["bits_per_rounded_weight"], facts["rounded_share"]
    rows = [
        ("", "before", "after", ""),
        (f"weights, {unit}", *(f"{each / of:,.2f}" for each in size), f"{size[1] / size[0]:.0%}"),
        ("bits a weight", *(f"{each:.2f}" for each in bits), "all weights and scales"),
        ("  where rounded", "", f"{inner:.2f}", f"{share:.0%} of the weights"),
    ]
    if "perplexity" in facts:
        loss = facts["perplexity"]
        rows += [
            ("perplexity", *map(_four_digits, loss), f"{loss[1] / loss[0] - 1:+.2%}"),
            ("KL divergence", "", f"{facts['kl_divergence_nats']:.5f}", "nats a token"),
            ("same likeliest", "", f"{facts['same_likeliest_token']:.1%}", "of tokens"),
        ]
    rows += [
        ("tokens/s", *map(_four_digits, speed), f"{speed[1] / speed[0]:.2f}x, one answer at a time")
    ]
    table = [f"{name:<16}{old:>12}{new:>12}  {note}".rstrip() for name, old, new, note in rows]
    return [f"{facts['target']}: {facts['scheme']}, {facts['method']}", *table, *_remarks(facts)]


def _remarks(facts: dict[str, Any]) -> list[str]:
    """Say what a person could misread."""
    said = []
    if facts["scheme"] == "fp8" and facts["device"] == "cpu":
        said.append("fp8 is meant for GPUs: a CPU emulates it exactly, and slowly.")
    if facts["rounded_share"] < _ALL:
        said.append("What is not rounded, such as the embedding, stays as it was stored.")
    if "perplexity" not in facts:
        return [*said, "Without a tokenizer (--tokenizer FILE) what it cost could not be measured."]
    before, after = facts["perplexity"]
    if before > _FOREIGN:
        said.append("This text is foreign to the model; give text that it should know with --text.")
    elif after < before:
        said.append("A perplexity that fell is chance; the KL divergence counts every change.")
    return [*said, f"Measured on {facts['measured_tokens']:,} tokens: {facts['text']}."]


def _four_digits(number: float) -> str:
    """Write a number to four digits: more of them would be chance."""
    whole = len(str(int(number)))
    return f"{number:,.{max(0, 4 - whole)}f}"


def _speeds(before: "LLM", after: "LLM") -> tuple[float, float]:
    """Return tokens per second of both at batch 1, the best of interleaved rounds."""
    best = [0.0, 0.0]
    prompt = [0]
    for _ in range(_SPEED_ROUNDS):
        for number, llm in enumerate((before, after)):
            count = min(_SPEED_TOKENS, llm.model.config.context - 2)
            began = time.perf_counter()
            llm.generate(prompt, max_tokens=count, temperature=0.0, ignore_eos=True)
            best[number] = max(best[number], count / (time.perf_counter() - began))
    return best[0], best[1]
