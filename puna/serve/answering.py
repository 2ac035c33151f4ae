"""From a request to the pieces of its answers: submit, read what each step wrote, stop when done.

Whoever leaves the iterator, a client that closed its connection too, gives back the pages of the
request within the engine's step.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from puna.infer.request import BusyError, Event, Request, Spent
from puna.serve.call import Call
from puna.serve.failures import Failure
from puna.serve.reading import Piece, Reading
from puna.serve.served import Served
from puna.serve.state import State

Events = AsyncGenerator[Event, None]


async def pieces(
    state: State,
    call: Call,
    served: Served,
    request: Request,
    readings: Sequence[Reading],
    script: Events | None = None,
) -> AsyncGenerator[Piece, None]:
    """Yield what is settled of every choice, in the order in which it is written.

    Args:
        readings: one a choice.
        script: events that take the place of the engine's, for tests of what follows the sampler.
    Raises:
        Failure: 429 where the queue is full, and what the engine says of its own failure.
    """
    left = len(readings)
    clock = state.metrics.clock(served.name, len(request.ids))
    try:
        async with aclosing(
            events_of(state, served, request) if script is None else script
        ) as all_:
            async for event in all_:
                clock.step(len(event.ids))
                if event.spent is not None:
                    call.spent = _sum(call.spent, event.spent)
                if event.finish_reason in ("cancelled", "error", "deadline"):
                    raise _failed(event)
                reading = readings[event.index]
                if reading.finish_reason is not None:
                    continue
                yield reading.read(event)
                if reading.finish_reason is not None:
                    left -= 1
                    call.reason = reading.finish_reason
                    if not left:
                        break
    finally:
        clock.end(sum(reading.tokens for reading in readings))


async def events_of(state: State, served: Served, request: Request) -> AsyncGenerator[Event, None]:
    """Yield what the engine says of a request; leaving cancels it.

    Raises:
        Failure: 429, the queue is full.
    """
    if request.constraint is not None:
        engine, constraint = served.driver.engine, request.constraint
        await served.in_thread(lambda: engine.prepare_constraint(constraint))
    try:
        stream = served.driver.stream(request)
    except BusyError as error:
        state.metrics.refused.inc()
        if not served.driver.is_alive:
            raise Failure(
                503, "The engine of this model has ended; the server's log says why.",
                code="engine_ended",
            ) from None  # fmt: skip
        wait_s = max(1, round(error.retry_after_s))
        raise Failure(429, str(error), code="queue_full", retry_after_s=wait_s) from None
    try:
        async for event in stream:
            yield event
    finally:
        stream.cancel()  # what has ended stays as it is


def _sum(one: Spent | None, other: Spent) -> Spent:
    """Add what two requests of one call cost, as the steps of a tool loop."""
    if one is None:
        return other
    return Spent(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        queued_s=one.queued_s + other.queued_s,
        first_token_s=one.first_token_s,
        total_s=one.total_s + other.total_s,
    )


def _failed(event: Event) -> Failure:
    match event.finish_reason:
        case "deadline":
            return Failure(408, "The answer was not whole before its deadline.", code="deadline")
        case "cancelled":
            return Failure(
                503, "The server stopped before the answer was whole.", code="stopped",
                retry_after_s=5,
            )  # fmt: skip
        case _:
            return Failure(500, event.error or "The engine failed.", code="engine_error")


def usage_of(prompt_tokens: int, completion_tokens: int, spent: Spent | None) -> dict[str, Any]:
    """Return the usage of an answer as OpenAI writes it."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": spent.cached_tokens if spent else 0},
    }
