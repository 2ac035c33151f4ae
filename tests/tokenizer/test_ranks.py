import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import FormatError, NotFoundError, RequestError
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer, read_ranks, write_ranks
from puna.tokenizer.specials import BEGIN_OF_TEXT
from tests.testdata import testdata
from tests.tokenizer.samples import HARD, llama3, texts, trained

# Meta's tokenizer on the official file, as llama-models' own tests and prompt formats print them.
GOLDEN = {
    "This is a test sentence.": [2028, 374, 264, 1296, 11914, 13],
    "Hello, world!": [9906, 11, 1917, 0],
    "1234567": [4513, 10961, 22],
    " don't": [1541, 956],
    "system": [9125],
    "user": [882],
    "assistant": [78191],
    "ipython": [23799, 4690],
    "\n": [198],
    "\n\n": [271],
    "safe": [19193],
    "unsafe": [39257],
    "unsafe\nS1,S10": [39257, 198, 50, 16, 21861, 605],
    "<|eot_id|>": [27, 91, 68, 354, 851, 91, 29],
    "你好，世界": [57668, 53901, 3922, 102616],
    "नमस्ते": [61196, 88344, 79468, 100365, 35470],
    "สวัสดี": [106123, 119657, 29419],
    "def f(x):\n    return x": [755, 282, 2120, 997, 262, 471, 865],
    "   spaces  here": [256, 12908, 220, 1618],
    "Environment: ipython": [13013, 25, 6125, 27993],
}


@pytest.mark.parametrize("text", GOLDEN)
def test_golden_ids_of_the_official_file(text: str) -> None:
    assert llama3().encode(text) == GOLDEN[text]


def test_ids_equal_the_published_vectors() -> None:
    lines = testdata("tokenizers/llama3/vectors.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 30
    for vector in map(json.loads, lines):
        assert llama3().encode(vector["text"]) == vector["ids"]
        assert llama3().decode(vector["ids"]) == vector["text"]


def test_the_official_file_has_meta_s_ids() -> None:
    tok = llama3()
    assert (tok.vocab, tok.bos_id, tok.eos_id, tok.pad_id) == (128_256, 128_000, 128_001, 128_004)
    assert tok.stop_ids == {128_001, 128_008, 128_009}
    assert tok.specials["<|image|>"] == 128_011
    assert tok.specials["<|reserved_special_token_245|>"] == 128_255


def test_a_file_with_another_number_of_ranks_loads() -> None:
    tok = load_tokenizer_file(testdata("tokenizers/tiktoken_small.model"))
    assert (tok.vocab, tok.bos_id) == (2_256, 2_000)
    assert tok.decode(tok.encode("Bytes ✓ in order")) == "Bytes ✓ in order"


def test_begin_and_end_are_added_when_asked() -> None:
    tok = trained()
    ids = tok.encode("a llama")
    assert tok.encode("a llama", bos=True, eos=True) == [tok.bos_id, *ids, tok.eos_id]


def test_special_tokens_decode_to_their_names_or_to_nothing() -> None:
    tok = trained()
    ids = [tok.bos_id, *tok.encode("a llama"), tok.eos_id]
    assert tok.decode(ids) == "<|begin_of_text|>a llama<|end_of_text|>"
    assert tok.decode(ids, skip_special=True) == "a llama"
    assert tok.piece(tok.bos_id) == b"<|begin_of_text|>"


@settings(max_examples=50, deadline=None)
@given(texts)
def test_decoding_gives_back_the_text(text: str) -> None:
    assert trained().decode(trained().encode(text)) == text


@settings(max_examples=50, deadline=None)
@given(texts)
def test_the_official_file_gives_back_the_text(text: str) -> None:
    assert llama3().decode(llama3().encode(text)) == text


@pytest.mark.parametrize("get", [trained, llama3])
@given(name=st.integers(0, 255), around=texts)
@settings(max_examples=50, deadline=None)
def test_text_never_becomes_a_special_token(get, name: int, around: str) -> None:
    """Pitfall B5: control tokens in the text of a user or a tool."""
    tok = get()
    special = list(tok.specials)[name]
    ids = tok.encode(around + special + around)
    assert not set(ids) & set(tok.specials.values())


def test_the_bytes_of_pieces_join_to_the_text() -> None:
    for text in HARD:
        ids = llama3().encode(text)
        assert b"".join(map(llama3().piece, ids)) == text.encode() == llama3().decode_bytes(ids)


def test_bytes_that_are_no_text_decode_to_the_replacement_character() -> None:
    tok = trained()
    half = [i for i in range(256) if tok.piece(i) == b"\xe0"]
    assert tok.decode(half) == "\ufffd"


@pytest.mark.parametrize("wrong", [-1, 128_256])
def test_an_unknown_id_is_refused(wrong: int) -> None:
    with pytest.raises(RequestError, match=f"got id {wrong}"):
        llama3().decode([1, wrong])
    with pytest.raises(RequestError, match=f"got id {wrong}"):
        llama3().piece(wrong)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(RequestError, match="character 2"):
        trained().encode("ab\ud83d")


def test_a_rank_file_comes_back(tmp_path: Path) -> None:
    write_ranks(trained().ranks, tmp_path / "x")
    assert read_ranks(tmp_path / "x") == list(trained().ranks)


def test_the_official_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    write_ranks(llama3().ranks, tmp_path / "x")
    official = testdata("tokenizers/llama3/tokenizer.model")
    assert (tmp_path / "x").read_bytes() == official.read_bytes()


@pytest.mark.parametrize(
    "line", [b"YWI= 12", b"YWI=", b"YW", b"", b"!!!! 299", b"YWI= 299 1", b" 299"]
)
def test_a_damaged_rank_file_names_the_line(tmp_path: Path, line: bytes) -> None:
    good = [base64.b64encode(p) + b" %d" % n for n, p in enumerate(trained().ranks[:299])]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(b"\n".join([*good, line, b"YWI= 300\n"]))
    with pytest.raises(FormatError, match=r"tokenizer\.model, line 300"):
        load_tokenizer_file(path)


def test_a_missing_rank_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone"):
        read_ranks(tmp_path / "gone")


def test_a_vocabulary_without_all_bytes_is_refused() -> None:
    with pytest.raises(FormatError, match="2 of the 256 single bytes are missing, first 0x41"):
        RankTokenizer([bytes([b]) for b in range(256) if b not in (0x41, 0x42)])


def test_a_token_that_stands_twice_is_refused() -> None:
    with pytest.raises(FormatError, match="twice"):
        RankTokenizer([*(bytes([b]) for b in range(256)), b"a"])


def test_a_vocabulary_without_begin_of_text_is_refused() -> None:
    with pytest.raises(FormatError, match="begin_of_text"):
        RankTokenizer([bytes([b]) for b in range(256)], ["<|end_of_text|>"])
    assert BEGIN_OF_TEXT in trained().specials


def test_a_file_that_is_not_written_as_we_write_it_reads_the_same(tmp_path) -> None:
    """Other line ends, and none at the end, are read line by line."""
    ranks = [bytes([n]) for n in range(256)] + [b"ab", b"abc"]
    plain, other = tmp_path / "plain.model", tmp_path / "other.model"
    write_ranks(ranks, plain)
    for text in (plain.read_bytes().replace(b"\n", b"\r\n"), plain.read_bytes().rstrip()):
        other.write_bytes(text)
        assert read_ranks(other) == read_ranks(plain) == ranks
