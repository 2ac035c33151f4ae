"""An ordered map over processes: the results come in the order of the tasks, whoever did them.

Curation's work is plain Python, so it needs processes rather than threads. A fixed number of tasks
is under way at a time, so that a slow reader does not fill the memory.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks under way for each process


def count_workers(asked: int | None) -> int:
    """Return the number of processes asked for, or one for each core this process may use."""
    return asked or len(os.sched_getaffinity(0))


def ordered_map(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int
) -> Iterator[Result]:
    """Yield `function(task)` for every task, in order; with one worker, in this process."""
    if workers <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        under_way: deque[Future[Result]] = deque()
        for task in tasks:
            under_way.append(pool.submit(function, task))
            if len(under_way) >= workers * _AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
