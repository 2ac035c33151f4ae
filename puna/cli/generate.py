"""`puna generate`: the continuation of a text on stdout, exactly, and nothing else."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from puna.cli.screen import printable

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]


def generate(
    model: str,
    /,
    *,
    prompt: Words,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    stop: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True)] = None,
    ignore_eos: bool = False,
    raw: bool | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    dtype: str | None = None,
    kv_cache: Literal["f32", "bf16", "int8"] | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative=())] = False,
    stream: bool | None = None,
) -> None:
    """Continue a text, or answer a prompt.

    A base model continues the prompt. A model that has a chat template gets the prompt as a user's
    message; --raw continues it all the same. Stdout holds the new text, byte for byte; a newline
    is added on a terminal alone.

    For example:
      puna generate llama-3.1-8b --prompt "The capital of France is" --max-tokens 20
      puna generate runs/cria --prompt "What is 12 * 34?" --temperature 0
      puna generate stories260K.bin --tokenizer tok512.bin --prompt "" --seed 7

    Args:
        model: A run folder, a Hugging Face or Meta folder, a .gguf or a llama2.c .bin file.
        prompt: The text to continue or to answer; it may be empty.
        max_tokens: Most tokens to write; without it, what fits into the context.
        temperature: 0 takes the most likely token each time; 0.6 without it.
        top_k: Draw from the k most likely tokens.
        top_p: Draw from the likeliest tokens that together hold this mass; 0.9 without it.
        min_p: Draw from tokens at least this share as likely as the likeliest.
        repetition_penalty: Above 1, tokens that stand in the text already become less likely.
        seed: The same seed gives the same text.
        stop: Text that ends the answer and is left out of it; may be given several times.
        ignore_eos: Write on past the tokens that end a text.
        raw: Continue the prompt as it stands, without a chat frame.
        tokenizer: The tokenizer's file, for weights that come without one.
        device: auto, cpu or cuda.
        dtype: Of the weights in memory, such as float32 or bfloat16; chosen for the device.
        kv_cache: What keys and values are kept in; int8 takes half of the memory of bf16.
        json_: Print one JSON object: text, ids, finish_reason, usage.
        stream: Print the text while it is written; on a terminal without being asked.
    """
    from puna.llm import Options, load

    llm = load(model, device=device, dtype=dtype, tokenizer=tokenizer, kv_cache=kv_cache)
    given = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "seed": seed,
    }  # fmt: skip
    options = Options(max_tokens=max_tokens, stop=stop, ignore_eos=ignore_eos)
    options.update({key: value for key, value in given.items() if value is not None})  # type: ignore[typeddict-item]
    ids = llm.prompt_ids(prompt, raw=not llm.style.is_instruct if raw is None else raw)
    if (sys.stdout.isatty() if stream is None else stream) and not json_:
        for piece in llm.stream(ids, **options):
            write(piece)
    else:
        done: Any = llm.generate(ids, **options)
        write(json_of(done) if json_ else done.text)
    if sys.stdout.isatty() and not json_:
        write("\n")


def write(text: str) -> None:
    """Write text to stdout as UTF-8, whatever the locale says, and at once."""
    if sys.stdout.isatty():
        text = printable(text)
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def json_of(done: Any) -> str:
    """Return a completion as one line of JSON."""
    usage = {
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
        "total_tokens": done.usage.total_tokens,
    }
    fields = {
        "text": done.text, "ids": done.ids, "finish_reason": done.finish_reason, "usage": usage,
    }  # fmt: skip
    return json.dumps(fields, ensure_ascii=False) + "\n"
