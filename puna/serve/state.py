"""What lives as long as the server: its models, its settings, what is counted, and who still runs.

One object, made by `puna.serve.app` and passed to every endpoint; there is nothing global.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from puna.chat.messages import Message
from puna.serve.call import Call
from puna.serve.failures import no_such_model
from puna.serve.files import FileShelf
from puna.serve.metrics import Metrics
from puna.serve.responses_store import ResponseStore
from puna.serve.served import Served
from puna.serve.settings import Settings


@dataclass(slots=True, kw_only=True)
class State:
    """The state of one server."""

    models: Mapping[str, Served]  # by the names that clients use; the first is the default
    settings: Settings
    metrics: Metrics
    responses: ResponseStore
    files: FileShelf
    created: int = field(default_factory=lambda: int(time.time()))
    is_draining: bool = False
    running: int = 0  # requests that are being answered, those for /health left out
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def model(self, name: str | None) -> Served:
        """Return the model of this name; without a name, the first.

        Raises:
            Failure: 404, none has this name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise no_such_model(name, list(self.models))
        return self.models[name]

    def begin(self) -> None:
        """Count one more request that is being answered."""
        self.running += 1
        self.idle.clear()

    def end(self) -> None:
        """Count one less."""
        self.running -= 1
        if not self.running:
            self.idle.set()

    def note_prompt(self, call: Call, messages: Sequence[Message]) -> None:
        """Keep the texts of a request for the log, where the operator wants them there."""
        if self.settings.logs_text:
            call.prompt = "\n".join(f"{m.role}: {m.body}" for m in messages)

    def note_answer(self, call: Call, text: str) -> None:
        """Keep the text of an answer for the log, where the operator wants it there."""
        if self.settings.logs_text:
            call.answer = text
