"""`puna generate`: the continuation of a text on stdout, exactly, and nothing else."""

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from puna.cli.options import AsJson, Sampling, Weights
from puna.cli.screen import printable

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]


def generate(
    model: str,
    /,
    *,
    prompt: Words,
    stop: Annotated[list[str] | None, Parameter(allow_leading_hyphen=True)] = None,
    ignore_eos: bool = False,
    raw: bool | None = None,
    json_: AsJson = False,
    stream: bool | None = None,
    sampling: Sampling = Sampling(),
    weights: Weights = Weights(),
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
        stop: Text that ends the answer and is left out of it; may be given several times.
        ignore_eos: Write on past the tokens that end a text.
        raw: Continue the prompt as it stands, without a chat frame.
        json_: Print one JSON object: text, ids, finish_reason, usage.
        stream: Print the text while it is written; on a terminal without being asked.
    """
    llm = weights.load(model)
    options = sampling.options() | {"stop": stop, "ignore_eos": ignore_eos}
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
