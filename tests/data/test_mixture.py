"""The mix has its shares, shrinks rather than repeats, and knows no order."""

import random

import pytest

from puna.data.mixture import MixConfig, choose, plan_budget
from puna.errors import ConfigError

CONFIG = MixConfig()


def token_shares(sizes: dict[str, int]) -> dict[str, float]:
    tokens = {source: size / CONFIG.bytes_per_token[source] for source, size in sizes.items()}
    return {source: count / sum(tokens.values()) for source, count in tokens.items()}


def test_the_shares_of_the_tokens_are_the_paper_s() -> None:
    budget = plan_budget(CONFIG, {"general": 10**9, "code": 10**9}, 1_000_000)
    shares = token_shares(dict(budget.bytes))
    expected = {"general": 0.50, "maths": 0.25, "code": 0.17, "multilingual": 0.08}
    assert shares == pytest.approx(expected, abs=1e-4)
    assert sum(budget.bytes.values()) == pytest.approx(1_000_000, abs=4)
    assert budget.limited_by is None


def test_a_scarce_source_shrinks_the_whole_mix() -> None:
    budget = plan_budget(CONFIG, {"general": 1_000, "code": 10**9}, 1_000_000)
    assert budget.limited_by == "general"
    assert budget.bytes["general"] == pytest.approx(1_000, abs=1)
    assert token_shares(dict(budget.bytes))["general"] == pytest.approx(0.5, abs=0.01)


def test_an_absent_source_leaves_its_share_to_the_others() -> None:
    budget = plan_budget(CONFIG, {"general": 10**9}, 900_000, generated=("maths",))
    shares = token_shares(dict(budget.bytes))
    assert shares == pytest.approx({"general": 2 / 3, "maths": 1 / 3}, abs=1e-4)


def test_the_choice_does_not_depend_on_the_order_of_the_documents() -> None:
    rng = random.Random(0)
    documents = [(f"doc{i}", rng.randint(10, 100)) for i in range(200)]
    chosen = []
    for order in (documents, documents[::-1]):
        ids, sizes = [name for name, _ in order], [size for _, size in order]
        picked = choose(ids, sizes, 3_000, seed=5)
        chosen.append([ids[i] for i in picked])
        assert 3_000 <= sum(sizes[i] for i in picked) < 3_100
    assert chosen[0] == chosen[1]


def test_one_long_document_cannot_fill_a_small_budget() -> None:
    assert choose(["long", "short"], [10_000, 90], 100, seed=0) == [1]


def test_shares_that_are_no_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match="none may be negative"):
        MixConfig(general=-0.5)
    with pytest.raises(ConfigError, match="bytes_per_token lacks"):
        MixConfig(bytes_per_token={"general": 3.0})
