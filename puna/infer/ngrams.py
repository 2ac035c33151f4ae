"""What followed the newest tokens of a text when they last stood together.

`puna.infer.speculative` guesses with it. Every run of two and of three tokens is remembered once,
so that a guess costs the same however long the text is.
"""

from collections.abc import Sequence

LONGEST_MATCH, SHORTEST_MATCH = 3, 2  # tokens that must have stood together before


class NGrams:
    """Where the last tokens of one sequence stood before."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # the place after each run of tokens
        self._read = 0

    def guess(self, ids: Sequence[int], count: int) -> tuple[int, ...]:
        """Return what followed the newest tokens when they last stood together."""
        for end in range(self._read, len(ids)):  # runs that end before the newest token
            for length in range(SHORTEST_MATCH, LONGEST_MATCH + 1):
                if end >= length:
                    self._after[tuple(ids[end - length : end])] = end
        self._read = len(ids)
        for length in range(LONGEST_MATCH, SHORTEST_MATCH - 1, -1):
            place = self._after.get(tuple(ids[-length:]))
            if place is not None:
                return _onward(ids, place, count)
        return ()


def _onward(ids: Sequence[int], place: int, count: int) -> tuple[int, ...]:
    """Return what stands from a place on; a text that ends before begins there again.

    So a text that repeats a few tokens is guessed as far as wanted, and not one period at a time.
    """
    found = list(ids[place : place + count])
    period = len(ids) - place
    while len(found) < count:
        found.append(found[-period])
    return tuple(found)
