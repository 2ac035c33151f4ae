"""Which sequences read how many tokens in the next step, and which must wait.

Every step reads at most `tokens_a_step` tokens: first one of each sequence that writes, then pieces
of prompts, then prompts of sequences that join. Where pages run out, the sequence of lowest rank
gives its own back and waits; it will read its text again and write on as if nothing had happened.
Users of equal priority are served evenly: the next to join is of the user who was served least.
Source of the counters: Sheng et al. 2024, Fairness in Serving Large Language Models (VTC),
arXiv:2401.00588.
"""

from collections import Counter
from dataclasses import dataclass

from puna.infer.pages import PagePool
from puna.infer.sequence import TokenSequence

WRITING_COSTS = 2  # a token written counts as two tokens read; the weights of VTC's evaluation
REMEMBERED_USERS = 10_000
TOLD_TOKENS = 64  # of a prompt whose logits are all wanted, read at once: bounds their memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one sequence reads in one step."""

    sequence: TokenSequence
    count: int  # known tokens
    drafts: int = 0  # guesses that there is room for
    wants_all: bool = False  # the logits after every token: the request asks for its prompt's


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One step: pages to copy first, then what is read."""

    turns: tuple[Turn, ...]
    copies: tuple[tuple[int, int], ...] = ()  # from one page onto another, in this order


class Scheduler:
    """Sequences that wait, sequences that run, and the pages that they hold."""

    def __init__(
        self, pool: PagePool, *, most_running: int, tokens_a_step: int, lanes: int = 1
    ) -> None:
        self.pool = pool
        self.lanes = lanes  # steps that are under way together; each takes its share of the turns
        self.most_running, self.tokens_a_step = most_running, tokens_a_step
        self.waiting: list[TokenSequence] = []
        self.running: list[TokenSequence] = []
        self.preemptions = 0
        self._served: Counter[str] = Counter()

    def add(self, sequence: TokenSequence) -> None:
        """Let a sequence wait for its first turn; a user who comes anew starts with the others."""
        active = {other.user for other in (*self.waiting, *self.running)}
        if not active and len(self._served) > REMEMBERED_USERS:
            self._served.clear()
        if active and sequence.user not in active:
            least = min(self._served[user] for user in active)
            self._served[sequence.user] = max(self._served[sequence.user], least)
        self.waiting.append(sequence)

    def join(self, sequence: TokenSequence) -> None:
        """Let a sample run that holds the pages of its sibling; they are counted here."""
        for page in sequence.pages:
            self.pool.hold(page)
        sequence.is_running = True
        self.running.append(sequence)

    def remove(self, sequence: TokenSequence) -> None:
        """Forget a sequence that ended and take its pages back."""
        (self.running if sequence.is_running else self.waiting).remove(sequence)
        self._give_back(sequence)

    def advance(self, sequence: TokenSequence, tokens: int) -> None:
        """Note that a sequence read more of its tokens; let its full pages be found."""
        Z = self.pool.page_tokens
        full = sequence.held // Z
        sequence.held += tokens
        for page in range(full, sequence.held // Z):
            self.pool.keep(sequence.pages[page], sequence.key(page, Z))

    def plan(self) -> Plan:
        """Decide the next step; sequences without room are preempted on the way."""
        turns: dict[int, Turn] = {}
        copies: list[tuple[int, int]] = []
        budget = self.tokens_a_step
        most = self._most_turns()
        ranked = sorted(self.running, key=TokenSequence.rank)
        ranked = [sequence for sequence in ranked if not sequence.flight]
        writing = [sequence for sequence in ranked if sequence.unread == 1]
        for sequence in (*writing, *(other for other in ranked if other.unread > 1)):
            if budget and len(turns) < most and sequence.is_running:
                turn = self._turn(sequence, budget, turns, copies)
                budget -= 0 if turn is None else turn.count + turn.drafts
        while budget and (len(turns) < most or self._is_urgent()) and self._admit_next(turns):
            turn = self._turn(self.running[-1], budget, turns, copies)
            budget -= 0 if turn is None else turn.count + turn.drafts
        for turn in turns.values():
            is_writing = turn.sequence.written > 0
            self._served[turn.sequence.user] += turn.count * (WRITING_COSTS if is_writing else 1)
        return Plan(turns=tuple(turns.values()), copies=tuple(copies))

    def _most_turns(self) -> int:
        """Return how many sequences a step may read, so that every lane gets its share."""
        if self.lanes == 1:
            return self.tokens_a_step
        return -(-min(self.most_running, len(self.running) + len(self.waiting)) // self.lanes)

    def _is_urgent(self) -> bool:
        """Whether a sequence waits that goes before one that runs."""
        if not self.waiting or not self.running:
            return False
        lowest = min(sequence.request.priority for sequence in self.running)
        return max(sequence.request.priority for sequence in self.waiting) > lowest

    def _turn(
        self,
        sequence: TokenSequence,
        budget: int,
        turns: dict[int, Turn],
        copies: list[tuple[int, int]],
    ) -> Turn | None:
        """Give a running sequence pages for its next tokens, or preempt it."""
        self._adopt(sequence)
        wants_all = sequence.request.prompt_logprobs is not None and not sequence.written
        count = min(sequence.unread, budget, TOLD_TOKENS if wants_all else budget)
        drafts = 0
        if sequence.unread == 1:
            drafts = min(sequence.drafts_wanted, budget - 1)
            if self._missing(sequence, 1 + drafts) > self.pool.free:
                drafts = 0
        while self._missing(sequence, count) > self.pool.free:
            victim = max(self.running, key=TokenSequence.rank)
            self._preempt(victim)
            turns.pop(id(victim), None)
            if victim is sequence:
                return None
        self._make_own(sequence, copies)
        pages = -(-(sequence.held + count + drafts) // self.pool.page_tokens)
        while len(sequence.pages) < pages:
            sequence.pages.append(self.pool.take())
        turn = Turn(sequence=sequence, count=count, drafts=drafts, wants_all=wants_all)
        turns[id(sequence)] = turn
        return turn

    def _missing(self, sequence: TokenSequence, tokens: int) -> int:
        """Return how many pages it must take to read so many tokens."""
        pages = -(-(sequence.held + tokens) // self.pool.page_tokens) - len(sequence.pages)
        return max(pages, 0) + self._tail_is_shared(sequence)

    def _tail_is_shared(self, sequence: TokenSequence) -> bool:
        """Whether the page that it writes next is held by others too."""
        at = sequence.held // self.pool.page_tokens
        return at < len(sequence.pages) and self.pool.holders(sequence.pages[at]) > 1

    def _make_own(self, sequence: TokenSequence, copies: list[tuple[int, int]]) -> None:
        """Copy the page that it writes next, if others hold it too."""
        if self._tail_is_shared(sequence):
            at = sequence.held // self.pool.page_tokens
            shared, own = sequence.pages[at], self.pool.take()
            copies.append((shared, own))
            self.pool.release([shared])
            sequence.pages[at] = own

    def _adopt(self, sequence: TokenSequence) -> None:
        """Hold the pages of the pool that continue what it has read; one token stays to read."""
        Z = self.pool.page_tokens
        most = (len(sequence.ids) - 1) // Z
        if sequence.request.prompt_logprobs is not None and not sequence.written:
            return
        while sequence.held == len(sequence.pages) * Z and len(sequence.pages) < most:
            page = self.pool.find(sequence.key(len(sequence.pages), Z))
            if page is None:
                return
            self.pool.hold(page)
            sequence.pages.append(page)
            sequence.held += Z
            sequence.adopted = sequence.held

    def _admit_next(self, turns: dict[int, Turn]) -> bool:
        """Let the next sequence that waits join the running ones, if there is room."""
        if not self.waiting:
            return False
        sequence = min(self.waiting, key=self._turn_of)
        if not self._has_place(sequence, turns):
            return False
        self._adopt(sequence)
        if self.running and self._to_take(sequence) > self.pool.free - self._promised():
            self._give_back(sequence)
            return False
        self.waiting.remove(sequence)
        sequence.is_running, sequence.was_preempted = True, False
        self.running.append(sequence)
        return True

    def _turn_of(self, sequence: TokenSequence) -> tuple[int, bool, int, int]:
        """Return the order of joining: priority, the preempted, who was served least, age."""
        first = not sequence.was_preempted
        return (-sequence.request.priority, first, self._served[sequence.user], sequence.number)

    def _has_place(self, sequence: TokenSequence, turns: dict[int, Turn]) -> bool:
        """Whether it may run beside the others; one of lower priority makes way for it."""
        wanted = 1 + sequence.samples_to_come
        while sum(1 + other.samples_to_come for other in self.running) + wanted > self.most_running:
            last = max(self.running, key=TokenSequence.rank)
            if last.request.priority >= sequence.request.priority:
                return False
            self._preempt(last)
            turns.pop(id(last), None)
        return True

    def _to_take(self, sequence: TokenSequence) -> int:
        """Return how many pages it will take until it writes its first token."""
        pages = -(-(len(sequence.ids) + 1) // self.pool.page_tokens) - len(sequence.pages)
        return max(pages, 0) + sequence.samples_to_come

    def _promised(self) -> int:
        """Return how many of the free pages the running sequences will take soon."""
        return sum(max(1, self._to_take(sequence)) for sequence in self.running)

    def _preempt(self, sequence: TokenSequence) -> None:
        self.running.remove(sequence)
        sequence.is_running, sequence.was_preempted = False, True
        self._give_back(sequence)
        self.waiting.append(sequence)
        self.preemptions += 1

    def _give_back(self, sequence: TokenSequence) -> None:
        self.pool.release(sequence.pages)
        sequence.pages, sequence.held, sequence.flight = [], 0, 0
        sequence.adopted = sequence.drafted = 0
