"""One model under one name: its tokenizer and chat format, and the engine that runs it.

Several names may share one engine (adapters). The prompt is made in a thread of the model's own,
one at a time: rendering remembers what it has encoded, and a long prompt must not hold up others.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from puna.chat.format import ChatFormat
from puna.infer.driver import Driver
from puna.infer.engine import Engine, EngineConfig
from puna.infer.paged import PagedModel
from puna.llm import LLM
from puna.tokenizer.interface import Tokenizer

T = TypeVar("T")
_SHORT = 8_192  # characters that are tokenized faster than a thread is asked


class Served:
    """A model that answers."""

    def __init__(self, name: str, llm: LLM, driver: Driver, *, root: str = "") -> None:
        self.name, self.llm, self.driver, self.root = name, llm, driver, root or name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"prompts-{name}")
        self._in_thread = 0  # pieces of work that wait there or run
        self._formats: dict[str, ChatFormat] = {}

    @classmethod
    def of(
        cls,
        name: str,
        llm: LLM,
        config: EngineConfig,
        *,
        root: str = "",
        paged: PagedModel | None = None,
    ) -> "Served":
        """Take a model into service with an engine of its own."""
        tok = llm.tokenizer
        stop_ids = llm.stop_ids | tok.stop_ids
        engine = Engine(llm.model, tok, config, paged=paged, stop_ids=stop_ids)
        return cls(name, llm, Driver(engine), root=root)

    def figures(self) -> dict[str, float]:
        """Return what an observer wants to know of the engine."""
        stats = dataclasses.asdict(self.driver.engine.stats())
        return {name: value for name, value in stats.items() if not isinstance(value, dict)}

    @property
    def tok(self) -> Tokenizer:
        """The tokenizer."""
        return self.llm.tokenizer

    def format_of(self, tools_in: str | None = None) -> ChatFormat:
        """Return the chat format, or that which describes functions in another message."""
        form = self.llm.format
        if tools_in is None:
            return form
        if tools_in not in self._formats:
            self._formats[tools_in] = ChatFormat(self.tok, form.dialect, tools_in=tools_in)
        return self._formats[tools_in]

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer."""
        return self.llm.model.config.context

    async def prepare(self, make: Callable[[], T], size: int) -> T:
        """Do work on texts of `size` characters in all: long ones in the model's own thread."""
        if size <= _SHORT and not self._in_thread:
            return make()
        return await self.in_thread(make)

    async def in_thread(self, make: Callable[[], T]) -> T:
        """Do work in the model's own thread, one piece at a time."""
        self._in_thread += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._in_thread -= 1

    def close(self) -> None:
        """Cancel what is in service and end the threads."""
        self.driver.close()
        self._thread.shutdown(wait=False, cancel_futures=True)


def size_of(value: Any) -> int:
    """Return about how many characters a body's texts have."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(map(size_of, value.values()))
        case list() | tuple():
            return sum(map(size_of, value))
        case _:
            return 8
