"""One request of a client while it is answered: who asked what, and what it has cost so far.

The gate makes it, endpoints fill it in, and the log, the metrics and the trace read it at the end.
"""

import secrets
import time
from dataclasses import dataclass, field

from puna.infer.request import Spent


@dataclass(slots=True, kw_only=True)
class Call:
    """The state of one request."""

    path: str
    method: str = "POST"
    client: str = ""  # its address
    owner: str = ""  # its key, shortened to a hash; users with one key share it
    id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    began: float = field(default_factory=time.perf_counter)
    model: str = ""
    status: int = 0
    is_stream: bool = False
    has_left: bool = False  # the client went before the answer was whole
    reason: str | None = None  # why the answer ended
    spent: Spent | None = None
    prompt: str | None = None  # for the log, where the operator wants texts in it
    answer: str | None = None

    @property
    def took_s(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.began
