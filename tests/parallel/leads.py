"""What rank 0 does in the tests of meshes; a process of its own imports it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from puna.infer.engine import Engine, Request
from puna.infer.sampling import SamplingConfig
from tests.infer.engines import run
from tests.infer.tiny import GREEDY, prompts_of

LENGTHS = (15, 41, 7, 23, 25)
COUNT = 10
SAMPLED = SamplingConfig(temperature=0.9, top_p=0.8, seed=3)


def write(engine: Engine, other: Engine) -> dict[str, Any]:
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
    with ThreadPoolExecutor(3) as threads:  # two engines at once, and somebody who wants states
        both = [threads.submit(run, one, *requests[:3]) for one in (engine, other)]
        states = threads.submit(engine.model.hidden, torch.tensor([prompts[0]])).result()
        together = [[done[0].ids for done in one.result()] for one in both]
    return {
        "ragged": ragged,
        "again": again[0].ids,
        "reused": reused,
        "samples": [samples[index].ids for index in range(3)],
        "preemptions": stats.preemptions,
        "is_whole": stats.free_pages == stats.pages,
        "states": states.tolist(),
        "together": together,
    }


def overlap(engine: Engine, other: Engine) -> int:
    """Four answers in steps that overlap; return how many tokens they have."""
    requests = [Request(ids=[3], sampling=GREEDY, max_tokens=10) for _ in range(4)]
    return sum(len(done[0].ids) for done in run(engine, *requests))


def follow_one_another(engine: Engine, other: Engine) -> int:
    """The same in steps that each wait for the last, with every answer in each."""
    engine._scheduler.lanes = engine._paged.lanes = 1
    return overlap(engine, other)
