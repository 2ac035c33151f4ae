import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers

from puna.errors import ExtraError, RequestError
from puna.tokenizer.alphabet import BYTE_ORDER
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.train import train_bpe
from puna.tokenizer.vocabulary import from_gguf_vocabulary, to_gguf_vocabulary
from tests.testdata import testdata
from tests.tokenizer.samples import HARD, STORY, llama3, trained


def test_the_vocabulary_counts_bytes_and_special_tokens() -> None:
    tok = train_bpe([STORY], 560)
    assert (tok.vocab, len(tok.ranks), tok.bos_id) == (560, 304, 304)
    assert list(tok.specials) == list(llama3().specials)


def test_single_bytes_stand_in_llama_3_s_order() -> None:
    assert trained().ranks[:256] == llama3().ranks[:256]
    assert [piece[0] for piece in trained().ranks[:256]] == list(BYTE_ORDER)


def test_frequent_pairs_merge_first() -> None:
    """Pairs of 'abab abab cd': 'ab' 4 times; then 'abab', ' abab' and 'cd' fewer times."""
    tok = train_bpe(["abab abab abab"], 515)
    assert tok.ranks[256:] == (b"ab", b"abab", b" abab")


def test_the_same_texts_give_the_same_vocabulary() -> None:
    text = testdata("corpora/tinyshakespeare.txt").read_text("utf-8")[:200_000]
    lines = text.splitlines(keepends=True)
    assert train_bpe(lines, 1_500).ranks == train_bpe(lines, 1_500).ranks


def test_small_vocabularies_learn_no_number_and_all_learn_them_when_told() -> None:
    numbers = [f"{n} and {n * 7}; " for n in range(100, 999)]
    single = train_bpe(numbers, 515)
    assert not [piece for piece in single.ranks[256:] if any(c in b"0123456789" for c in piece)]
    assert len(single.encode("1234567")) == 7
    joined = train_bpe(numbers, 620, split_digits=False)
    assert len(joined.encode("100200300")) < 9


@pytest.mark.parametrize("vocab", [511, 0, -5])
def test_a_vocabulary_without_room_for_bytes_is_refused(vocab: int) -> None:
    with pytest.raises(RequestError, match="at least 512"):
        train_bpe([STORY], vocab)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(RequestError, match=f"got {len(texts)} texts without a character"):
        train_bpe(texts, 600)


def test_too_little_text_says_how_far_it_reaches() -> None:
    with pytest.raises(RequestError, match="give 514 ids at most; vocab=600"):
        train_bpe(["abc"], 600)


def test_an_error_of_the_reader_reaches_the_caller() -> None:
    def texts() -> Iterator[str]:
        yield STORY
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        train_bpe(texts(), 600)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(RequestError, match="surrogate"):
        train_bpe([STORY, "\ud800"], 600)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rustbpe", None)
    with pytest.raises(ExtraError, match=r"puna\[train\]"):
        train_bpe([STORY], 600)


def test_a_trained_tokenizer_is_the_same_in_every_format(tmp_path: Path) -> None:
    save_tokenizer(trained(), tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    library.encode_special_tokens = True
    copies = [
        load_tokenizer_file(tmp_path / "tokenizer.model"),
        load_tokenizer_file(tmp_path / "tokenizer.json"),
        from_gguf_vocabulary(to_gguf_vocabulary(trained())),
    ]
    for text in (*HARD, STORY):
        ids = trained().encode(text)
        assert [copy.encode(text) for copy in copies] == [ids] * 3
        assert library.encode(text, add_special_tokens=False).ids == ids
