"""Text in eight languages: right words, every language, no reserved number in training."""

import re

import pytest

from puna.data.heldout import held_out_number
from puna.data.languages import PHRASES, language_document
from puna.data.number_words import LANGUAGES, number_words
from puna.errors import RequestError


@pytest.mark.parametrize(
    ("language", "n", "words"),
    [
        ("en", 42, "forty-two"),
        ("de", 21, "einundzwanzig"),
        ("fr", 71, "soixante et onze"),
        ("it", 100, "cento"),
        ("pt", 16, "dezesseis"),  # Brazilian, as CLDR's pt
        ("es", 22, "veintidós"),
        ("th", 21, "ยี่สิบเอ็ด"),
        ("hi", 0, "शून्य"),
        ("hi", 25, "पच्चीस"),
        ("hi", 99, "निन्यानवे"),
        ("hi", 342, "तीन सौ बयालीस"),
        ("hi", 2021, "दो हज़ार इक्कीस"),
        ("hi", 100_000, "एक लाख"),
    ],
)
def test_numbers_are_spelled_as_people_do(language: str, n: int, words: str) -> None:
    assert number_words(n, language) == words


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_numbers_have_different_words(language: str) -> None:
    assert len({number_words(n, language) for n in range(1_000)}) == 1_000


def test_an_unknown_language_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="en, de, fr, it, pt, hi, es, th"):
        number_words(3, "nl")


def test_the_languages_take_turns() -> None:
    assert {language_document(i, seed=0).language for i in range(8)} == set(LANGUAGES)
    assert set(PHRASES) == set(LANGUAGES)


def test_number_words_of_training_avoid_the_reserved_numbers() -> None:
    spelled = re.compile(r"^(?:(\d+) = |.*: (\d+)$)")
    seen = 0
    for index in range(300):
        for line in language_document(index, seed=0).text.splitlines():
            match = spelled.match(line)
            if match and "|" not in line:
                seen += 1
                assert not held_out_number(int(match[1] or match[2])), line
    assert seen > 100


def test_number_words_of_the_held_out_side_use_reserved_numbers_alone() -> None:
    seen = 0
    for index in range(100):
        for line in language_document(index, seed=0, held_out=True).text.splitlines():
            if match := re.match(r"^(\d+) = ", line):
                seen += 1
                assert held_out_number(int(match[1])), line
    assert seen > 20


def test_no_pattern_or_unit_key_is_left_in_the_text() -> None:
    for index in range(160):
        text = language_document(index, seed=2).text
        assert not re.search(r"[{}]|\b(?:duration|length|digital)-", text), text
        assert "\u202f" not in text and "\xa0" not in text


def test_a_document_depends_on_its_number_and_seed_alone() -> None:
    assert language_document(5, seed=0) == language_document(5, seed=0)
    assert language_document(5, seed=0).text != language_document(5, seed=1).text
