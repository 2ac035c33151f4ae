"""Bits per byte: every byte once, the same number however the work is cut."""

import lzma
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import RequestError
from puna.evals.bits import bits_per_byte, compressors, windows
from tests.evals.tiny import ByteTokenizer, tiny_model


@given(st.integers(2, 300), st.integers(8, 64))
def test_windows_score_every_token_but_bos_exactly_once(size: int, context: int) -> None:
    ids = list(range(size))
    scored = [
        token
        for window in windows(ids, document=0, context=context)
        for token in window.ids[len(window.ids) - window.scored :]
    ]
    assert scored == ids[1:]
    assert all(len(w.ids) <= context for w in windows(ids, document=0, context=context))


def test_bits_equal_the_log_probabilities_of_the_whole_text() -> None:
    """One document within the context: bits = -sum log2 p(token | BOS and what went before)."""
    model, tok = tiny_model(), ByteTokenizer()
    text = "déjà vu"
    ids = torch.tensor([tok.encode(text, bos=True)])
    logs = model(ids).log_softmax(-1)[0]
    nats = -sum(logs[i, ids[0, i + 1]].item() for i in range(ids.shape[1] - 1))
    score = bits_per_byte(model, tok, [text])
    assert score.value == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-5)
    assert score.detail["bytes"] == len(text.encode())


def test_bits_do_not_depend_on_the_batch() -> None:
    model, tok = tiny_model(), ByteTokenizer()
    texts = ["short", "a somewhat longer text " * 9, "middle sized text"]
    together = bits_per_byte(model, tok, texts, batch_tokens=4096)
    alone = bits_per_byte(model, tok, texts, batch_tokens=1)
    assert together.value == pytest.approx(alone.value, rel=1e-5)
    assert together.low <= together.value <= together.high


def test_a_document_begins_with_bos() -> None:
    """B2: without BOS the first byte would be predicted from nothing, or not at all."""
    model, tok = tiny_model(), ByteTokenizer()
    logs = model(torch.tensor([[tok.bos_id]])).log_softmax(-1)[0, 0]
    score = bits_per_byte(model, tok, ["x"])
    assert score.value == pytest.approx(-logs[ord("x")].item() / math.log(2), rel=1e-5)


def test_the_compressors_get_the_same_bytes() -> None:
    texts = ["the same line again\n"] * 40
    bits = compressors(texts)
    stream = "".join(texts).encode()
    assert bits["xz -9"] == 8 * len(lzma.compress(stream, preset=9)) / len(stream)
    assert 0 < bits["zstd -19"] < 1


def test_no_text_is_refused() -> None:
    with pytest.raises(RequestError, match="at least one document"):
        bits_per_byte(tiny_model(), ByteTokenizer(), [""])
    with pytest.raises(RequestError, match="at least one document"):
        compressors([])
