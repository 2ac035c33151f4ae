"""Fuzz the parser of answers: no exception, declared tools only, pieces equal the whole.

Inputs are real calls in every form, mutated and spliced, and random ids. Where atheris is
installed, `--coverage` lets it choose the mutations that reach new lines of `puna.chat`; without it
every input comes from its own number, so that a failure can be repeated with `--first N`.

Run: python -m tests.chat.fuzz [--inputs 1000000] [--first 0] [--coverage]
"""

import argparse
import sys
import time
from random import Random


def fuzz(first: int, inputs: int) -> None:
    """Parse `inputs` answers and print how many a second."""
    from tests.chat import answers

    began = time.perf_counter()
    tokens = calls = 0
    for number in range(first, first + inputs):
        random = Random(number)
        ids = answers.answer(random)
        which = random.randrange(len(answers.TOOLS))
        cut = list(answers.pieces(ids, random))
        try:
            calls += answers.require_sound(ids, which, cut)
        except BaseException:
            print(f"input {number}: {ids}, tools {which}, pieces {cut}", file=sys.stderr)
            raise
        tokens += len(ids)
        done = number - first + 1
        if done % 50_000 == 0 or done == inputs:
            seconds = time.perf_counter() - began
            print(
                f"{done:,} inputs, {tokens:,} tokens, {calls:,} calls, "
                f"{done / seconds:,.0f} inputs per second, no failure",
                flush=True,
            )


def fuzz_with_coverage(inputs: int) -> None:
    """Let atheris look for inputs that reach new lines; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["puna.chat"]):  # they are watched from here on
        from tests.chat import answers

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if not data or random.randrange(10) == 0:
            text = answers.call_text(random)
        else:
            text = answers.mutated(data.decode("utf-8", "replace"), random)
        return text.encode("utf-8", "replace")[:longest]

    def check(data: bytes) -> None:
        ids = answers.encoded(data[2:].decode("utf-8", "replace"))
        which = sum(data[:1]) % len(answers.TOOLS)
        size = sum(data[1:2]) % 16 + 1

        cut = [ids[start : start + size] for start in range(0, len(ids), size)]
        answers.require_sound(ids, which, cut)

    atheris.Setup([sys.argv[0], f"-runs={inputs}"], check, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--coverage", action="store_true", help="let atheris guide the mutations")
    arguments = parser.parse_args()
    if arguments.coverage:
        fuzz_with_coverage(arguments.inputs)
    else:
        fuzz(arguments.first, arguments.inputs)


if __name__ == "__main__":
    main()
