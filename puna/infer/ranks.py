"""One engine over many processes: rank 0 decides and samples, every rank reads its share.

Before each step rank 0 sends the others what it will read (`puna.parallel.line`): the same parts
and the same pages, since every rank keeps its own heads and layers of the same pages. Stages work
at the same time on as many steps as there are stages: when the first stage has handed a step on, it
begins the next, with other sequences, before the logits of the first have come back. Source: The
Llama 3 Herd of Models, section 6.1 (micro-batches in pipeline-parallel inference).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

import torch
from torch import Tensor

from puna.errors import StateError
from puna.infer.paged import TorchPages
from puna.infer.room import EngineConfig, cache_pages
from puna.infer.runner import Part
from puna.model.llama import Llama
from puna.parallel.apply import Share
from puna.parallel.line import Follower, Leader
from puna.parallel.links import Links

Copies = Sequence[tuple[int, int]]
_STEP, _STATES = 0, 1  # the second number of a message; the first is the model's


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What one rank has of a model: its share of the weights and of the cache."""

    model: Share
    pages: TorchPages

    @torch.inference_mode()
    def states(self, ids: Sequence[int]) -> Tensor:
        """Read a text by itself; return what this stage makes of it, [T, D] in float32."""
        given = torch.tensor([list(ids)], device=self.model.embed.weight.device)
        return Llama.hidden(self.model, given)[0].float()  # and not what `ask` gives


def own_part(model: Share, links: Links, config: EngineConfig) -> Own:
    """Return this rank's part with its cache; all ranks have as many pages as the poorest can."""
    pages = cache_pages(model, config)
    if config.cache_tokens is None and links.device.type == "cpu":
        pages = max(1, pages // links.mesh.neighbours)  # which share one memory
    pages = links.least(pages)
    cache = TorchPages(model, pages, page_tokens=config.page_tokens, dtype=config.cache_dtype)
    return Own(model=model, pages=cache)


@dataclass(slots=True)
class _Awaited:
    """A result that the last stage will send, in the order in which the work was begun."""

    rows: int
    width: int
    heard: Tensor | None = None


class Conductor:
    """Lets all ranks do one thing at a time, whichever of the models on the mesh it is for."""

    def __init__(self, links: Links, line: Leader) -> None:
        self.links, self._line = links, line
        self._turn = Lock()  # of threads: an engine each, and those that want states
        self._awaited: deque[_Awaited] = deque()

    def begin(
        self, message: Sequence[int], work: Callable[[], Tensor], width: int
    ) -> Callable[[], Tensor]:
        """Tell the others what to do, do this rank's part, return what waits for the result.

        Args:
            work: returns as many rows as the result has.
            width: of the result.
        Raises:
            StateError: a rank is gone.
        """
        with self._turn:
            self._line.say(message)
            try:
                with self.links.turn():
                    own = work()
            except RuntimeError as error:
                raise self._lost(error) from error
            if self.links.mesh.pipeline == 1:
                return lambda: own
            awaited = _Awaited(len(own), width)
            self._awaited.append(awaited)
        return partial(self._wait, awaited)

    def _wait(self, wanted: _Awaited) -> Tensor:
        with self._turn:
            while wanted.heard is None:
                self._line.check()
                oldest = self._awaited.popleft()
                try:
                    oldest.heard = self.links.hear(oldest.rows, oldest.width)
                except RuntimeError as error:
                    raise self._lost(error) from error
        return wanted.heard

    def _lost(self, error: RuntimeError) -> StateError:
        return error if isinstance(error, StateError) else self._line.lose(error)


class LeadingPages:
    """The cache of all ranks, as the engine of one model on rank 0 sees it."""

    is_exact = False

    def __init__(self, own: Own, conductor: Conductor, number: int = 0) -> None:
        """Take part of a model into service.

        Args:
            number: of the model among those on the mesh, the same on every rank.
        """
        self._own, self._conductor, self._number = own, conductor, number
        self.pages, self.page_tokens = own.pages.pages, own.pages.page_tokens
        self.lanes = conductor.links.mesh.pipeline
        self._copies: list[tuple[int, int]] = []
        own.model.ask = self._ask

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read the tokens of every part; return logits as `Runner.step` describes."""
        return self.begin(parts)()

    def begin(self, parts: Sequence[Part]) -> Callable[[], Tensor]:
        """Let every rank read; return what waits for the logits.

        Raises:
            StateError: a rank is gone.
        """
        message = [self._number, _STEP, *encode(self._copies, parts)]
        self._copies = []
        own = self._own
        return self._conductor.begin(message, lambda: own.pages.read(parts), own.model.config.vocab)

    def copy(self, source: int, target: int) -> None:
        """Copy a page onto another, here now and elsewhere before the next step."""
        self._own.pages.copy(source, target)
        self._copies.append((source, target))

    def states(self, ids: Sequence[int]) -> Tensor:
        """Let every rank read a text by itself; return the states that the head would read."""
        own, message = self._own, [self._number, _STATES, *ids]
        return self._conductor.begin(message, lambda: own.states(ids), own.model.config.width)()

    def _ask(self, ids: Tensor) -> Tensor:
        return torch.stack([self.states(row) for row in ids.tolist()])


def follow(models: Sequence[Own], links: Links, line: Follower) -> None:
    """Do what rank 0 says, until it ends the work.

    Args:
        models: in the order of their numbers.
    Raises:
        StateError: another rank is gone.
    """
    tells = not links.mesh.is_first and links.mesh.rank == links.mesh.teller
    while (message := line.hear()) is not None:
        number, kind, *rest = message
        try:
            with links.turn():
                result = _do(models[number], kind, rest)
            if tells:
                links.tell(result)
        except RuntimeError as error:
            raise line.lose(error) from error


def _do(own: Own, kind: int, rest: Sequence[int]) -> Tensor:
    if kind == _STATES:
        return own.states(rest)
    copies, parts = decode(rest)
    for source, target in copies:
        own.pages.copy(source, target)
    return own.pages.read(parts)


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
