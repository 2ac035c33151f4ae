import math

import pytest
import torch

from puna.quant import measure
from puna.quant.measure import compare
from puna.quant.recipe import Recipe, quantize_model
from tests.quant.models import rows, tiny_model


@pytest.mark.parametrize("scores", [1 << 23, 300])
def test_perplexity_and_divergence_are_those_of_the_definition(
    scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of scores that exist at once: 300 are those of four tokens."""
    monkeypatch.setattr(measure, "_SCORES_AT_ONCE", scores)
    original = tiny_model()
    rounded = quantize_model(tiny_model(), Recipe(scheme="int4"))
    ids = rows(original, count=5)
    p = original(ids)[:, :-1].double().log_softmax(-1)
    q = rounded(ids)[:, :-1].double().log_softmax(-1)
    lost = [float(-x.gather(-1, ids[:, 1:, None]).mean()) for x in (p, q)]
    found = compare(original, rounded, ids)
    assert found.tokens == 5 * 23
    assert found.original == pytest.approx(math.exp(lost[0]), rel=1e-4)
    assert found.rounded == pytest.approx(math.exp(lost[1]), rel=1e-4)
    assert found.divergence == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert found.agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))


def test_a_model_does_not_diverge_from_itself() -> None:
    model = tiny_model()
    found = compare(model, model, rows(model))
    assert found.divergence == 0.0
    assert found.agreement == 1.0
    assert found.original == found.rounded
    assert torch.tensor(found.original).isfinite()


def test_only_marked_tokens_count() -> None:
    original = tiny_model()
    rounded = quantize_model(tiny_model(), Recipe(scheme="int4"))
    ids = rows(original, count=5)
    marked = torch.zeros_like(ids, dtype=torch.bool)
    marked[:, :2], marked[3, 10:14] = True, True  # the first of a row is predicted by nobody
    p = original(ids)[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    found = compare(original, rounded, ids, marked)
    assert found.tokens == 5 + 4
    assert found.original == pytest.approx(math.exp(-float(p[marked[:, 1:]].mean())), rel=1e-4)
