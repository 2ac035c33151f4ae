"""Many requests, one model: submit, step, and read the events; an engine is one verb.

`submit` puts a request into a bounded queue, `step` reads the next tokens of as many sequences as
fit and draws theirs, `cancel` ends a request and gives its pages back. Any thread may submit and
cancel; one thread steps (`puna.infer.driver`). What a request writes depends on the request alone:
on the native kernels to the bit, whoever else is served, however its prompt was divided, however
often it was preempted, drafted for or found in the cache; where torch computes, up to the rounding
of logits. `puna.infer.generate` is the simple loop that says what is right.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock, RLock

from torch import Tensor

from puna.errors import PunaError, RequestError
from puna.infer.constraints import Constraint, Constraints
from puna.infer.flight import Flight, part_of
from puna.infer.group import Group
from puna.infer.measure import Measures, Stats
from puna.infer.paged import PagedModel, paged_model
from puna.infer.pages import PagePool
from puna.infer.pick import Picked, Picker
from puna.infer.request import BusyError, Event, Request
from puna.infer.room import EngineConfig, cache_pages, limit_in
from puna.infer.scheduler import Plan, Scheduler, Turn
from puna.infer.sequence import TokenSequence
from puna.infer.speculative import (
    DraftModel,
    Guesser,
    Guesses,
    PromptLookup,
    allowed_guesses,
    learn,
    wish,
)
from puna.model.llama import Llama
from puna.tokenizer.interface import Tokenizer

__all__ = ["BusyError", "Engine", "EngineConfig", "Event", "Request"]


class Engine:
    """A model that serves many requests at once."""

    def __init__(
        self,
        model: Llama,
        tokenizer: Tokenizer | None = None,
        config: EngineConfig | None = None,
        *,
        draft: Llama | None = None,
        paged: PagedModel | None = None,
        stop_ids: frozenset[int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a model into service.

        Args:
            tokenizer: for stop strings and constraints; ids need none.
            draft: a smaller model of the same vocabulary that guesses `config.draft_tokens`; None
                guesses from the text itself.
            paged: the model with its cache, where it is more than this process; None makes one.
            stop_ids: ids that end a sample; None takes the tokenizer's.
            clock: seconds, for deadlines and statistics.
        """
        self.config = config or EngineConfig()
        self.model, self.tokenizer = model, tokenizer
        known = frozenset() if tokenizer is None else tokenizer.stop_ids
        self.stop_ids = known if stop_ids is None else stop_ids
        self._clock = clock
        self._paged = paged or paged_model(
            model, cache_pages(model, self.config), page_tokens=self.config.page_tokens,
            dtype=self.config.cache_dtype, is_native=self.config.is_native,
        )  # fmt: skip
        self.pages = PagePool(self._paged.pages, self._paged.page_tokens)
        self.is_exact = self._paged.is_exact
        self._scheduler = Scheduler(
            self.pages,
            most_running=self.config.most_running,
            tokens_a_step=self.config.tokens_a_step,
            lanes=self._paged.lanes,
        )
        self._flights: deque[Flight] = deque()  # oldest first
        self._guesser: Guesser | None = None
        if draft is not None:
            self._guesser = DraftModel(
                draft, self.pages.pages, self.config, vocab=model.config.vocab
            )
        elif self.config.draft_tokens:
            self._guesser = PromptLookup()
        self._constraints = None
        if tokenizer is not None:
            self._constraints = Constraints(
                tokenizer, vocab=model.config.vocab, stop_ids=self.stop_ids
            )
        self._groups: dict[int, Group] = {}
        self._handles, self._numbers, self._flown = count(1), count(1), count(1)
        self._stepping = RLock()  # held by a step, and by what must not happen during one
        self._door = Lock()  # held for moments only: what comes in between steps
        self._arrived: deque[tuple[Group, TokenSequence]] = deque()
        self._cancelled: deque[int] = deque()
        self._late: list[Event] = []  # of what ended between steps
        self._measures = Measures(clock)

    def submit(self, request: Request) -> int:
        """Let a request wait for its turn and return its handle, which its events carry.

        Raises:
            BusyError: the queue is full.
            ContextError: the request can never fit the context or the cache.
            RequestError: an argument of the request is wrong.
        """
        limit = limit_in(
            self.config, request, self.model.config, self.pages, has_text=self.tokenizer is not None
        )
        picker = self._picker(request, 0)
        with self._door:
            waiting = len(self._arrived) + len(self._scheduler.waiting)
            if waiting >= self.config.queue_limit:
                self._measures.refused += 1
                retry_after_s = self._measures.retry_after_s()
                raise BusyError(
                    f"engine: {waiting} requests wait already; at most {self.config.queue_limit} "
                    f"may. Ask again in {retry_after_s:.0f} s.",
                    retry_after_s=retry_after_s,
                )
            handle = next(self._handles)
            group = Group(handle=handle, request=request, submitted_s=self._clock())
            sequence = TokenSequence(
                request, picker, handle=handle, number=next(self._numbers), limit=limit,
                tokenizer=self.tokenizer,
            )  # fmt: skip
            sequence.samples_to_come = request.samples - 1
            self._arrived.append((group, sequence))
        return handle

    def prepare_constraint(self, constraint: Constraint) -> None:
        """Compile a constraint now, so that `submit` of a request with it takes no time.

        Raises:
            RequestError: it is no schema, expression or grammar.
        """
        if self._constraints is not None:
            self._constraints.matcher(constraint)

    def cancel(self, handle: int) -> None:
        """End a request; its pages are free at once, or after the step that runs. Twice is once."""
        self._cancelled.append(handle)
        if self._stepping.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._stepping.release()

    @property
    def has_work(self) -> bool:
        """Whether a step would do or tell anything."""
        waits = self._arrived or self._cancelled or self._late
        return bool(waits or self._groups or self._flights)

    def step(self) -> list[Event]:
        """Read the next tokens of the sequences whose turn it is; return what happened."""
        with self._stepping:
            self._settle()
            events, self._late = self._late, []
            for sequence in self._scheduler.running:
                wish(sequence, self.config.draft_tokens)
            plan = self._scheduler.plan()
            if plan.turns:
                self._flights.append(self._begin(plan))
            is_full = len(self._flights) == self._paged.lanes
            if self._flights and (is_full or not plan.turns):
                for turn, own, logits in self._flights.popleft().land():
                    events += self._read(turn, own, logits)
            return events

    def _begin(self, plan: Plan) -> Flight:
        """Let the model read what was planned."""
        for source, target in plan.copies:
            self._paged.copy(source, target)
            if self._guesser is not None:
                self._guesser.copy(source, target)
        guesses = self._guess(plan.turns)
        parts = [part_of(turn, own) for turn, own in zip(plan.turns, guesses, strict=True)]
        number = next(self._flown)
        for turn in plan.turns:
            turn.sequence.flight = number
        self._note_begun(plan.turns)
        wait = self._paged.begin(parts)
        self._measures.note_step(parts)
        return Flight(number=number, turns=plan.turns, guesses=guesses, parts=parts, wait=wait)

    def fail(self, error: BaseException) -> list[Event]:
        """End every request because a step went wrong; all pages come back."""
        with self._stepping:
            self._settle()
            with contextlib.suppress(PunaError):  # what is under way must be taken, if it comes
                while self._flights:
                    self._flights.popleft().wait()
            self._flights.clear()
            for handle in list(self._groups):
                self._end_group(handle, "error", error=str(error))
            events, self._late = self._late, []
            return events

    def stats(self) -> Stats:
        """Return what the engine does and has done."""
        return self._measures.stats(self._scheduler, arrived=len(self._arrived))

    # What comes in

    def _picker(self, request: Request, index: int) -> Picker:
        matcher = None
        if request.constraint is not None:
            if self._constraints is None:
                raise RequestError(
                    "engine: a constraint was given and the engine has no tokenizer; text needs "
                    "one. Give the engine the model's tokenizer."
                )
            matcher = self._constraints.matcher(request.constraint)
        return Picker(
            request,
            index=index,
            vocab=self.model.config.vocab,
            stop_ids=self._stops_of(request),
            matcher=matcher,
            device=self.model.embed.weight.device,
        )

    def _stops_of(self, request: Request) -> frozenset[int]:
        own = frozenset(request.stop_ids)
        return own if request.ignore_eos else own | self.stop_ids

    def _settle(self) -> None:
        """Take in what arrived, was cancelled or is too late."""
        with self._door:
            while self._arrived:
                group, sequence = self._arrived.popleft()
                self._groups[group.handle] = group
                group.running.append(sequence)
                self._scheduler.add(sequence)
                self._measures.note_request(group.request)
        while self._cancelled:
            self._end_group(self._cancelled.popleft(), "cancelled")
        now = self._clock()
        for handle in [handle for handle, group in self._groups.items() if group.is_late(now)]:
            self._end_group(handle, "deadline")

    # What goes out

    def _note_begun(self, turns: Sequence[Turn]) -> None:
        now = self._clock()
        for turn in turns:
            group = self._groups[turn.sequence.handle]
            if not group.has_begun:
                group.begin(now, cached_tokens=turn.sequence.held)
                self._measures.cached_tokens += turn.sequence.held

    def _guess(self, turns: Sequence[Turn]) -> list[Guesses]:
        """Return guesses for the sequences that write; a constraint knows best."""
        if self._guesser is None:
            return [()] * len(turns)
        return [
            allowed_guesses(turn, own)
            for turn, own in zip(turns, self._guesser.guess(turns), strict=True)
        ]

    def _read(self, turn: Turn, guesses: Guesses, logits: Tensor) -> list[Event]:
        """Note what a sequence has read; where that was all, write its next tokens."""
        sequence = turn.sequence
        group = self._groups[sequence.handle]
        if group.wants_prompt(sequence):
            group.read_prompt(sequence.ids, sequence.held, logits)
        self._scheduler.advance(sequence, turn.count)
        if sequence.unread:
            return []
        events: list[Event] = []
        for sample in (sequence, *self._forks(group, sequence)):
            events += self._write(group, sample, guesses, logits[-1 - len(guesses) :])
        return events

    def _forks(self, group: Group, sequence: TokenSequence) -> list[TokenSequence]:
        """Let the other samples of a prompt that was read run too; they share its pages."""
        forks = [
            sequence.fork(
                self._picker(sequence.request, index), index=index, number=next(self._numbers),
                tokenizer=self.tokenizer,
            )
            for index in range(1, 1 + sequence.samples_to_come)
        ]  # fmt: skip
        sequence.samples_to_come = 0
        for fork in forks:
            self._scheduler.join(fork)
            group.running.append(fork)
        return forks

    def _write(
        self, group: Group, sequence: TokenSequence, guesses: Sequence[int], logits: Tensor
    ) -> list[Event]:
        """Draw the next token of a sample, and one more for every guess that was right."""
        new: list[Picked] = []
        reason: str | None = "length" if sequence.limit == 0 else None
        stopped_by: str | int | None = None
        error: str | None = None
        for row, guess in zip(logits, (*guesses, None), strict=True):
            if reason is not None:
                break
            try:
                picked = sequence.picker.pick(row)
            except RequestError as problem:
                reason, error = "error", str(problem)
                break
            new.append(picked)
            sequence.write(picked)
            reason, stopped_by = self._why_ended(sequence, picked.id)
            if picked.id != guess:
                break
        right = max(0, len(new) - 1)
        self._scheduler.advance(sequence, right)
        learn(sequence, guessed=len(guesses), right=right, most=self.config.draft_tokens)
        self._measures.drafted_tokens += len(guesses)
        self._measures.accepted_tokens += right
        self._measures.written_tokens += len(new)
        told = [picked.logprob for picked in new if picked.logprob is not None]
        event = Event(
            handle=group.handle,
            index=sequence.index,
            ids=tuple(picked.id for picked in new),
            logprobs=() if sequence.request.logprobs is None else tuple(told),
            finish_reason=reason,
            stopped_by=stopped_by,
            error=error,
        )
        return self._tell(group, sequence, event)

    def _why_ended(
        self, sequence: TokenSequence, token: int
    ) -> tuple[str | None, str | int | None]:
        """Return finish reason and what stopped a sample at its newest token, if anything did."""
        if token in self._stops_of(sequence.request):
            return "stop", token
        found = sequence.ends_with_stop(token)
        if found is not None:
            return "stop", found
        matcher = sequence.picker.matcher
        if matcher is not None and matcher.is_done:
            return "stop", None
        return ("length", None) if sequence.written >= sequence.limit else (None, None)

    def _end_group(self, handle: int, reason: str, *, error: str | None = None) -> None:
        group = self._groups.get(handle)
        for sequence in [] if group is None else list(group.running):
            assert group is not None
            event = Event(handle=handle, index=sequence.index, finish_reason=reason, error=error)
            self._late += self._tell(group, sequence, event)

    def _tell(self, group: Group, sequence: TokenSequence, event: Event) -> list[Event]:
        """Return the events that go out; a sample that ended gives its pages back."""
        now = self._clock()
        events = group.tell(sequence, event, now)
        if event.finish_reason is not None:
            self._scheduler.remove(sequence)
            if not group.running:
                del self._groups[group.handle]
                self._measures.note_end(event.finish_reason, now - group.submitted_s)
        return events
