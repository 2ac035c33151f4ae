"""What holds for pages and scheduler whatever comes: nothing is owned twice, all comes back."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from puna.errors import StateError
from puna.infer.engine import Engine, EngineConfig, Request
from puna.infer.generate import generate_ids
from puna.infer.pages import PagePool, first_key, next_key
from puna.infer.sampling import SamplingConfig
from tests.infer.engines import BACKENDS, collect, written_log
from tests.infer.tiny import GREEDY, prompts_of, tiny_model

MODEL = tiny_model(context=64)


class Pool(RuleBasedStateMachine):
    """The pool beside a model of it that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(5, 4)
        self.held: list[int] = []  # one entry a holder
        self.keys: dict[bytes, int] = {}

    @rule()
    def take(self) -> None:
        if not self.pool.free:
            with pytest.raises(StateError, match="all 5 pages are held"):
                self.pool.take()
            return
        page = self.pool.take()
        assert page not in self.held
        self.keys = {key: other for key, other in self.keys.items() if other != page}
        self.held.append(page)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(self.held))
        self.held.remove(page)
        self.pool.release([page])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), text=st.integers(0, 6))
    def keep(self, data: st.DataObject, text: int) -> None:
        page, key = data.draw(st.sampled_from(self.held)), next_key(first_key(""), [text])
        self.pool.keep(page, key)
        if key not in self.keys and page not in self.keys.values():
            self.keys[key] = page

    @rule(text=st.integers(0, 6))
    def find(self, text: int) -> None:
        key = next_key(first_key(""), [text])
        page = self.pool.find(key)
        assert page == self.keys.get(key)
        if page is not None:
            self.pool.hold(page)
            self.held.append(page)

    @rule()
    def forget(self) -> None:
        self.pool.forget()
        self.keys.clear()

    @invariant()
    def counts_agree(self) -> None:
        holders = Counter(self.held)
        assert all(self.pool.holders(page) == holders[page] for page in range(5))
        assert self.pool.free == 5 - len(holders)
        assert self.pool.kept == len(self.keys)


class Service(RuleBasedStateMachine):
    """An engine with too few pages, whatever is submitted, cancelled and stepped."""

    @initialize(
        native=st.sampled_from(BACKENDS),
        pages=st.integers(12, 20),
        tokens=st.integers(5, 24),
        drafts=st.sampled_from([0, 3]),
        with_model=st.booleans(),
    )
    def start(self, native: bool, pages: int, tokens: int, drafts: int, with_model: bool) -> None:
        config = EngineConfig(
            page_tokens=4, most_running=5, tokens_a_step=tokens, cache_tokens=4 * pages,
            draft_tokens=drafts, is_native=native,
        )  # fmt: skip
        self.engine = Engine(MODEL, None, config, draft=MODEL if drafts and with_model else None)
        self.log = written_log()
        self.requests: dict[int, Request] = {}
        self.cancelled: set[int] = set()

    @rule(
        length=st.integers(1, 22),
        share=st.integers(0, 16),
        count=st.integers(1, 18),
        samples=st.integers(1, 3),
        priority=st.integers(0, 1),
        user=st.sampled_from("ab"),
        is_warm=st.booleans(),
    )
    def submit(
        self, length: int, share: int, count: int, samples: int, priority: int, user: str,
        is_warm: bool,
    ) -> None:  # fmt: skip
        common, own = prompts_of([length, length], seed=3)[0], prompts_of([length], seed=length)[0]
        warm = SamplingConfig(temperature=1.0, top_p=0.9, seed=length)
        request = Request(
            ids=common[:share] + own[share:], sampling=warm if is_warm else GREEDY,
            max_tokens=count, n=samples, priority=priority, user=user,
        )  # fmt: skip
        self.requests[self.engine.submit(request)] = request

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            collect(self.engine.step(), self.log)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.requests)))
        self.engine.cancel(handle)
        self.cancelled.add(handle)

    @invariant()
    def pages_are_held_as_often_as_sequences_have_them(self) -> None:
        if not hasattr(self, "engine"):
            return
        scheduler, pool = self.engine._scheduler, self.engine.pages
        holders = Counter(page for sequence in scheduler.running for page in sequence.pages)
        assert all(pool.holders(page) == holders[page] for page in range(pool.pages))
        assert pool.free == pool.pages - len(holders)
        assert not any(sequence.pages for sequence in scheduler.waiting)
        for sequence in scheduler.running:
            assert len(set(sequence.pages)) == len(sequence.pages)
            writes = sequence.pages[sequence.held // pool.page_tokens :]
            if sequence.held % pool.page_tokens == 0:
                assert all(pool.holders(page) == 1 for page in writes)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for _ in range(2000):
            if not self.engine.has_work:
                break
            collect(self.engine.step(), self.log)
        assert not self.engine.has_work
        assert self.engine.pages.free == self.engine.pages.pages
        for handle, request in self.requests.items():
            self._check(handle, request)

    def _check(self, handle: int, request: Request) -> None:
        """Each sample wrote what the simple loop writes, or the beginning of it."""
        assert sorted(self.log[handle]) == list(range(request.n))
        for index, sample in self.log[handle].items():
            seed = request.sampling.seed
            config = request.sampling if seed is None else SamplingConfig(
                temperature=1.0, top_p=0.9, seed=seed + index
            )  # fmt: skip
            (loop,) = generate_ids(
                MODEL, [request.ids], max_tokens=request.max_tokens, sampling=config
            )
            if handle not in self.cancelled:
                assert sample.finish_reason == "length"
                assert sample.ids == list(loop.ids)
            assert sample.ids == list(loop.ids[: len(sample.ids)])
            assert sample.finish_reason in ("length", "cancelled")


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestService = Service.TestCase
TestService.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


def test_keys_tell_every_text_from_every_other() -> None:
    one = next_key(next_key(first_key(""), [1, 2]), [3, 4])
    assert one == next_key(next_key(first_key(""), [1, 2]), [3, 4])
    others = (
        next_key(next_key(first_key(""), [1]), [2, 3, 4]),
        next_key(next_key(first_key("a"), [1, 2]), [3, 4]),
        next_key(first_key(""), [1, 2, 3, 4]),
    )
    assert one not in others
    assert len(set(others)) == 3


def test_what_was_left_longest_ago_is_forgotten_first_and_ends_before_beginnings() -> None:
    pool = PagePool(4, 2)
    first, second = [pool.take(), pool.take()], [pool.take(), pool.take()]
    keys = [next_key(first_key(""), [page]) for page in range(4)]
    for page in (*first, *second):
        pool.keep(page, keys[page])
    pool.release(first)
    pool.release(second)
    assert [pool.take() for _ in range(4)] == [first[1], first[0], second[1], second[0]]
    assert pool.forgotten == 4
