"""`puna convert`: a model in another format."""

from pathlib import Path
from typing import Literal


def convert(
    source: str,
    target: Path,
    /,
    *,
    to: Literal["hf", "meta", "gguf", "llama2c"],
    verify: bool = False,
    dtype: Literal["float32", "float16", "bfloat16", "q8_0", "q4_0"] | None = None,
    shards: int = 1,
    tokenizer: Path | None = None,
) -> None:
    """Write a model in another format; the target stands whole or not at all.

    For example:
      puna convert Meta-Llama-3.1-8B/ llama-hf --to hf --verify
      puna convert runs/cria cria.gguf --to gguf --dtype q8_0
      puna convert llama-hf llama-meta --to meta --shards 8

    Args:
        source: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file.
        target: The new folder (hf, meta) or file (gguf, llama2c); it must not exist.
        to: The format to write.
        verify: Compare the logits of both and fail where rounding does not explain the difference.
        dtype: Of the written weights; without it each keeps its own. q8_0 and q4_0 are for gguf.
        shards: Files of a Meta folder, one for each device.
        tokenizer: The tokenizer's file, for weights that come without one.
    """
    from puna.checkpoint.convert import convert as run

    done = run(source, target, to, verify=verify, dtype=dtype, shards=shards, tokenizer=tokenizer)
    print(f"{done.target}: {done.written_bytes:,} bytes")
    if done.vocabulary is not None:
        print(f"{done.vocabulary}: {done.vocabulary.stat().st_size:,} bytes, the tokenizer")
    if (proof := done.proof) is not None:
        print(f"largest logit difference: {proof.difference:.3g}")
        print(f"of it not rounding: {proof.unexplained:.3g} (bound {proof.bound:.3g})")
