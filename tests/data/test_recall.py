"""Recall documents: whole facts, answerable questions, never longer than asked."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.data.recall import answers_only, hide, recall_documents, split_sentences
from puna.errors import ConfigError
from tests.chat.dialogs import BYTES

HAY = ["The sea is wide. Ships sail over it.\n\n    Deep  down it is dark", "Birds sing at dawn."]


@settings(max_examples=30, deadline=None)
@given(length=st.integers(400, 2000), needles=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_question_is_answered_by_one_fact(length: int, needles: int, seed: int) -> None:
    for document in recall_documents(HAY, length=length, count=2, needles=needles, seed=seed):
        assert length - 20 <= len(document.text) <= length
        facts = dict(re.findall(r"called (\w+) (\w+)\.", document.text))
        asked = dict(re.findall(r"(?m)^Keeper: (\w+) (\w+)$", document.text))
        assert facts == asked
        assert min(2, needles) <= len(facts) <= needles


def test_the_length_may_be_counted_in_tokens() -> None:
    def words(text: str) -> int:
        return len(text.split())

    document = next(recall_documents(HAY, length=120, count=1, measure=words))
    assert 118 <= words(document.text) <= 120


def test_a_name_has_another_family_in_every_text() -> None:
    texts = [d.text for d in recall_documents(HAY, length=3000, count=40, needles=32)]
    families = [re.findall(r"called Alma (\w+)", text) for text in texts]
    assert len({family for found in families for family in found}) > 10


def test_every_round_asks_for_all_of_them() -> None:
    document = next(recall_documents(HAY, length=900, count=1, needles=3, rounds=4))
    asked = re.findall(r"(?m)^Keeper: (\w+)", document.text)
    assert {name: asked.count(name) for name in asked} == dict.fromkeys(asked[:3], 4)


def test_a_short_text_asks_fewer_times() -> None:
    document = next(recall_documents(HAY, length=160, count=1, needles=2, rounds=6))
    asked = re.findall(r"(?m)^Keeper: (\w+)", document.text)
    assert len(document.text) <= 160
    assert len({asked.count(name) for name in asked}) == 1
    assert 1 <= asked.count(asked[0]) < 6


def test_the_same_seed_gives_the_same_documents() -> None:
    first, again = (list(recall_documents(HAY, length=500, count=3, seed=7)) for _ in range(2))
    other = list(recall_documents(HAY, length=500, count=3, seed=8))
    assert first == again
    assert first != other
    assert len({document.id for document in (*first, *other)}) == 6


def test_a_fact_lies_at_its_depth() -> None:
    assert hide(["a", "b"], ["X"], [0.0]) == "X a b"
    assert hide(["a", "b"], ["X", "Y"], [0.5, 1.0]) == "a X b Y"


def test_sentences_are_cut_at_stops_and_lines() -> None:
    assert split_sentences("One. Two\n  three  four\n\n") == ["One.", "Two", "three four"]


def test_too_many_needles_for_the_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="longer documents"):
        next(recall_documents(HAY, length=100, count=1, needles=4))


def test_hay_without_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="no text"):
        next(recall_documents(["  \n"], length=500, count=1))


def test_only_the_names_asked_for_are_targets() -> None:
    document = next(recall_documents(HAY, length=600, count=1, needles=3))
    ids, mask = answers_only(document, BYTES)
    answers = BYTES.decode([i for i, counts in zip(ids, mask, strict=True) if counts])
    assert answers.split() == re.findall(r"(?m)(\w+)$", document.text)[-3:]
    assert BYTES.decode(ids, skip_special=True) == document.text
    assert ids[0] == BYTES.bos_id
