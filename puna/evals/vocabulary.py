"""Words in the eight languages of Llama 3.1: numbers, countries, languages, months, days.

Names come from the Unicode CLDR through babel, number words from `puna.data.number_words`. Number
words follow rules, so held-out numbers test whether the rule was learnt; a name cannot be derived,
so names are taught, and tested in a phrasing that training never used.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from puna.errors import ExtraError
from puna.evals.sums import HeldOut

# Llama 3.1's eight supported languages. Source: The Llama 3 Herd of Models, section 1.
LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "hi": "Hindi",
    "es": "Spanish",
    "th": "Thai",
}

# Countries whose names are taught: those where the eight languages are spoken most, and neighbours.
TERRITORIES = ("DE", "FR", "IT", "PT", "IN", "ES", "TH", "GB", "US", "BR", "MX", "CH", "AT", "JP")

LARGEST_NUMBER = 99  # number words are taught and tested from 0 to here

# "{word}" is what is asked about and "{language}" the language of the answer.
TRAINING_PHRASES = (
    "How do you say '{word}' in {language}?",
    "What is '{word}' in {language}?",
    "Translate '{word}' into {language}.",
)
UNSEEN_PHRASES = ("Please tell me '{word}' in {language}.",)
TRAINING_REVERSE_PHRASES = (
    "What does '{word}' mean in English?",
    "How do you say '{word}' in English?",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """The same thing in English and in another language."""

    kind: str  # "country", "language", "month", "day"
    english: str
    language: str  # code
    foreign: str


def names() -> Iterator[Translation]:
    """Yield every name that is taught, in seven languages, in a fixed order."""
    try:
        from babel import Locale
    except ImportError as error:
        raise ExtraError("names need the extra `seed`: pip install 'puna[seed]'.") from error
    english = Locale("en")
    for language in LANGUAGES:
        if language == "en":
            continue
        there = Locale(language)
        pairs = [
            *(("country", english.territories[t], there.territories[t]) for t in TERRITORIES),
            *(("language", english.languages[c], there.languages[c]) for c in LANGUAGES),
            *(("month", *_wide(english, there, "months", m)) for m in range(1, 13)),
            *(("day", *_wide(english, there, "days", d)) for d in range(7)),
        ]
        for kind, word, foreign in pairs:
            yield Translation(kind=kind, english=word, language=language, foreign=foreign)


def draw_word_number(rng: random.Random, held_out: HeldOut) -> int:
    """Draw a number to teach the word of; small ones come often, as rules are built on them."""
    while True:
        number = rng.randint(0, LARGEST_NUMBER if rng.random() < 0.85 else 20)
        if not held_out(number):
            return number


def draw_held_out_numbers(rng: random.Random, held_out: HeldOut, count: int) -> list[int]:
    """Draw different numbers whose words are never taught, `count` or as many as there are."""
    kept = [number for number in range(LARGEST_NUMBER + 1) if held_out(number)]
    return rng.sample(kept, min(count, len(kept)))


def same_word(answer: str, expected: str) -> bool:
    """Whether an answer is the expected word, whatever its case, quotes and full stop."""
    strip = " \n\t.!'\"'“”«»"
    return answer.strip(strip).casefold() == expected.strip(strip).casefold()


def _wide(english: object, there: object, group: str, index: int) -> tuple[str, str]:
    """Return one month or day in both languages, in the form that stands alone."""
    forms = [getattr(locale, group)["stand-alone"]["wide"][index] for locale in (english, there)]
    return forms[0], forms[1]
