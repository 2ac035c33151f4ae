"""Requests go where their beginning is known, and no replica is buried."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import ConfigError, StateError
from puna.serve.replicas.balance import Balance, BalanceConfig, Wanted


def keys(text: str) -> tuple[bytes, ...]:
    """Keys of a text whose pieces are letters."""
    return tuple(text[: end + 1].encode() for end in range(len(text)))


def balance_of(*replicas: str, **config: float) -> Balance:
    balance = Balance(BalanceConfig(**config))
    balance.meet(replicas)
    return balance


def send(balance: Balance, text: str, **more: bytes) -> str:
    choice = balance.choose(Wanted(keys=keys(text), **more))
    balance.began(choice.replica)
    return choice.replica


def answer(balance: Balance, text: str, **more: bytes) -> str:
    name = send(balance, text, **more)
    balance.ended(name)
    return name


def test_the_next_turn_goes_where_the_turns_before_it_were_answered() -> None:
    balance = balance_of("a", "b", "c")
    first = {text: answer(balance, text) for text in ("one", "two", "six")}
    assert sorted(first.values()) == ["a", "b", "c"]  # new dialogs are spread
    for turn in ("+more", "+more+again"):
        for text, home in first.items():
            assert answer(balance, text + turn) == home


def test_of_two_that_know_a_text_the_one_that_knows_more_of_it_answers() -> None:
    balance = balance_of("a", "b", slack=1, headroom=1)
    assert send(balance, "abcd") == "a"
    assert send(balance, "abcdefgh") == "b"  # `a` is busy
    balance.ended("a")
    balance.ended("b")
    choice = balance.choose(Wanted(keys=keys("abcdefghij")))
    assert (choice.replica, choice.known) == ("b", 8)


def test_a_known_text_goes_elsewhere_when_its_replica_is_much_busier() -> None:
    balance = balance_of("a", "b", slack=3)
    placed = [send(balance, "the same text") for _ in range(6)]
    assert placed == ["a", "a", "a", "b", "b", "b"]
    balance.ended("a")
    balance.ended("a")
    assert send(balance, "the same text") == "a"  # both know it now: the idler one


def test_a_short_common_beginning_decides_nothing() -> None:
    balance = balance_of("a", "b")
    assert answer(balance, "sys" + "x" * 20) == "a"
    assert answer(balance, "sys" + "y" * 20) == "b"
    assert answer(balance, "sys" + "x") == "a"


def test_a_replica_that_died_is_chosen_no_more_and_its_successor_knows_nothing() -> None:
    balance = balance_of("a", "b")
    assert answer(balance, "dialog", makes=b"response") == "a"
    balance.lose("a")
    assert answer(balance, "dialog") == "b"
    balance.ended("a")  # its last request ends after it
    balance.meet(["a", "b"])
    assert (balance.remembered("a"), balance.running("a")) == (0, 0)
    assert balance.choose(Wanted(home=b"response")).replica in ("a", "b")
    balance.meet([])
    with pytest.raises(StateError, match="no replica lives"):
        balance.choose(Wanted())


def test_what_lives_on_one_replica_is_asked_for_there_however_busy_it_is() -> None:
    balance = balance_of("a", "b", slack=1)
    home = send(balance, "x", makes=b"response 1")
    for _ in range(3):
        assert send(balance, "y", home=b"response 1", makes=b"response 2") == home
    assert send(balance, "z", home=b"response 2") == home
    files = send(balance, "", home=b"files")
    assert files != home  # nobody had them yet: the idler one
    assert send(balance, "", home=b"files") == files


def test_what_is_remembered_is_bounded_and_a_beginning_is_forgotten_last() -> None:
    balance = balance_of("a", known_keys=6, kept_homes=2)
    answer(balance, "abcdef")
    answer(balance, "xy")
    assert balance.remembered("a") == 6
    assert balance.known("a", keys("abcdef")) == 4
    for number in range(4):
        answer(balance, "", makes=b"%d" % number)
    assert len(balance._homes) == 2


@pytest.mark.parametrize("wrong", [{"slack": 0}, {"headroom": 0.5}, {"least_share": 2}])
def test_a_config_that_cannot_be_kept_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BalanceConfig(**wrong)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.text("ab", max_size=6)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("lose"), st.integers(0, 4)),
        st.tuples(st.just("meet"), st.integers(1, 4)),
    ),
    max_size=60,
)


@given(EVENTS, st.integers(1, 5), st.floats(1, 2))
def test_no_replica_ever_runs_more_than_its_bound(
    events: list[tuple[str, int | str]], slack: int, headroom: float
) -> None:
    balance = balance_of("r0", "r1", "r2", slack=slack, headroom=headroom, known_keys=8)
    running: list[str] = []
    for kind, value in events:
        if kind == "send" and balance.replicas:
            total = sum(map(balance.running, balance.replicas)) + 1
            name = send(balance, str(value))
            running.append(name)
            fair = math.ceil(headroom * total / len(balance.replicas))
            assert balance.running(name) <= max(slack, fair)
        elif kind == "end" and running:
            balance.ended(running.pop(int(value) % len(running)))
        elif kind == "lose":
            name = f"r{value}"
            balance.lose(name)
            running = [other for other in running if other != name]
        elif kind == "meet":
            names = [f"r{number}" for number in range(int(value))]
            balance.meet(names)
            running = [name for name in running if name in names]
        for name in balance.replicas:
            assert balance.running(name) == running.count(name)
            assert balance.remembered(name) <= 8
