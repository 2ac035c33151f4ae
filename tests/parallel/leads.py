"""What rank 0 does in the tests of meshes; a process of its own imports it."""

from typing import Any

from puna.infer.engine import Engine, Request
from puna.infer.sampling import SamplingConfig
from puna.parallel.line import Leader
from tests.infer.engines import run
from tests.infer.tiny import GREEDY, prompts_of

LENGTHS = (15, 41, 7, 23, 25)
COUNT = 10
SAMPLED = SamplingConfig(temperature=0.9, top_p=0.8, seed=3)


def write(engine: Engine, _: Leader) -> dict[str, Any]:
    """Ragged prompts, then one of them twice again, then samples that share their prompt."""
    prompts = prompts_of(list(LENGTHS))
    requests = [Request(ids=prompt, sampling=GREEDY, max_tokens=COUNT) for prompt in prompts]
    ragged = [done[0].ids for done in run(engine, *requests)]
    run(engine, requests[1])
    before = engine.stats().cached_tokens
    (again,) = run(engine, requests[1])
    reused = engine.stats().cached_tokens - before
    (samples,) = run(engine, Request(ids=prompts[3], sampling=SAMPLED, max_tokens=5, n=3))
    stats = engine.stats()
    return {
        "ragged": ragged,
        "again": again[0].ids,
        "reused": reused,
        "samples": [samples[index].ids for index in range(3)],
        "preemptions": stats.preemptions,
        "is_whole": stats.free_pages == stats.pages,
        "steps": stats.steps,
    }
