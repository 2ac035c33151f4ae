"""What the operator of a server decides.

`puna serve` fills this from its flags; tests make it by hand. Nothing else configures the server.
"""

from dataclasses import dataclass
from pathlib import Path

from puna.errors import ConfigError
from puna.tools.tool import Tool

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and permissions of one server; `None` means off."""

    keys: tuple[str, ...] = ()  # one of them opens the API; none leaves it open
    origins: tuple[str, ...] = ()  # of pages on other addresses that may call; "*" is every one
    max_queue: int = 256  # requests that wait for a place; more are answered with 429
    max_body_bytes: int = 16 * MEBIBYTE
    max_file_bytes: int = 128 * MEBIBYTE  # of an uploaded file
    max_choices: int = 16  # answers to one request: n, best_of, and prompts times n
    drain_s: float = 30.0  # how long answers may still take after SIGTERM
    hang_s: float = 120.0  # a step of an engine that takes longer makes /health answer 503
    files: Path | None = None  # keeps files and batches; None: a folder that goes with the server
    batch_width: int = 8  # requests of batches that run at once
    kept_responses: int = 1000  # that `previous_response_id` may name
    tools: tuple[Tool, ...] = ()  # that the server runs when a request asks for them
    logs_text: bool = False  # prompts and answers in the log
    is_scripted: bool = False  # honours `scripted_answer`: for tests alone

    def __post_init__(self) -> None:
        sizes = ("max_queue", "max_body_bytes", "max_file_bytes", "max_choices", "batch_width")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"serve: {name}={getattr(self, name)} was given; at least 1 is expected."
                )
        if not self.drain_s >= 0:
            raise ConfigError(
                f"serve: drain_s={self.drain_s} was given; seconds, 0 or more, are expected."
            )
