"""Near-duplicates are found as often as theory says, and one of each cluster survives."""

import gzip
import json
import math
import random

import numpy as np
import pytest

from puna.data.minhash import (
    MinHashLimit,
    band_keys,
    clusters,
    match_probability,
    shingles,
    survivors,
)
from tests.testdata import testdata

LIMIT = MinHashLimit()


def planted_pair(similarity: float, rng: random.Random) -> tuple[str, str]:
    """Two texts of distinct words whose 5-gram sets have about this Jaccard similarity.

    They share a run of words and each goes on alone. With s shared shingles and a text of n, the
    Jaccard similarity is s / (2 n - s), so s = 2 n J / (1 + J).
    """
    size = 400
    shared = round(2 * size * similarity / (1 + similarity))
    words = [f"w{rng.getrandbits(60)}" for _ in range(2 * size + 8)]
    head, rest = words[: shared + 4], words[shared + 4 :]
    alone = size - shared
    return " ".join(head + rest[:alone]), " ".join(head + rest[alone : 2 * alone])


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.95])
def test_planted_near_duplicates_are_found_within_binomial_bounds(similarity: float) -> None:
    rng = random.Random(7)
    trials, found, expected = 120, 0, 0.0
    for _ in range(trials):
        one, other = planted_pair(similarity, rng)
        a, b = set(shingles(one, 5).tolist()), set(shingles(other, 5).tolist())
        expected += match_probability(len(a & b) / len(a | b), LIMIT)
        found += bool((band_keys(one, LIMIT) == band_keys(other, LIMIT)).any())
    p = expected / trials
    deviation = math.sqrt(trials * p * (1 - p))
    assert abs(found - expected) <= 4 * deviation + 0.5


def test_the_probability_at_three_quarters_is_fineweb_s() -> None:
    # 1 - (1 - 0.75^8)^14 = 0.772: spec, section 6.4.
    assert match_probability(0.75, LIMIT) == pytest.approx(0.772, abs=5e-4)


def test_different_texts_are_never_joined() -> None:
    rng = random.Random(1)
    keys = np.stack([band_keys(planted_pair(0.0, rng)[0], LIMIT) for _ in range(60)])
    assert len(set(clusters(keys).tolist())) == 60


def test_one_of_each_cluster_survives_and_it_is_the_newest_then_the_longest() -> None:
    text = " ".join(f"word{i}" for i in range(80))
    keys = np.stack([band_keys(each, LIMIT) for each in (text, text, "quite another thing", text)])
    ranks = [("2020", 9, "a"), ("2021", 5, "b"), ("", 1, "c"), ("2021", 7, "d")]
    assert survivors(keys, ranks) == [2, 3]


def test_survivors_do_not_depend_on_the_order_and_a_second_run_removes_nothing() -> None:
    rng = random.Random(3)
    texts = [text for _ in range(20) for text in planted_pair(0.9, rng)]
    ids = [f"{i:02d}" for i in range(40)]
    kept = []
    for seed in range(3):
        order = random.Random(seed).sample(range(40), 40)
        keys = np.stack([band_keys(texts[i], LIMIT) for i in order])
        ranks = [("", len(texts[i]), ids[i]) for i in order]
        kept.append({order[place] for place in survivors(keys, ranks)})
    assert kept[0] == kept[1] == kept[2]
    rest = sorted(kept[0])
    keys = np.stack([band_keys(texts[i], LIMIT) for i in rest])
    assert survivors(keys, [("", len(texts[i]), ids[i]) for i in rest]) == list(range(len(rest)))


def test_empty_texts_are_not_each_other_s_duplicates() -> None:
    keys = np.stack([band_keys(text, LIMIT) for text in ("", "...", "")])
    assert survivors(keys, [("", 0, "a"), ("", 3, "b"), ("", 0, "c")]) == [0, 1, 2]
    assert len(clusters(np.empty((0, LIMIT.bands), np.uint64))) == 0


def test_short_texts_are_compared_whole() -> None:
    assert (band_keys("Hello world", LIMIT) == band_keys("hello, world!", LIMIT)).all()
    assert not (band_keys("hello world", LIMIT) == band_keys("hello there", LIMIT)).any()


def test_versions_of_real_documents_are_joined_and_strangers_are_not() -> None:
    path = testdata("corpora/neardup_docs.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file][:250]
    sets = [set(shingles(document["text"], 5).tolist()) for document in documents]
    keys = np.stack([band_keys(document["text"], LIMIT) for document in documents])
    expected = found = variance = 0.0
    for i in range(len(sets)):
        for j in range(i):
            union = len(sets[i] | sets[j])
            p = match_probability(len(sets[i] & sets[j]) / union, LIMIT) if union else 0.0
            expected, variance = expected + p, variance + p * (1 - p)
            found += bool((keys[i] == keys[j]).any())
    assert expected > 20
    assert abs(found - expected) <= 4 * math.sqrt(variance) + 3
