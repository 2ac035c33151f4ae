import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.tokenizer.stream import StreamDecoder
from tests.tokenizer.samples import decode_after, llama2, llama3, texts, tiny_pieces, trained

GETTERS = [trained, llama3, llama2, tiny_pieces]


@pytest.mark.parametrize("get", GETTERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_the_joined_stream_is_the_full_decode(get, data: st.DataObject, skip: bool) -> None:
    tok = get()
    some_ids = st.lists(st.integers(0, tok.vocab - 1), max_size=30)
    ids = data.draw(some_ids) + tok.encode(data.draw(texts)) + data.draw(some_ids)
    stream = StreamDecoder(tok, skip)
    joined = "".join([*map(stream.feed, ids), stream.flush()])
    assert joined == tok.decode(ids, skip_special=skip)


@pytest.mark.parametrize("get", GETTERS)
def test_no_character_is_shown_in_halves(get) -> None:
    """Pitfall B10."""
    tok = get()
    text = "né 👩🏽\u200d🚀 नमस्ते สวัสดี 你好"
    stream = StreamDecoder(tok)
    pieces = [stream.feed(token_id) for token_id in tok.encode(text)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text
    assert stream.flush() == ""


def test_a_character_that_never_ends_is_flushed_as_one_replacement() -> None:
    tok = trained()
    stream = StreamDecoder(tok)
    first_byte = next(i for i in range(256) if tok.piece(i) == b"\xf0")
    assert stream.feed(first_byte) == ""
    assert stream.flush() == "\ufffd"


@pytest.mark.parametrize("get", GETTERS)
def test_special_tokens_are_skipped_unless_asked_for(get) -> None:
    tok = get()
    ids = [tok.bos_id, *tok.encode("a llama"), tok.eos_id]
    assert decode_after(tok, [], ids) == "a llama"
    begin, end = tok.piece(tok.bos_id).decode(), tok.piece(tok.eos_id).decode()
    assert decode_after(tok, [], ids, skip_special=False) == f"{begin}a llama{end}"


@pytest.mark.parametrize("get", [llama2, tiny_pieces])
def test_a_continuation_keeps_its_words_apart(get) -> None:
    tok = get()
    ids = tok.encode("Once upon a time", bos=True)
    for cut in range(1, len(ids)):
        head = tok.decode(ids[:cut], skip_special=True)
        assert head + decode_after(tok, ids[:cut], ids[cut:]) == "Once upon a time"


@pytest.mark.parametrize("get", [llama2, tiny_pieces])
def test_the_first_text_after_each_begin_loses_its_space(get) -> None:
    tok = get()
    exchange = tok.encode("one", bos=True, eos=True)
    assert tok.decode(exchange * 2, skip_special=True) == "oneone"
    assert decode_after(tok, tok.encode("zero"), exchange) == "one"
