"""Several streams become one: each item as soon as it is there, and all end together.

The prompts of one completion are requests of their own; a client that leaves one leaves all.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


async def merged(sources: Sequence[AsyncIterator[T]]) -> AsyncGenerator[T, None]:
    """Yield the items of all sources; leaving, or an error of one, cancels the others."""
    if len(sources) == 1:
        async for item in sources[0]:
            yield item
        return
    found: asyncio.Queue[tuple[T] | BaseException | None] = asyncio.Queue()

    async def read(source: AsyncIterator[T]) -> None:
        try:
            async for item in source:
                found.put_nowait((item,))
            found.put_nowait(None)
        except Exception as error:  # a worker: whoever reads the merged stream gets it
            found.put_nowait(error)

    tasks = [asyncio.create_task(read(source)) for source in sources]
    try:
        left = len(tasks)
        while left:
            got = await found.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                left -= 1
            else:
                yield got[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
