"""Parsing answers: tokens per second, whole and one by one, beside decoding alone and Meta's.

Decoding alone is the limit: every server that streams text pays it for each token. Meta's own
parser (`pip install llama-models`) takes whole answers only; it is left out where it is not
installed. Sides alternate within each round; the result is the median of the rounds.
Run: python bench/parser.py [--quick] [--tokenizer TOKENIZER.MODEL]
"""

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.chat.format import ChatFormat
from puna.device import machine
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.specials import END_OF_MESSAGE, END_OF_TURN, PYTHON_TAG
from puna.tokenizer.stream import StreamDecoder

TESTDATA = Path(os.environ.get("PUNA_TESTDATA", Path(__file__).parents[2] / "shared" / "testdata"))
LLAMA_3 = TESTDATA / "tokenizers" / "llama3" / "tokenizer.model"

WRITE_FILE = {"type": "function", "function": {"name": "write_file"}}
TOOLS: list[Any] = [WRITE_FILE, "brave_search", "code_interpreter"]

_SENTENCE = (
    "Rain falls on the hills (about 900 mm a year), and the river carries it {slowly} to the sea; "
    "see [1].\n"
)
_CODE = "for row in range(10):\n    print(row, [row ** 2 for row in range(row)])\n"
_ARGUMENTS = {"path": "notes/rain.md", "text": _SENTENCE * 20, "tags": ["rain", "hills"]}


def answers(tok: Tokenizer) -> Mapping[str, list[int]]:
    """Return the ids of one answer of each kind."""
    tag, eom, eot = (tok.specials[name] for name in (PYTHON_TAG, END_OF_MESSAGE, END_OF_TURN))
    call = json.dumps({"name": "write_file", "parameters": _ARGUMENTS})
    return {
        "prose": [*tok.encode(_SENTENCE * 40), eot],
        "a short call": [tag, *tok.encode('brave_search.call(query="gold price today")'), eom],
        "a JSON call": [*tok.encode(call), eot],
        "code": [tag, *tok.encode(_CODE * 20), eom],
    }


def puna_whole(chat: ChatFormat, ids: Sequence[int]) -> None:
    """Parse an answer that is finished."""
    parser = chat.parser(TOOLS)
    parser.feed(ids)
    parser.finish()


def puna_one_by_one(chat: ChatFormat, ids: Sequence[int]) -> None:
    """Parse an answer while it is generated, and make the events of a stream."""
    parser = chat.parser(TOOLS)
    for token in ids:
        parser.read((token,))
    parser.close()
    parser.finish()


def decoding_alone(chat: ChatFormat, ids: Sequence[int]) -> None:
    """Turn each token into text, and nothing more."""
    decoder = StreamDecoder(chat.tok)
    for token in ids:
        decoder.feed(token)


def meta_parser(path: Path) -> Callable[[ChatFormat, Sequence[int]], None] | None:
    """Return Meta's own parser of whole answers, where it is installed."""
    if not path.is_file() or importlib.util.find_spec("llama_models") is None:
        return None
    from llama_models.datatypes import StopReason
    from llama_models.llama3.chat_format import ChatFormat as MetaFormat
    from llama_models.llama3.tokenizer import Tokenizer as MetaTokenizer

    theirs = MetaFormat(MetaTokenizer(path))
    reasons = {
        theirs.tokenizer.special_tokens[END_OF_TURN]: StopReason.end_of_turn,
        theirs.tokenizer.special_tokens[END_OF_MESSAGE]: StopReason.end_of_message,
    }

    def parse(_: ChatFormat, ids: Sequence[int]) -> None:
        theirs.decode_assistant_message(list(ids), reasons[ids[-1]])

    return parse


def measure(
    sides: Mapping[str, Callable[[ChatFormat, Sequence[int]], None]],
    chat: ChatFormat,
    ids: Sequence[int],
    *,
    rounds: int,
    tokens: int,
) -> dict[str, float]:
    """Return the median tokens per second of every side; they take turns in each round."""
    repeats = max(1, tokens // len(ids))
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            for _ in range(repeats):
                sides[name](chat, ids)
            speeds[name].append(repeats * len(ids) / (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in speeds.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--tokenizer", type=Path, default=LLAMA_3, help="a tokenizer.model file")
    arguments = parser.parse_args()
    is_real = arguments.tokenizer.is_file()
    tok = (
        load_tokenizer_file(arguments.tokenizer)
        if is_real
        else RankTokenizer([bytes([value]) for value in range(256)])
    )
    chat = ChatFormat(tok, "meta")
    sides = {
        "puna, whole": puna_whole,
        "puna, one by one": puna_one_by_one,
        "decoding alone": decoding_alone,
    }
    theirs = meta_parser(arguments.tokenizer)
    if theirs is not None:
        sides["Meta's, whole"] = theirs
    facts = machine()
    print(f"{facts.processor}, {facts.cores} cores; one thread")
    print(f"{tok.vocab:,} ids" + ("" if is_real else ", single bytes: no tokenizer file was found"))
    print(f"{'tokens per second':<24}" + "".join(f"{name:>18}" for name in sides))
    for name, ids in answers(tok).items():
        rounds, tokens = (3, 5_000) if arguments.quick else (9, 20_000)
        speeds = measure(sides, chat, ids, rounds=rounds, tokens=tokens)
        columns = "".join(f"{speeds[side]:>18,.0f}" for side in sides)
        print(f"{f'{name} ({len(ids):,})':<24}{columns}", flush=True)


if __name__ == "__main__":
    main()
