"""A thread that steps an engine, and streams of events for those who asked.

`Driver.stream` is for coroutines: events arrive in the loop that asked, all of one step in one
call, and leaving the `async for` (a client that disconnects) cancels the request. `Driver.submit`
is the same for threads. The loop itself never waits for a step.
"""

import asyncio
import queue
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from types import TracebackType

from puna.infer.engine import Engine
from puna.infer.request import BusyError, Event, Request, Spent
from puna.log import logger

CLOSING_RETRY_S = 5.0  # a server that drains is replaced soon
CLOSING_WAIT_S = 30.0  # for a step that is under way when the engine closes
UNUSUAL = 10.0  # times the longest step so far; a step that takes longer hangs


class Stream:
    """The events of one request, for a thread: iterate until the last."""

    def __init__(self, driver: "Driver", request: Request) -> None:
        self._driver = driver
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.handle = driver.enter(request, self)

    def deliver(self, event: Event) -> None:
        """Take an event from the driver's thread."""
        self._events.put(event)

    def cancel(self) -> None:
        """End the request; the stream still yields its last event."""
        self._driver.cancel(self.handle)

    def __iter__(self) -> Iterator[Event]:
        """Yield events; leaving early cancels the request."""
        is_over = False
        try:
            while not is_over:
                event = self._events.get()
                is_over = event.spent is not None
                yield event
        finally:
            if not is_over:
                self.cancel()


class AsyncStream:
    """The events of one request, for a coroutine: `async for event in stream`."""

    def __init__(self, driver: "Driver", request: Request) -> None:
        self._driver = driver
        self.loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.handle = driver.enter(request, self)

    def deliver(self, event: Event) -> None:
        """Take an event, in the stream's own loop."""
        self._events.put_nowait(event)

    def cancel(self) -> None:
        """End the request; the stream still yields its last event."""
        self._driver.cancel(self.handle)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events; leaving early, or being cancelled, cancels the request."""
        is_over = False
        try:
            while not is_over:
                event = await self._events.get()
                is_over = event.spent is not None
                yield event
        finally:
            if not is_over:
                self.cancel()


class Driver:
    """An engine in service: one thread steps it while it has work."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._streams: dict[int, Stream | AsyncStream] = {}
        self._door = threading.Lock()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._is_closing = self._is_stopped = False
        self._step_began: float | None = None
        self._longest_step_s = 0.0
        self._thread = threading.Thread(target=self._work, name="puna-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Stream:
        """Return the events of a request, for a thread; errors as `Engine.submit` raises them."""
        return Stream(self, request)

    def stream(self, request: Request) -> AsyncStream:
        """Return the events of a request, for the running event loop."""
        return AsyncStream(self, request)

    def enter(self, request: Request, stream: Stream | AsyncStream) -> int:
        """Submit a request whose events go to `stream`."""
        if self._is_closing:
            raise BusyError(
                "engine: it is closing and takes no more requests. Ask another one, or again in "
                f"{CLOSING_RETRY_S:.0f} s.",
                retry_after_s=CLOSING_RETRY_S,
            )
        with self._door:  # so that no event comes before its stream is known
            handle = self.engine.submit(request)
            self._streams[handle] = stream
            self._idle.clear()
        self._wake.set()
        return handle

    def cancel(self, handle: int) -> None:
        """End a request; twice is once."""
        self.engine.cancel(handle)
        self._wake.set()

    @property
    def is_alive(self) -> bool:
        """Whether the thread that steps the engine runs."""
        return self._thread.is_alive()

    def trouble(self, hang_s: float) -> str | None:
        """Say what keeps the engine from working, None where nothing does.

        Args:
            hang_s: a step may take so long in any case, and longer where earlier ones did.
        """
        if not self.is_alive:
            return "its thread has ended"
        began = self._step_began
        took_s = 0.0 if began is None else time.monotonic() - began
        is_hanging = took_s > max(hang_s, UNUSUAL * self._longest_step_s)
        return f"a step has taken {took_s:.0f} s already" if is_hanging else None

    def drain(self, timeout_s: float | None = None) -> bool:
        """Refuse new requests and wait for those in service; return whether all have ended."""
        self._is_closing = True
        return self._idle.wait(timeout_s)

    def abandon(self) -> None:
        """End every stream now and take no more, though the engine's thread may never come back."""
        self._is_closing = True
        with self._door:
            handles = list(self._streams)
        spent = Spent(
            prompt_tokens=0, cached_tokens=0, completion_tokens=0, queued_s=0.0, first_token_s=None,
            total_s=0.0,
        )  # fmt: skip
        self._deliver(
            [Event(handle=handle, finish_reason="cancelled", spent=spent) for handle in handles]
        )

    def close(self) -> None:
        """Cancel what is in service, let every stream end, and stop the thread."""
        self._is_closing = True
        with self._door:
            handles = list(self._streams)
        for handle in handles:
            self.cancel(handle)
        self._idle.wait(CLOSING_WAIT_S)
        self._is_stopped = True
        self._wake.set()
        self._thread.join(CLOSING_WAIT_S if self._idle.is_set() else 0)
        if self._thread.is_alive():
            logger.error("engine: a step hangs, so its thread is left behind")

    def __enter__(self) -> "Driver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            self._step_on()
        except BaseException as error:  # the top of a worker: nobody would step from here on
            logger.critical("engine: its thread ends; nothing is answered any more", exc_info=True)
            self._is_closing = True
            self._deliver(self.engine.fail(error))

    def _step_on(self) -> None:
        while not self._is_stopped:
            if not self.engine.has_work:
                self._wake.wait()
                self._wake.clear()
                continue
            began = self._step_began = time.monotonic()
            try:
                events = self.engine.step()
            except Exception as error:
                logger.exception("engine: a step failed; every request in service ends")
                events = self.engine.fail(error)
            self._step_began = None
            self._longest_step_s = max(self._longest_step_s, time.monotonic() - began)
            self._deliver(events)

    def _deliver(self, events: list[Event]) -> None:
        """Hand events on: to each loop in one call."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[AsyncStream, Event]]]
        by_loop = defaultdict(list)
        with self._door:
            for event in events:
                stream = self._streams.get(event.handle)
                if isinstance(stream, AsyncStream):
                    by_loop[stream.loop].append((stream, event))
                elif stream is not None:
                    stream.deliver(event)
                if event.spent is not None:
                    self._streams.pop(event.handle, None)
            if not self._streams:
                self._idle.set()
        for loop, pairs in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver_all, pairs)
            except RuntimeError:  # the loop was closed: nobody listens any more
                for stream, _ in pairs:
                    self.engine.cancel(stream.handle)


def _deliver_all(pairs: list[tuple[AsyncStream, Event]]) -> None:
    for stream, event in pairs:
        stream.deliver(event)
