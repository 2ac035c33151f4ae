"""One engine over many processes: rank 0 decides and samples, every rank reads its share.

Before each step rank 0 sends the others what it will read (`puna.parallel.line`): the same parts
and the same pages, since every rank keeps its own heads and layers of the same pages. Stages work
at the same time on as many steps as there are stages: when the first stage has handed a step on, it
begins the next, with other sequences, before the logits of the first have come back. Source: The
Llama 3 Herd of Models, section 6.1 (micro-batches in pipeline-parallel inference).
"""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from puna.errors import StateError
from puna.infer.paged import TorchPages
from puna.infer.room import EngineConfig, cache_pages
from puna.infer.runner import Part
from puna.model.llama import Llama
from puna.parallel.line import Follower, Leader
from puna.parallel.links import Links

Copies = Sequence[tuple[int, int]]


def own_pages(model: Llama, links: Links, config: EngineConfig) -> TorchPages:
    """Return this rank's share of the cache; all ranks have as many pages as the poorest can."""
    pages = cache_pages(model, config)
    if config.cache_tokens is None and links.device.type == "cpu":
        pages = max(1, pages // links.mesh.neighbours)  # which share one memory
    pages = links.least(pages)
    return TorchPages(model, pages, page_tokens=config.page_tokens, dtype=config.cache_dtype)


class LeadingPages:
    """The cache of all ranks, as the engine on rank 0 sees it."""

    is_exact = False

    def __init__(self, own: TorchPages, links: Links, line: Leader) -> None:
        self._own, self._links, self._line = own, links, line
        self._vocab = own.config.vocab
        self.pages, self.page_tokens = own.pages, own.page_tokens
        self.lanes = links.mesh.pipeline
        self._copies: list[tuple[int, int]] = []

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read the tokens of every part; return logits as `Runner.step` describes."""
        return self.begin(parts)()

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        """Let every rank read; return what waits for the logits.

        Raises:
            StateError: a rank is gone.
        """
        self._line.say(encode(self._copies, parts))
        self._copies = []
        try:
            with self._links.turn():
                logits = self._own.read(parts)
        except RuntimeError as error:
            raise self._lost(error) from error
        if self.lanes == 1:
            return lambda: logits
        rows = logits.shape[0]
        return lambda: self._wait(rows)

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another, here now and elsewhere before the next step."""
        self._own.copy(source, target)
        self._copies.append((source, target))

    def _wait(self, rows: int) -> Tensor:
        self._line.check()
        try:
            return self._links.hear(rows, self._vocab)
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> StateError:
        return error if isinstance(error, StateError) else self._line.lose(error)


def follow(own: TorchPages, links: Links, line: Follower) -> None:
    """Read what rank 0 reads, until it ends the work.

    Raises:
        StateError: another rank is gone.
    """
    tells = not links.mesh.is_first and links.mesh.rank == links.mesh.teller
    while (message := line.hear()) is not None:
        copies, parts = decode(message)
        try:
            for source, target in copies:
                own.copy(source, target)
            with links.turn():
                logits = own.read(parts)
            if tells:
                links.tell(logits)
        except RuntimeError as error:
            raise line.lose(error) from error


def encode(copies: Copies, parts: Sequence[Part]) -> list[int]:
    """Return copies of pages and parts as numbers."""
    numbers = [len(copies), *(page for pair in copies for page in pair)]
    for part in parts:
        numbers += (part.held, int(part.wants_all), len(part.ids), len(part.pages))
        numbers += (*part.ids, *part.pages)
    return numbers


def decode(numbers: Sequence[int]) -> tuple[list[tuple[int, int]], list[Part]]:
    """Return what `encode` was given."""
    left = iter(numbers)
    copies = [(next(left), next(left)) for _ in range(next(left))]
    return copies, list(_parts(left))


def _parts(left: Iterator[int]) -> Iterator[Part]:
    for held in left:
        wants_all, ids, pages = bool(next(left)), next(left), next(left)
        yield Part(
            ids=[next(left) for _ in range(ids)],
            held=held,
            pages=[next(left) for _ in range(pages)],
            wants_all=wants_all,
        )
