"""Lines that repeat are dropped, whatever their case, accents and numbers."""

import numpy as np
import pytest

from puna.data.lines import (
    LineLimit,
    contains,
    drop_lines,
    drop_own_repeats,
    line_hashes,
    normalise_line,
    repeated,
)
from puna.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "normal"),
    [
        ("  Page 12 of 345!  ", "page 00 of 000"),
        ("Élève — Straße", "eleve straße"),
        ("__init__(self, *args)", "init self args"),
        ("=====", ""),
        ("", ""),
    ],
)
def test_lines_are_compared_without_case_accents_marks_and_digits(line: str, normal: str) -> None:
    assert normalise_line(line) == normal


def test_a_line_seen_more_often_than_the_limit_is_dropped_everywhere() -> None:
    pages = [f"Subscribe now!\nstory {'abcdefgh'[i]} of its own\n" for i in range(7)]
    pages.append("Rare line\n")
    unwanted = repeated([line_hashes(page) for page in pages], most=6)
    texts = [drop_lines(page, unwanted) for page in pages]
    assert all("Subscribe" not in text for text, _ in texts)
    assert [count for _, count in texts] == [1] * 7 + [0]
    assert texts[0][0] == "story a of its own\n"


def test_a_line_seen_exactly_as_often_as_the_limit_stays() -> None:
    pages = ["Subscribe now!\n"] * 6
    assert not len(repeated([line_hashes(page) for page in pages], most=6))


def test_lines_without_words_are_never_dropped() -> None:
    pages = ["----\n\n----\n"] * 20
    unwanted = repeated([line_hashes(page) for page in pages], most=2)
    assert drop_lines(pages[0], unwanted) == (pages[0], 0)


def test_dropping_lines_twice_is_dropping_them_once() -> None:
    pages = [f"a b c\n\nsame\n\nline {'pqrstu'[i]}\nsame\n" for i in range(6)]
    unwanted = repeated([line_hashes(page) for page in pages], most=3)
    once = [drop_lines(page, unwanted)[0] for page in pages]
    assert [drop_lines(page, unwanted)[0] for page in once] == once
    assert not len(repeated([line_hashes(page) for page in once], most=3))


def test_order_is_kept_and_holes_close_to_one_blank_line() -> None:
    text = "one\n\nnoise here\n\ntwo\n"
    dropped, count = drop_lines(text, np.unique(line_hashes("noise here")))
    assert (dropped, count) == ("one\n\ntwo\n", 1)


def test_a_page_says_a_thing_once_but_examples_may_repeat() -> None:
    first = "Return self==value.\nx\n    Return self==value.\n>>> f(1)\n"
    kept, dropped = drop_own_repeats(first + "Return self==value.\nx\n>>> f(1)\n", min_chars=8)
    assert kept == first + "x\n>>> f(1)\n"
    assert dropped == 1


def test_short_lines_can_be_spared() -> None:
    hashes = line_hashes("pass\na line of some substance\n", min_chars=16)
    assert hashes[0] == 0 and hashes[1] != 0
    assert contains(np.unique(hashes), hashes).tolist() == [False, True]


def test_an_empty_set_of_documents_repeats_nothing() -> None:
    assert not len(repeated([], most=1))


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="most=0"):
        LineLimit(most=0)
