"""Generated mathematics is right, varied, and keeps away from the reserved numbers."""

import dataclasses
import random
import re

from puna.data.heldout import held_out_number
from puna.data.maths import check, generate_item, maths_document
from puna.data.problems import KINDS, Item

ITEMS = [generate_item(random.Random(seed)) for seed in range(1_500)]


def test_every_claim_of_every_item_holds() -> None:
    assert all(check(item) for item in ITEMS)


def test_a_wrong_claim_is_found() -> None:
    item = Item(kind="addition", text="2 + 2 = 5", answer="5", claims=("2 + 2 = 5",))
    assert not check(item)
    right = dataclasses.replace(item, claims=("2 + 3 = 5",))
    assert check(right)
    assert not check(dataclasses.replace(right, answer="6"))


def test_every_kind_appears_and_texts_hardly_repeat() -> None:
    assert {item.kind for item in ITEMS} == set(KINDS)
    assert len({item.text for item in ITEMS}) > 0.97 * len(ITEMS)


def test_training_never_names_a_reserved_number() -> None:
    for item in ITEMS:
        assert not any(held_out_number(int(n)) for n in re.findall(r"\d+", item.text)), item


def test_every_held_out_item_names_a_reserved_number() -> None:
    for seed in range(200):
        item = generate_item(random.Random(seed), held_out=True)
        assert check(item)
        assert any(held_out_number(int(n)) for n in re.findall(r"\d+", item.text)), item


def test_questions_are_said_again_as_expressions() -> None:
    copied = [item for item in ITEMS if item.kind == "multiplication"]
    for item in copied:
        left, right = re.findall(r"(\d+) \* (\d+)", item.text)[-1]
        assert item.text.count(left) >= 2 or left in right
        assert int(left) * int(right) == int(item.answer)


def test_a_document_depends_on_its_number_and_seed_alone() -> None:
    assert maths_document(3, seed=0) == maths_document(3, seed=0)
    assert maths_document(3, seed=0).text != maths_document(3, seed=1).text
    assert maths_document(3, seed=0).text != maths_document(4, seed=0).text
