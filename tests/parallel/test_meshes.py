from typing import Any

import pytest
import torch

from puna.infer.engine import Request
from tests.infer.engines import expected, run, tiny_engine
from tests.infer.tiny import prompts_of
from tests.parallel.leads import COUNT, LENGTHS, SAMPLED, follow_one_another, overlap, write
from tests.parallel.ranks import Lead, Told, odd_model, on_mesh, small


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
    assert found["together"] == [whole[:3], whole[:3]]
    states = model.hidden(torch.tensor([prompts[0]]))
    torch.testing.assert_close(torch.tensor(found["states"]), states, rtol=1e-4, atol=1e-4)


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
    told = on_mesh(tensor, pipeline, write, config=small(cache_tokens=72), **shape)
    check(told[0].result, **shape)
    total = sum(weight.numel() for weight in odd_model(**shape).parameters())
    assert max(one.weights for one in told) < total / (tensor * pipeline) * 1.5, (
        "no rank holds much more than its share"
    )


def seconds(told: list[Told]) -> tuple[float, float]:
    """Return how long two stages computed in all, and how long both did at the same time."""
    first, second = (one.busy for one in told)
    busy = sum(end - begin for begin, end in first + second)
    both = sum(
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for begin, end in first
        for other_begin, other_end in second
    )
    return busy, both


@pytest.mark.parametrize(("lead", "overlaps"), [(overlap, True), (follow_one_another, False)])
def test_stages_work_at_once_where_steps_overlap(lead: Lead, overlaps: bool) -> None:
    """Two stages, 30 ms a row, four answers of ten tokens: 2.4 s of work in all.

    Steps of two rows each keep both stages busy, all but the first and the last: half of the work
    happens at the same time. Steps of four rows, one after the other, never do.
    """
    told = on_mesh(1, 2, lead, slow_s=0.03, heads=4, kv_heads=2, layers=2)
    assert told[0].result == 40
    busy, both = seconds(told)
    assert busy >= 2.4
    assert both > 0.3 * busy if overlaps else both < 0.01 * busy
