"""Each filter names its reason, on the shortest text that trips that rule alone."""

import pytest

from puna.data.document import Document
from puna.data.filters import (
    FilterLimits,
    QualityLimit,
    RepetitionLimit,
    poor_code,
    poor_text,
    too_repetitive,
    too_short,
    why_not,
    wrong_language,
)
from puna.data.language import detect_language
from tests.testdata import testdata

LIMITS = FilterLimits()

# Sixty different words in sentences of a natural length, some of them stop words.
GOOD = """The harbour of the old town was quiet when the last boat came in with the evening tide.
Fishermen folded their nets and carried baskets of silver herring up to the market hall.
A child asked whether whales sleep, and an old woman said that they rest one half of their brain.
Nobody knew if that were true, but everyone wanted to believe it that night, and so they did.
"""


def general(text: str, language: str | None = "en") -> Document:
    return Document(text=text, id="x", source="general", language=language)


def code(text: str) -> Document:
    return Document(text=text, id="x", source="code")


def test_a_good_text_is_kept() -> None:
    assert why_not(general(GOOD), LIMITS) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("three\nshort\nlines", "too_short"),
        ("x" * 599, "too_short"),  # one line needs three times the characters
        ("x" * 600, None),
        ("y" * 70 + "\n" + "x" * 70 + "\n" + "z" * 70, None),
    ],
)
def test_too_little_text_is_named(text: str, reason: str | None) -> None:
    assert too_short(general(text), LIMITS) == reason


def repetitive(**kept: object) -> RepetitionLimit:
    """All limits off but those given."""
    off: dict[str, object] = {
        "duplicate_line_share": 1.0,
        "duplicate_paragraph_share": 1.0,
        "duplicate_line_chars": 1.0,
        "duplicate_paragraph_chars": 1.0,
        "top_ngram_chars": (),
        "duplicate_ngram_chars": (),
    }
    return RepetitionLimit(**(off | kept))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "limit", "reason"),
    [
        ("a b\nc d\na b\n", repetitive(duplicate_line_share=0.3), "duplicate_lines"),
        ("a b\nc d\ne f\na b\n", repetitive(duplicate_line_share=0.3), None),
        (
            "long line here\nc\nd\ne\nlong line here",
            repetitive(duplicate_line_chars=0.2),
            "duplicate_lines",
        ),
        ("p q\n\nr s\n\np q", repetitive(duplicate_paragraph_share=0.3), "duplicate_paragraphs"),
        ("a b a b c d e f", repetitive(top_ngram_chars=(0.2,)), "top_2_gram"),
        ("a b c d e f g h", repetitive(top_ngram_chars=(0.2,)), None),
        ("a b c d e a b c d e z", repetitive(duplicate_ngram_chars=(0.15,)), "duplicate_5_grams"),
        ("a b c d e a b c d z e", repetitive(duplicate_ngram_chars=(0.15,)), None),
    ],
)
def test_repetition_is_named_by_its_kind(
    text: str, limit: RepetitionLimit, reason: str | None
) -> None:
    assert too_repetitive(general(text), limit) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The cat and the dog.", "word_count"),
        (GOOD.replace(" ", " a i o u "), "mean_word_length"),
        (GOOD + "# " * 12, "symbols"),
        (GOOD + "... " * 12, "symbols"),
        ("\n".join("- " + line for line in GOOD.splitlines()), "bullet_lines"),
        (GOOD.replace(".\n", "...\n"), "ellipsis_lines"),
        (GOOD.rstrip() + " 1234" * 30 + ".", "few_letters"),
        (
            GOOD.replace("the ", "zee ")
            .replace("of ", "off ")
            .replace("and ", "ant ")
            .replace("that ", "thut ")
            .replace("with ", "wuth ")
            .replace("to ", "tu "),
            "stop_words",
        ),
        (GOOD.replace(".\n", "\n").replace("\n", " more\n"), "line_ends"),
        ("fishermans harbourman boatmaster.\n" * 20 + "The sea and that.\n", "line_breaks"),
        (GOOD + "Lorem ipsum dolor sit amet, and that is all of it.\n", "lorem_ipsum"),
        (
            "\n".join(f"{a} {b}." for a, b in zip(GOOD.split(), GOOD.split()[1:], strict=False)),
            "short_lines",
        ),
    ],
)
def test_unreadable_text_is_named_by_its_rule(text: str, reason: str) -> None:
    limit = QualityLimit(words=(40, 100_000))
    assert poor_text(general(text), limit) == reason


def test_other_languages_are_not_judged_by_english_words() -> None:
    text = GOOD.replace("the ", "der ").replace("and ", "und ").replace("of ", "von ")
    text = text.replace("that ", "dass ").replace("with ", "mit ").replace("to ", "zu ")
    assert poor_text(general(text), LIMITS.quality) == "stop_words"
    assert poor_text(general(text, "de"), LIMITS.quality) is None


CODE = "def area(width, height):\n    return width * height\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CODE, None),
        (CODE + "x = '" + "a" * 1_000 + "'\n", "long_line"),
        (
            "value = first_function(second_argument) + other\n" * 3 + "y = '" + "ab " * 150 + "'\n",
            "long_lines",
        ),
        (CODE + "#" + "=" * 90 + "\n" + "#" + "=" * 90 + "\n", "few_alphanumerics"),
        (CODE + "    0x1F, 'a', 12,  # row\n" * 5, "literals"),
    ],
)
def test_code_that_nobody_wrote_is_named(text: str, reason: str | None) -> None:
    assert poor_code(code(text), LIMITS.code) == reason


def test_each_source_has_its_own_rules() -> None:
    listing = CODE + "\n".join(f"name_{i} = compute_value(argument_{i})" for i in range(40))
    assert why_not(code(listing), LIMITS) is None
    assert why_not(general(listing), LIMITS) is not None
    sums = Document(text="1 + 1 = 2\n" * 40, id="m", source="maths")
    assert why_not(sums, LIMITS) is None


def test_reference_pages_may_repeat_phrases() -> None:
    text = "\n".join(f"Return the value of option number {w} as text." for w in GOOD.split())
    page = Document(
        text=text, id="p", source="general", language="en", metadata={"kind": "reference"}
    )
    assert why_not(page, LIMITS) is None
    assert why_not(general(text), LIMITS) is not None


def test_unwanted_and_unsure_languages_are_named() -> None:
    limits = FilterLimits(languages=("en", "de"))
    assert wrong_language(general(GOOD), 0.9, limits) is None
    assert wrong_language(general(GOOD, "fr"), 0.9, limits) == "language_unwanted"
    assert wrong_language(general(GOOD), 0.4, limits) == "language_unsure"


def test_the_eight_languages_are_told_apart() -> None:
    from puna.data.extract import article_text

    names = {
        "eng": "en",
        "deu_1996": "de",
        "fra": "fr",
        "ita": "it",
        "por_BR": "pt",
        "hin": "hi",
        "spa": "es",
        "tha": "th",
    }
    folder = testdata("langid/udhr")
    found = {}
    for name, language in names.items():
        path = folder / f"{name}.html"
        if path.is_file():
            found[language] = detect_language(article_text(path.read_text(encoding="utf-8")))[0]
    assert len(found) >= 6
    assert all(language == detected for language, detected in found.items()), found
    assert detect_language(" \n")[1] == 0.0


def test_code_on_a_page_does_not_hide_its_language() -> None:
    german = "Diese Funktion sortiert eine Liste von Paaren nach dem zweiten Wert.\n"
    examples = "    from model import AutoModel\n>>> model.train(dataset, batch=8)\n" * 20
    assert detect_language(german + examples + german)[0] == "de"


def test_scripts_without_spaces_are_not_judged_by_words() -> None:
    text = "この港は夕方になるととても静かになり、漁師たちは網をたたんで家に帰ります。\n" * 2
    assert poor_text(general(text, "ja"), LIMITS.quality) is None
    assert poor_text(general(text, "it"), LIMITS.quality) == "word_count"
