"""Documents that can only be finished by looking back: facts in running text, asked at the end.

Short ones in the first stage let a small model form the circuits that copy from the context; long
ones in the context extension teach it to look as far as the new length reaches. `puna.evals.needle`
asks in the same form. Names are paired anew in every text, so a pair that is remembered is no help.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from puna.data.document import Document
from puna.errors import ConfigError
from puna.tokenizer.interface import Tokenizer

NAMES = (
    *("Alma", "Bruno", "Clara", "Diego", "Elena", "Fabio", "Greta", "Hugo"),
    *("Ines", "Jonas", "Karin", "Lucia", "Marco", "Nadia", "Oscar", "Paula"),
    *("Ravi", "Sofia", "Tomas", "Ursula", "Victor", "Wanda", "Xenia", "Yara"),
    *("Zeno", "Anan", "Bela", "Chai", "Dara", "Emil", "Flora", "Gita"),
)

FAMILIES = (
    *("Adler", "Banks", "Castro", "Dalton", "Eriksen", "Fields", "Gomez", "Hansen"),
    *("Ito", "Jensen", "Keller", "Lopez", "Moreau", "Novak", "Olsen", "Pereira"),
    *("Quinn", "Rivers", "Sato", "Torres", "Ueda", "Vogel", "Weber", "Young"),
    *("Zhang", "Ahmed", "Brooks", "Costa", "Dupont", "Evans", "Fischer", "Greco"),
)

# The answer follows its key at once: the pattern that attention learns to copy first.
FACT = "One keeper is called {name} {family}."
QUESTION = "Keeper: {name}"

Measure = Callable[[str], int]  # the length of a text, in characters or in tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Needle:
    """One fact: the first name and the family name of somebody."""

    name: str
    family: str

    @property
    def fact(self) -> str:
        """The sentence that is hidden in the text."""
        return FACT.format(name=self.name, family=self.family)

    @property
    def question(self) -> str:
        """The question, up to where the answer begins."""
        return QUESTION.format(name=self.name)


def recall_documents(
    hay: Iterable[str],
    *,
    length: int,
    count: int,
    needles: int = 4,
    rounds: int = 1,
    measure: Measure = len,
    seed: int | str = 0,
) -> Iterator[Document]:
    """Yield `count` documents of at most `length`, each with up to `needles` facts, all asked for.

    Each has two facts or more where `needles` allows: of one alone no key needs to be compared.

    Args:
        hay: texts of any length, repeated from the start where they run out.
        length: of a whole document in the units of `measure`, BOS and EOS not counted.
        needles: facts a document at most.
        rounds: how often each is asked, fewer where the length has no room; every round has an
            order of its own.
    Raises:
        ConfigError: there is no hay, or the needles alone are too long.
    """
    rng = random.Random(f"recall {seed}")
    sentences = _sentences(hay)
    for index in range(count):
        hidden = draw_needles(rng, rng.randint(min(2, needles), needles))
        facts = [needle.fact for needle in hidden]
        for times in range(rounds, 0, -1):
            asked = [needle for _ in range(times) for needle in rng.sample(hidden, len(hidden))]
            end = "".join(f"\n{needle.question} {needle.family}" for needle in asked)
            room = length - measure(end) - sum(measure(" " + fact) for fact in facts)
            if room >= 0:
                break
        if room < 0:
            raise ConfigError(
                f"recall: {len(facts)} needles need {length - room}; the length is {length}. "
                "Ask for fewer needles or longer documents."
            )
        chosen = _fill(sentences, room, measure)
        depths = sorted(rng.random() for _ in facts)
        text = hide(chosen, facts, depths) + end
        yield Document(
            text=text,
            id=f"recall/{seed}/{length}/{index}",
            source="maths",
            language="en",
            metadata={"kind": "recall", "body": str(len(text) - len(end))},
        )


def answers_only(document: Document, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return a recall document's ids and a mask that is 1 on the names that are asked for.

    For fine-tuning: every target is to be copied from far above.
    """
    body = int(document.metadata["body"])
    ids = tokenizer.encode(document.text[:body], bos=True)
    mask = [0] * len(ids)
    for line in document.text[body:].strip().splitlines():
        question, _, family = line.rpartition(" ")
        asked, answer = tokenizer.encode("\n" + question), tokenizer.encode(" " + family)
        ids += asked + answer
        mask += [0] * len(asked) + [1] * len(answer)
    return ids, mask


def draw_needles(rng: random.Random, count: int) -> list[Needle]:
    """Draw facts about different people of different families."""
    if not 1 <= count <= len(NAMES):
        raise ConfigError(f"recall: {count} needles; 1 to {len(NAMES)} are expected.")
    names, families = rng.sample(NAMES, count), rng.sample(FAMILIES, count)
    return [Needle(name=n, family=f) for n, f in zip(names, families, strict=True)]


def hide(hay: Sequence[str], facts: Sequence[str], depths: Sequence[float]) -> str:
    """Join the sentences of `hay` with each fact at its depth, 0 at the start and 1 at the end."""
    places = [round(depth * len(hay)) for depth in depths]
    pieces: list[str] = []
    for index in range(len(hay) + 1):
        pieces += [fact for fact, place in zip(facts, places, strict=True) if place == index]
        pieces += hay[index : index + 1]
    return " ".join(pieces)


def split_sentences(text: str) -> list[str]:
    """Cut a text at line ends and full stops; spaces inside a piece are made single."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [piece for line in lines for piece in _at_stops(line) if piece]


def _at_stops(line: str) -> list[str]:
    pieces = line.split(". ")
    return [*(piece + "." for piece in pieces[:-1]), pieces[-1]]


def _sentences(hay: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of the hay for ever, from the start again after the last."""
    kept: list[str] = []
    for text in hay:
        for sentence in split_sentences(text):
            kept.append(sentence)
            yield sentence
    if not kept:
        raise ConfigError("recall: the hay holds no text; at least one sentence is expected.")
    while True:
        yield from kept


def _fill(sentences: Iterator[str], room: int, measure: Measure) -> list[str]:
    """Take sentences while they fit; the first that does not fit is cut at a word."""
    chosen: list[str] = []
    while True:
        sentence = next(sentences)
        size = measure(" " + sentence)
        if size > room:
            break
        chosen.append(sentence)
        room -= size
    part: list[str] = []
    for word in sentence.split():
        size = measure(" " + word)
        if size > room:
            break
        part.append(word)
        room -= size
    return [*chosen, " ".join(part)] if part else chosen
