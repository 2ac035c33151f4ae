"""`/v1/batches`: the lines of a file are requests, answered behind everybody else's.

A batch runs through the same functions as a request over HTTP, a few lines at a time and at a low
priority, and ends as a file of answers and a file of errors. Batches live as long as the server.
Source: OpenAI API reference, batch.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from puna.errors import PunaError
from puna.log import logger
from puna.serve.bodies.batches import BatchBody, BatchLine
from puna.serve.bodies.strict import Body
from puna.serve.call import Call
from puna.serve.failures import Failure, failure_of
from puna.serve.state import State
from puna.serve.wire import Reply, Stream

_BEHIND = -50  # priority of the lines; requests over HTTP have 0
_RETRY_S = 0.5
_MOST_LINES = 50_000  # OpenAI's limit
Answer = Callable[[State, Call, Any], Awaitable[Reply | Stream]]
Endpoints = Mapping[str, tuple[type[Body], Answer]]


@dataclass(slots=True, kw_only=True)
class Batch:
    """One batch while it runs, and afterwards."""

    id: str
    owner: str
    body: BatchBody
    created: int
    status: str = "in_progress"
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file: str | None = None
    error_file: str | None = None
    times: dict[str, int] = field(default_factory=dict)
    task: "asyncio.Task[None] | None" = None

    def told(self) -> dict[str, Any]:
        """Return the batch as OpenAI's clients read it."""
        names = ("in_progress", "finalizing", "completed", "failed", "cancelling", "cancelled")
        counts = {"total": self.total, "completed": self.completed, "failed": self.failed}
        return {
            "id": self.id, "object": "batch", "endpoint": self.body.endpoint,
            "input_file_id": self.body.input_file_id,
            "completion_window": self.body.completion_window, "status": self.status,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.output_file, "error_file_id": self.error_file,
            "created_at": self.created, "expires_at": self.created + 24 * 3600,
            "expired_at": None, **{f"{name}_at": self.times.get(name) for name in names},
            "request_counts": counts, "metadata": self.body.metadata,
        }  # fmt: skip

    def become(self, status: str) -> None:
        """Change the status and note when."""
        self.status = status
        self.times[status] = int(time.time())


class Batches:
    """The batches of one server."""

    def __init__(self, state: State, endpoints: Endpoints) -> None:
        self._state, self._endpoints = state, endpoints
        self._kept: dict[str, Batch] = {}
        self._places = asyncio.Semaphore(state.settings.batch_width)

    async def create(self, state: State, call: Call, body: BatchBody) -> Reply:
        """Begin a batch."""
        entry = state.files.find(body.input_file_id, call.owner)
        if entry.purpose != "batch":
            raise Failure(400, f"{entry.id}: its purpose is {entry.purpose!r}, not 'batch'.")
        batch = Batch(
            id=f"batch_{secrets.token_hex(12)}", owner=call.owner, body=body,
            created=int(time.time()),
        )  # fmt: skip
        batch.become("in_progress")
        self._kept[batch.id] = batch
        batch.task = asyncio.create_task(self._run(batch))
        return Reply.json(batch.told())

    async def get(self, state: State, call: Call, parts: dict[str, str]) -> Reply:
        """Tell how far a batch is."""
        return Reply.json(self._find(parts["id"], call.owner).told())

    async def list_all(self, state: State, call: Call, parts: dict[str, str]) -> Reply:
        """List the batches of a key."""
        found = [b.told() for b in reversed(self._kept.values()) if b.owner == call.owner]
        return Reply.json({"object": "list", "data": found, "has_more": False})

    async def cancel(self, state: State, call: Call, parts: dict[str, str]) -> Reply:
        """Stop a batch; what was answered so far is kept."""
        batch = self._find(parts["id"], call.owner)
        if batch.task is not None and not batch.task.done():
            batch.become("cancelling")
            batch.task.cancel()
        return Reply.json(batch.told())

    async def close(self) -> None:
        """Stop all of them: the server ends."""
        tasks = [batch.task for batch in self._kept.values() if batch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _find(self, id: str, owner: str) -> Batch:
        batch = self._kept.get(id)
        if batch is None or batch.owner != owner:
            raise Failure(404, f"There is no batch {id!r}.", code="batch_not_found")
        return batch

    async def _run(self, batch: Batch) -> None:
        answers: dict[int, bytes] = {}
        wrongs: dict[int, bytes] = {}
        try:
            lines = await self._lines(batch)
            if batch.errors:
                batch.become("failed")
                return
            await asyncio.gather(
                *(self._line(batch, at, line, answers, wrongs) for at, line in enumerate(lines))
            )
            batch.become("finalizing")
            await self._write(batch, answers, wrongs)
            batch.become("completed")
        except asyncio.CancelledError:
            await self._write(batch, answers, wrongs)
            batch.become("cancelled")
        except Exception as error:  # a worker: the batch says that it failed, the log says why
            logger.exception("batch %s failed", batch.id)
            batch.errors.append({"message": failure_of(error).message, "line": None})
            batch.become("failed")

    async def _lines(self, batch: Batch) -> list[BatchLine]:
        path = self._state.files.path(batch.body.input_file_id)
        raw = await asyncio.to_thread(path.read_bytes)
        lines: list[BatchLine] = []
        seen: set[str] = set()
        for number, text in enumerate(raw.splitlines(), start=1):
            if not text.strip():
                continue
            try:
                line = BatchLine.model_validate_json(text)
                why = None
            except ValidationError as error:
                why = failure_of(error).message
            else:
                lines.append(line)
                if line.custom_id in seen:
                    why = f"custom_id {line.custom_id!r} stands in two lines."
                elif line.url != batch.body.endpoint:
                    why = f"url is {line.url}; the batch is one of {batch.body.endpoint}."
                seen.add(line.custom_id)
            if why is not None:
                batch.errors.append({"code": "invalid_line", "message": why, "line": number})
        if not 0 < len(lines) <= _MOST_LINES and not batch.errors:
            why = f"the file has {len(lines)} requests; 1 to {_MOST_LINES} are expected."
            batch.errors.append({"code": "invalid_file", "message": why, "line": None})
        batch.total = len(lines)
        return lines

    async def _line(
        self, batch: Batch, at: int, line: BatchLine, answers: dict[int, bytes],
        wrongs: dict[int, bytes],
    ) -> None:  # fmt: skip
        async with self._places:
            call = Call(path=line.url, owner=batch.owner)
            status, body = await self._answer(call, line)
        told = {
            "id": f"batch_{call.id}", "custom_id": line.custom_id, "error": None,
            "response": {"status_code": status, "request_id": call.id, "body": body},
        }  # fmt: skip
        (answers if status == 200 else wrongs)[at] = json.dumps(told, ensure_ascii=False).encode()
        batch.completed += status == 200
        batch.failed += status != 200

    async def _answer(self, call: Call, line: BatchLine) -> tuple[int, Any]:
        kind, answer = self._endpoints[line.url]
        has_priority = "priority" in kind.model_fields
        given = {**({"priority": _BEHIND} if has_priority else {}), **line.body}
        while True:
            try:
                body = kind.model_validate_json(json.dumps(given))
                if getattr(body, "stream", None):
                    raise Failure(400, "stream: a line of a batch cannot stream.", param="stream")
                reply = await answer(self._state, call, body)
                assert isinstance(reply, Reply), "only streams are no replies"
                return reply.status, json.loads(reply.body)
            except (Failure, PunaError, ValidationError) as error:
                failure = failure_of(error)
                if failure.status == 429:  # its turn comes when the queue has room
                    await asyncio.sleep(_RETRY_S)
                    continue
                return failure.status, failure.error

    async def _write(
        self, batch: Batch, answers: Mapping[int, bytes], wrongs: Mapping[int, bytes]
    ) -> None:
        for name, lines in (("output", answers), ("error", wrongs)):
            if not lines:
                continue
            content = b"\n".join(lines[at] for at in sorted(lines)) + b"\n"
            entry = self._state.files.add(
                content, owner=batch.owner, name=f"{batch.id}_{name}.jsonl",
                purpose="batch_output",
            )  # fmt: skip
            if name == "output":
                batch.output_file = entry.id
            else:
                batch.error_file = entry.id
