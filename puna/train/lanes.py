"""Micro-batches side by side: on a processor, a core for each beats all cores for one.

The operations of a small model are too short to be shared out: four rows of 512 tokens ran at 3,160
tokens/s with a row to each of two cores, at 1,980 to 2,680 with both on one row (docs/log.md). The
results come back in order, so the sums that are made of them do not depend on who was faster.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return `work` of each item, in order, with the threads of torch shared out among them."""
    threads = torch.get_num_threads()
    lanes = min(len(items), threads)
    if lanes < 2:
        return [work(item) for item in items]
    return list(_pool(lanes, threads // lanes).map(work, items))


@cache
def _pool(lanes: int, threads: int) -> ThreadPoolExecutor:
    """Return the workers, each with so many threads of its own; between calls they wait."""
    before = torch.get_num_threads()
    all_are_here = Barrier(lanes)

    def take_threads(_: int) -> None:
        torch.get_num_threads()  # the first look in a thread sets it to what the process has
        torch.set_num_threads(threads)
        all_are_here.wait()

    pool = ThreadPoolExecutor(lanes, "lane")
    list(pool.map(take_threads, range(lanes)))
    torch.set_num_threads(before)  # what a worker sets is also what later threads begin with
    return pool
