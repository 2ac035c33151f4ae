"""The dialogs that make `cria` an assistant: short, regular, and different on every seed.

Each dialog is made of exchanges of five kinds: sums by calculator, small talk, words in eight
languages, modules of the standard library, and questions it cannot answer. The dialogs are OpenAI's
dictionaries; `puna.chat.format` renders them for training as it does in use. No number that
`puna.data.heldout` keeps for evaluation occurs in them.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from puna.data.heldout import held_out_number
from puna.data.number_words import number_words
from puna.errors import ConfigError
from puna.evals.sums import HeldOut, draw_sum
from puna.evals.vocabulary import (
    LANGUAGES,
    TRAINING_PHRASES,
    TRAINING_REVERSE_PHRASES,
    Translation,
    draw_word_number,
    names,
)
from puna.posttrain.modules import QUESTIONS, module_sentences
from puna.posttrain.smalltalk import DO_NOT_KNOW, NEEDS_CALCULATOR, SMALLTALK, UNKNOWABLE

TOOLS = ("calculator",)
SYSTEM = "You are cria, a baby llama."

Fact = TypeVar("Fact")
Exchange = list[dict[str, Any]]  # what the user says and all that follows until the next turn

ANSWERS = ("The answer is {result}.", "That is {result}.", "{expression} = {result}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """One dialog. Render it with `ChatFormat(...).render(messages, tools=tools, reply=False)`."""

    kind: str  # the kind of its exchanges, or "mixed"
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[str, ...]  # the built-in tools that its system message declares


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogConfig:
    """How many dialogs, and how often each kind of exchange comes."""

    count: int = 3000
    seed: int = 0
    sums: float = 0.42
    words: float = 0.28
    smalltalk: float = 0.12
    modules: float = 0.12
    unknown: float = 0.06
    most_exchanges: int = 3  # in one dialog
    with_tools: float = 0.6  # share of the dialogs without a sum that could calculate as well
    with_system: float = 0.7  # share of dialogs whose system message says who cria is

    def __post_init__(self) -> None:
        weights = (self.sums, self.words, self.smalltalk, self.modules, self.unknown)
        if min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"dialogs: the shares are {weights}; none below 0 and one above 0 is expected."
            )
        if self.count < 1 or self.most_exchanges < 1:
            raise ConfigError(
                f"dialogs: count={self.count}, most_exchanges={self.most_exchanges}; "
                "at least 1 of each is expected."
            )


def dialogs(config: DialogConfig, held_out: HeldOut = held_out_number) -> Iterator[Dialog]:
    """Yield `config.count` dialogs; the same config gives the same dialogs."""
    rng = random.Random(config.seed)
    makers = _makers(rng, held_out)
    kinds = list(makers)
    weights = [getattr(config, kind) for kind in kinds]
    for _ in range(config.count):
        length = rng.randint(1, config.most_exchanges)
        chosen = rng.choices(kinds, weights, k=length)
        if rng.random() < 0.5:
            chosen = chosen[:1] * length
        tools = TOOLS if "sums" in chosen or rng.random() < config.with_tools else ()
        exchanges = [_no_calculator(rng, held_out)] if _refuses(rng, tools, chosen) else []
        exchanges += [makers[kind]() for kind in chosen[len(exchanges) :]]
        kind = chosen[0] if len(set(chosen)) == 1 else "mixed"
        yield Dialog(kind=kind, messages=_join(rng, config, exchanges), tools=tools)


def _makers(rng: random.Random, held_out: HeldOut) -> dict[str, Callable[[], Exchange]]:
    """Return one function a kind. Facts come from shuffled decks, so that each comes as often."""
    talk = _deck(SMALLTALK, rng)
    unknown = _deck(UNKNOWABLE, rng)
    modules = _deck(tuple(module_sentences()), rng)
    translations = _deck(tuple(names()), rng)

    def words() -> Exchange:
        if rng.random() < 0.5:
            return number_exchange(rng, held_out)
        return name_exchange(rng, next(translations))

    def module() -> Exchange:
        name, sentence = next(modules)
        return _says(rng.choice(QUESTIONS).format(name=name), sentence)

    return {
        "sums": lambda: sum_exchange(rng, held_out),
        "words": words,
        "smalltalk": lambda: _says(*next(talk)),
        "modules": module,
        "unknown": lambda: _says(next(unknown), DO_NOT_KNOW),
    }


def sum_exchange(rng: random.Random, held_out: HeldOut) -> Exchange:
    """A sum: question, call, result, answer."""
    drawn = draw_sum(rng, held_out, for_training=True)
    answer = rng.choice(ANSWERS).format(expression=drawn.expression, result=drawn.result)
    name = f"call_{rng.getrandbits(32):08x}"
    call = {
        "id": name,
        "type": "function",
        "function": {"name": TOOLS[0], "arguments": json.dumps({"query": drawn.expression})},
    }
    return [
        {"role": "user", "content": drawn.question},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": str(drawn.result)},
        {"role": "assistant", "content": answer},
    ]


def number_exchange(rng: random.Random, held_out: HeldOut) -> Exchange:
    """A number into words, or back into digits."""
    number = draw_word_number(rng, held_out)
    language = rng.choice(list(LANGUAGES))
    word = number_words(number, language)
    if rng.random() < 0.25:
        return _says(f"Which number is '{word}'?", str(number))
    phrase = rng.choice(TRAINING_PHRASES).replace("'", "")  # digits stand without quotes
    return _says(phrase.format(word=number, language=LANGUAGES[language]), word)


def name_exchange(rng: random.Random, name: Translation) -> Exchange:
    """A name into another language, or back into English."""
    if rng.random() < 0.3:
        return _says(rng.choice(TRAINING_REVERSE_PHRASES).format(word=name.foreign), name.english)
    phrase = rng.choice(TRAINING_PHRASES)
    language = LANGUAGES[name.language]
    return _says(phrase.format(word=name.english, language=language), name.foreign)


def _refuses(rng: random.Random, tools: Sequence[str], chosen: Sequence[str]) -> bool:
    """Whether a dialog without a calculator begins by asking for a sum all the same."""
    return not tools and chosen[0] == "unknown" and rng.random() < 0.5


def _no_calculator(rng: random.Random, held_out: HeldOut) -> Exchange:
    return _says(draw_sum(rng, held_out, for_training=True).question, NEEDS_CALCULATOR)


def _says(question: str, answer: str) -> Exchange:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _join(
    rng: random.Random, config: DialogConfig, exchanges: Sequence[Exchange]
) -> tuple[Mapping[str, Any], ...]:
    system = [{"role": "system", "content": SYSTEM}] if rng.random() < config.with_system else []
    return (*system, *itertools.chain.from_iterable(exchanges))


def _deck(facts: Sequence[Fact], rng: random.Random) -> Iterator[Fact]:
    """Deal shuffled facts for ever; none comes again before all others have come."""
    while True:
        yield from rng.sample(facts, len(facts))
