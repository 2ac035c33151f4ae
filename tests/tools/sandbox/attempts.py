"""What the tests of hostile code share."""

import contextlib
from pathlib import Path

from puna.tools.sandbox.outcome import Outcome
from puna.tools.sandbox.session import Session


def refused(outcome: Outcome) -> bool:
    """Whether the code ran into an error of its own, in a session that goes on."""
    return not outcome.completed and outcome.lost is None


def tasks_of(session: Session) -> int:
    """Return how many processes of this machine descend from the session's launcher."""
    assert session._process is not None
    waiting, count = [session._process.pid], 0
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found = [int(x) for x in children.read_text().split()]
                waiting += found
                count += len(found)
    return count


def still_computes(session: Session) -> bool:
    """Whether the session works after all that was done to it."""
    return session.run("6 * 7").text == "completed\n[stdout]42\n[/stdout]"
