from typing import Any

import pytest

from puna.infer.engine import Request
from tests.infer.engines import expected, run, tiny_engine
from tests.infer.tiny import prompts_of
from tests.parallel.leads import COUNT, LENGTHS, SAMPLED, write
from tests.parallel.ranks import odd_model, on_mesh, small


def check(found: dict[str, Any], **shape: Any) -> None:
    """Compare with one process and the simple loop."""
    model, prompts = odd_model(**shape), prompts_of(list(LENGTHS))
    whole = [expected(model, prompt, COUNT) for prompt in prompts]
    assert found["ragged"] == whole
    assert found["again"] == whole[1]
    (samples,) = run(
        tiny_engine(model, is_native=False),
        Request(ids=prompts[3], sampling=SAMPLED, max_tokens=5, n=3),
    )
    assert found["samples"] == [samples[index].ids for index in range(3)]
    assert found["is_whole"]
    assert found["preemptions"] and found["reused"] == 40


@pytest.mark.parametrize(
    ("tensor", "pipeline", "shape"),
    [
        (2, 1, {"tied": True}),
        (1, 2, {"tied": True}),
        (2, 2, {"kv_heads": 1}),  # which both tensor ranks hold
    ],
)
def test_many_processes_write_what_one_writes(
    tensor: int, pipeline: int, shape: dict[str, Any]
) -> None:
    found, weights = on_mesh(tensor, pipeline, write, config=small(cache_tokens=72), **shape)
    check(found, **shape)
    total = sum(weight.numel() for weight in odd_model(**shape).parameters())
    assert max(weights) < total / (tensor * pipeline) * 1.5, (
        "no rank holds much more than its share"
    )
