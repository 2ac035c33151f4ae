"""No stop string, and no start of one, ever reaches the reader (pitfalls I10, B10)."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import RequestError
from puna.infer.stops import StopStrings, TextStream


def passed_on(pieces: Sequence[str], stops: Sequence[str]) -> tuple[list[str], str | None]:
    filter_ = StopStrings(stops)
    shown = [filter_.feed(piece) for piece in pieces]
    return [*shown, filter_.flush()], filter_.found


def test_a_stop_string_across_pieces_does_not_leak() -> None:
    assert passed_on(["one ST", "O", "P two"], ["STOP"]) == (["one ", "", "", ""], "STOP")


def test_a_start_that_leads_nowhere_is_shown_late() -> None:
    assert passed_on(["a ST", "AY"], ["STOP"]) == (["a ", "STAY", ""], None)


def test_a_start_at_the_end_of_the_stream_is_shown() -> None:
    assert passed_on(["a ST"], ["STOP"]) == (["a ", "ST"], None)


def test_the_stop_string_that_ends_first_wins() -> None:
    assert passed_on(["xabcd"], ["abcd", "bc"]) == (["xa", ""], "bc")


def test_of_two_that_end_together_the_longer_wins() -> None:
    assert passed_on(["xabc"], ["bc", "abc"]) == (["x", ""], "abc")


@given(
    text=st.text("ab", max_size=30),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_every_way_of_cutting_the_stream_gives_the_same_text(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    whole, found = passed_on([text], stops)
    cut, also_found = passed_on(pieces, stops)
    assert "".join(cut) == "".join(whole)
    assert also_found == found
    assert not any(stop in "".join(whole) for stop in stops)


@pytest.mark.parametrize("stops", ["text", [""], [3]])
def test_stops_are_a_list_of_texts(stops: Sequence[str]) -> None:
    with pytest.raises(RequestError, match="a list of strings"):
        StopStrings(stops)


class Bytes:
    """A tokenizer of 256 bytes and one special token."""

    vocab, bos_id, eos_id, pad_id = 257, 256, 256, None
    stop_ids, specials = frozenset({256}), {"<|end|>": 256}

    def piece(self, token_id: int) -> bytes:
        return b"<|end|>" if token_id == 256 else bytes([token_id])


def test_a_stream_shows_whole_characters_and_no_special_tokens() -> None:
    stream = TextStream(Bytes(), stops=["ß!"])
    shown = [stream.feed(b) for b in [*"né".encode(), 256, *"ß?".encode(), *"xß!y".encode()]]
    assert "".join(shown) + stream.flush() == "néß?x"
    assert "\ufffd" not in "".join(shown)
    assert stream.is_stopped
