import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings

from puna.errors import FormatError, NotFoundError
from puna.tokenizer.llama2c import read_llama2c, write_llama2c
from puna.tokenizer.load import load_tokenizer_file
from tests.testdata import testdata
from tests.tokenizer.samples import is_exact_for, texts, tiny_pieces


def reference_encode(text: str) -> list[int]:
    """Merging as run.c does it: scan all neighbours, join the best, start over."""
    data, at, tokens = testdata("weights/stories260K/tok512.bin").read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fI", data, at)
        tokens.append((data[at + 8 : at + 8 + length], score))
        at += 8 + length
    known = {token: n for n, (token, _) in enumerate(tokens)}
    ids: list[int] = []
    for character in " " + text if text else "":
        token = character.encode()
        ids += [known[token]] if token in known else [byte + 3 for byte in token]
    while True:
        pairs = [tokens[a][0] + tokens[b][0] for a, b in pairwise(ids)]
        found = [(-tokens[known[pair]][1], n) for n, pair in enumerate(pairs) if pair in known]
        if not found:
            return ids
        _, n = min(found)
        ids[n : n + 2] = [known[pairs[n]]]


@settings(max_examples=50, deadline=None)
@given(texts)
def test_merging_is_that_of_run_c(text: str) -> None:
    if is_exact_for(tiny_pieces(), text):
        assert tiny_pieces().encode(text) == reference_encode(text)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_decoding_gives_back_the_text(text: str) -> None:
    if is_exact_for(tiny_pieces(), text):
        assert tiny_pieces().decode(tiny_pieces().encode(text)) == text


def test_the_expected_story_is_one_text_after_begin() -> None:
    story = testdata("weights/stories260K/expected_text.txt").read_text("utf-8")
    tok = tiny_pieces()
    assert tok.vocab == 512
    assert tok.decode(tok.encode(story, bos=True), skip_special=True) == story
    assert tok.decode([1, 403]) == "<s>Once"


def test_the_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    write_llama2c(tiny_pieces(), tmp_path / "tok.bin")
    original = testdata("weights/stories260K/tok512.bin").read_bytes()
    assert (tmp_path / "tok.bin").read_bytes() == original


@pytest.mark.parametrize("end", [4_000, 6_226, 20, 15])
def test_a_truncated_file_names_the_token(tmp_path: Path, end: int) -> None:
    path = tmp_path / "tok512.bin"
    path.write_bytes(testdata("weights/stories260K/tok512.bin").read_bytes()[:end])
    with pytest.raises(FormatError, match=r"tok512.bin: token \d+ at byte \d+"):
        load_tokenizer_file(path)


def test_a_token_longer_than_the_file_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(struct.pack("<IfI5sfI9s", 7, 0.0, 5, b"<unk>", 0.0, 9, b"too long!"))
    with pytest.raises(FormatError, match="token 1 at byte 17 has length 9"):
        read_llama2c(path)


def test_a_token_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tok.bin"
    path.write_bytes(struct.pack("<IfI5sfI1s", 7, 0.0, 5, b"<unk>", 0.0, 1, b"\xff"))
    with pytest.raises(FormatError, match="token 1 is"):
        read_llama2c(path)


def test_weights_are_not_taken_for_a_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not begin with a token"):
        read_llama2c(testdata("weights/stories260K/stories260K.bin"))
    with pytest.raises(NotFoundError):
        read_llama2c(tmp_path / "gone.bin")
