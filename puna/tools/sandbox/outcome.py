"""What a call gave, and how the model is told: the frame of Llama's code interpreter.

The first line is `completed` or `failed`; the two streams follow where they hold something.
"""

from dataclasses import dataclass

WORDS = {True: "completed", False: "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that a call has written, by its name within the folder."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of running one piece of code."""

    completed: bool
    stdout: str = ""
    stderr: str = ""
    files: tuple[Made, ...] = ()  # new or changed
    lost: str | None = None  # why the session was started anew; its variables are gone
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """The result as the model reads it."""
        err = self.stderr
        if self.lost:
            err += f"{_line_end(err)}The code {self.lost}. {RESTARTED}\n"
        parts = [WORDS[self.completed]]
        if self.stdout:
            parts.append(f"[stdout]{self.stdout}{_line_end(self.stdout)}[/stdout]")
        if err:
            parts.append(f"[stderr]{err}{_line_end(err)}[/stderr]")
        if self.files:
            named = ", ".join(f"{file.name} ({file.size_bytes:,} bytes)" for file in self.files)
            parts.append(f"[files]{named}[/files]")
        return "\n".join(parts)


RESTARTED = "The session was started anew: every variable is gone, the files are kept."


def _line_end(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"
