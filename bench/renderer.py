"""Messages per second of the renderer, beside transformers' apply_chat_template, in one run.

Both sides turn the same dialog of 100 questions and 100 answers into ids, with the same vocabulary;
the ids are compared before anything is timed. "first" is a dialog whose texts were never seen,
"again" the same one a second time, and "a turn more" the dialog with one more message: what a chat
or a server renders at every turn. puna renders natively, and by the template that transformers
runs. The sides alternate within each round, because a machine's speed changes within seconds; the
result is the median of the ratios of the rounds. Run: python bench/renderer.py [--quick]
[--tokenizer FILE]
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import transformers

from puna.chat.format import ChatFormat
from puna.device import machine
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.train import train_bpe

ROOT = Path(__file__).parents[1]
TEMPLATE = (ROOT / "puna/chat/meta.jinja").read_text()
MESSAGES = 200
WORDS = 60  # of a message
Dialog = list[dict[str, str]]
Side = Callable[[Dialog], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison: seconds of both sides, round by round."""

    name: str
    ours: list[float]
    theirs: list[float]
    messages: int

    def line(self) -> str:
        """Write milliseconds, messages per second, and the median of the ratios."""
        ratios = sorted(b / a for a, b in zip(self.ours, self.theirs, strict=True))
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        return (
            f"{self.name:<24}{ours * 1e3:>9.2f}{min(self.ours) * 1e3:>7.2f}"
            f"{self.messages / ours:>12,.0f}{theirs * 1e3:>13.2f}{min(self.theirs) * 1e3:>8.2f}"
            f"{self.messages / theirs:>12,.0f}"
            f"{statistics.median(ratios):>8.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


def dialog(words: list[str], seed: int, messages: int = MESSAGES) -> Dialog:
    """Make up a dialog; another seed has other texts."""
    chance = random.Random(seed)
    return [
        {
            "role": ("user", "assistant")[number % 2],
            "content": " ".join([f"{seed}.{number}", *chance.choices(words, k=WORDS)]),
        }
        for number in range(messages)
    ]


def transformers_side(tok: Tokenizer, folder: Path) -> Side:
    """Load the same vocabulary with transformers."""
    save_tokenizer(tok, folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)

    def render(given: Dialog) -> list[int]:
        ids = theirs.apply_chat_template(
            given, chat_template=TEMPLATE, add_generation_prompt=True, return_dict=False
        )
        return list(ids)

    return render


def compare(name: str, form: ChatFormat, theirs: Side, words: list[str], rounds: int) -> list[Row]:
    """Time a dialog for the first time, again, and with a turn more."""

    def ours(given: Dialog) -> list[int]:
        return form.render(given).ids

    seconds: dict[str, tuple[list[float], list[float]]] = {
        "first": ([], []),
        "again": ([], []),
        "a turn more": ([], []),
    }
    for number in range(rounds):
        given = dialog(words, seed=random.randrange(2**40))  # seen by neither side
        longer = [*given, {"role": "user", "content": f"And {number}?"}]
        sides = [(ours, 0), (theirs, 1)]
        for work, side in sides if number % 2 else sides[::-1]:
            for case, asked in (("first", given), ("again", given), ("a turn more", longer)):
                began = time.perf_counter()
                work(asked)
                seconds[case][side].append(time.perf_counter() - began)
    return [
        Row(name=f"{name}, {case}", ours=mine, theirs=other, messages=MESSAGES)
        for case, (mine, other) in seconds.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five rounds")
    parser.add_argument("--tokenizer", help="a tokenizer file; by default one is trained here")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 15
    texts = [path.read_text() for path in sorted(ROOT.glob("puna/**/*.py"))]
    # transformers makes control tokens of texts that look like them; puna never does.
    words = [word for word in " ".join(texts).split() if "<|" not in word]
    if arguments.tokenizer:
        tok = load_tokenizer_file(Path(arguments.tokenizer))
    else:
        tok = train_bpe(texts, vocab=4096)
    native, templated = ChatFormat(tok, "meta"), ChatFormat(tok, TEMPLATE)
    with tempfile.TemporaryDirectory() as folder:
        theirs = transformers_side(tok, Path(folder))
    given = dialog(words, seed=0)
    ids = native.render(given).ids
    assert ids == templated.render(given).ids == theirs(given)
    facts = machine()
    print(f"{facts.processor}, {facts.cores} cores; transformers {transformers.__version__}")
    print(f"{MESSAGES} messages, {len(ids):,} ids, {rounds} rounds")
    print(
        f"{'':<24}{'puna ms':>9}{'best':>7}{'messages/s':>12}"
        f"{'theirs ms':>13}{'best':>8}{'messages/s':>12}{'ratio':>8} (spread)"
    )
    for name, form in (("native", native), ("template", templated)):
        for row in compare(name, form, theirs, words, rounds):
            print(row.line(), flush=True)


if __name__ == "__main__":
    main()
