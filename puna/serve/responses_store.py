"""Responses that may be continued: the last ones, in memory, each seen by its own key alone."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from puna.serve.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A response and the dialog that it ends, without instructions."""

    owner: str
    response: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    input: Sequence[Mapping[str, Any]] = ()  # the items that it answers, as they are listed


class ResponseStore:
    """The last responses; the oldest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, Stored] = OrderedDict()

    def keep(self, id: str, stored: Stored) -> None:
        """Keep a response."""
        self._kept[id] = stored
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def find(self, id: str, owner: str) -> Stored:
        """Return a response.

        Raises:
            Failure: 404, there is none of this id for this key.
        """
        stored = self._kept.get(id)
        if stored is None or stored.owner != owner:
            raise Failure(
                404, f"There is no response {id!r}; it was not stored, or is forgotten.",
                code="response_not_found",
            )  # fmt: skip
        return stored

    def drop(self, id: str, owner: str) -> None:
        """Forget a response."""
        self.find(id, owner)
        del self._kept[id]
