"""`puna inspect`: what a model is, and where each fact about it was found."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from puna.cli.options import AsJson

if TYPE_CHECKING:
    from puna.checkpoint.inspect import Inspection


def inspect(
    model: str,
    /,
    *,
    tokenizer: Path | None = None,
    json_: AsJson = False,
) -> None:
    """Show a model's shape, parameters, memory, tokenizer and chat format, and where each is from.

    Only headers are read, so a model of any size answers at once.

    For example:
      puna inspect runs/cria
      puna inspect llama-3.1-8b.gguf --json

    Args:
        model: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file.
        tokenizer: The tokenizer's file, for weights that come without one.
        json_: Print one JSON object.
    """
    from puna.checkpoint.inspect import inspect_checkpoint
    from puna.checkpoint.open import open_checkpoint
    from puna.checkpoint.tokenizers import check_tokenizer, load_tokenizer
    from puna.llm import chat_style

    checkpoint = open_checkpoint(model)
    tok = checkpoint.tokenizer() if tokenizer is None else load_tokenizer(tokenizer)
    if tok is not None:
        check_tokenizer(tok, checkpoint)
    facts = inspect_checkpoint(checkpoint, tok)
    style = chat_style(checkpoint, tok)
    chat = "none" if style.dialect is None else style.dialect
    if "{" in chat:
        chat = "the model's own template"
    if json_:
        table = dataclasses.asdict(facts)
        print(json.dumps(table | {"chat_format": chat, "chat_source": style.source}, indent=2))
    else:
        print("\n".join(lines(facts, chat, style.source)))


def lines(facts: "Inspection", chat: str, chat_source: str) -> list[str]:
    """Return the page: a name, the fact, and in brackets where it stands."""
    config, sources = facts.config, facts.sources
    scaling = config.rope_scaling
    rope = f"theta {config.rope_theta:,.0f}"
    if scaling is not None:
        rope += (
            f", scaled x{scaling.factor:g} from {scaling.original_context:,} positions "
            f"(low {scaling.low_freq_factor:g}, high {scaling.high_freq_factor:g})"
        )
    rope_source = sources.get("rope_scaling", sources["config"])
    cache = facts.cache_bytes_per_token
    heads = f"{config.heads} query and {config.kv_heads} key/value, {config.head_width} wide"
    dtypes = ", ".join(f"{name} {count:,}" for name, count in facts.dtypes.items())
    tokenizer = "none"
    if facts.tokenizer is not None:
        tokenizer = f"{facts.tokenizer}, {facts.tokenizer_vocab:,} ids"
    rows = [
        ("path", facts.path, None),
        ("format", facts.kind, None),
        ("member", ", ".join(facts.members) or "none of the released sizes", None),
        ("shape", f"{config.layers} layers of width {config.width}", sources["config"]),
        ("heads", heads, None),
        ("mlp width", f"{config.mlp_width:,}", None),
        ("vocabulary", f"{config.vocab:,} ({'tied' if config.tied else 'own'} head)", None),
        ("context", f"{config.context:,} tokens", sources.get("context", sources["config"])),
        ("rope", rope, rope_source),
        ("parameters", f"{facts.parameters:,}", None),
        ("weights", f"{facts.weight_bytes:,} bytes", sources["weights"]),
        ("numbers", dtypes, None),
        ("kv cache", f"{cache:,} bytes a token, {cache * config.context:,} full (16 bit)", None),
        ("tokenizer", tokenizer, sources.get("tokenizer")),
        ("chat format", chat, chat_source),
        ("stop ids", ", ".join(map(str, facts.stop_ids)) or "none", sources.get("stop_ids")),
    ]
    return [
        f"{name:<12} {value}" + (f"  [{source}]" if source else "") for name, value, source in rows
    ]
