import re

import pytest

from puna.tokenizer.slices import slices
from tests.tokenizer.samples import llama3, trained


def reference(text: str) -> list[str]:
    """The cut points of the specification, found character by character."""
    parts = []
    for begin in range(0, len(text), 400_000):
        chunk, start, run = text[begin : begin + 400_000], 0, 0
        for at, character in enumerate(chunk):
            is_same = at > 0 and character.isspace() == chunk[at - 1].isspace()
            run = run + 1 if is_same else 1
            if run > 25_000:
                parts.append(chunk[start:at])
                start, run = at, 1
        parts.append(chunk[start:])
    return parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "short",
        "a" * 24_999 + " b",
        "a" * 25_000,
        "a" * 25_001,
        "b " * 7 + "a" * 50_001 + "\n" * 75_003 + "c",
        ("word " * 3_000 + "x" * 25_001) * 3,
        " \u3000\x1c" * 9_000,
        "a b" * 200_000,
        "é" * 399_999 + "😀" * 30_000,
    ],
    ids=lambda text: f"{len(text)}",
)
def test_cut_points_are_those_of_the_reference(text: str) -> None:
    assert [part for part in slices(text) if part] == [part for part in reference(text) if part]


def test_both_meanings_of_space_agree() -> None:
    """The reference asks `str.isspace`, the search for long runs asks the regular expression."""
    every = map(chr, range(0x110000))
    assert all(character.isspace() == bool(re.match(r"\s", character)) for character in every)


@pytest.mark.parametrize(
    "text",
    [" " * 1_000_000, "a" * 1_000_000, "a" * 24_999 + "👩🏽\u200d🚀" * 3, "é" * 399_999 + "😀a"],
    ids=["spaces", "letters", "emoji across a cut of a run", "emoji across a cut of a chunk"],
)
def test_long_runs_come_back(text: str) -> None:
    """Pitfall B9: tiktoken fails on long strings and long runs."""
    assert trained().decode(trained().encode(text)) == text


def test_cuts_are_visible_in_the_ids() -> None:
    """25,001 letters are the ids of 25,000 and those of the last one, whatever could be merged."""
    tok = llama3()
    assert tok.encode("a" * 25_001) == tok.encode("a" * 25_000) + tok.encode("a")
