"""The protections that work on this machine, found by trying each once."""

from functools import cache

import pytest

from puna.errors import StateError
from puna.tools.sandbox.session import WAYS, Session


@cache
def trouble(way: str) -> str | None:
    """Say why a way does not work here, None where it does."""
    try:
        with Session(ways=[way]):
            return None
    except StateError as error:
        return str(error).partition("(")[2].partition(");")[0]


def need(way: str) -> str:
    """Return the way, or skip the test with its reason."""
    why = trouble(way)
    if why:
        pytest.skip(f"does not work here: {why}")
    return way


def any_way() -> str:
    """Return the first way that works, or skip."""
    working = [way for way in WAYS if trouble(way) is None]
    if not working:
        pytest.skip("this machine lets no sandbox be made")
    return working[0]
