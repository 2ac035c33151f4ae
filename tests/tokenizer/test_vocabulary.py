from functools import cache
from typing import Any

import gguf
import pytest
from hypothesis import given, settings

from puna.errors import FormatError
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.vocabulary import from_gguf_vocabulary, to_gguf_vocabulary
from tests.testdata import testdata
from tests.tokenizer.samples import HARD, llama2, llama3, texts, tiny_pieces, trained


def changed(tok: Any, **fields: Any) -> dict[str, Any]:
    new = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return {k: v for k, v in (to_gguf_vocabulary(tok) | new).items() if v is not None}


@cache
def lists_of(get) -> dict[str, Any]:
    return to_gguf_vocabulary(get())


@pytest.mark.parametrize("get", [trained, llama3, llama2, tiny_pieces])
def test_a_tokenizer_comes_back_from_its_lists(get) -> None:
    tok = get()
    again = from_gguf_vocabulary(lists_of(get))
    if get is not llama3:  # a second derivation of 280,147 merges would prove the same
        assert to_gguf_vocabulary(again) == lists_of(get)
    assert (again.vocab, again.pad_id, again.specials) == (tok.vocab, tok.pad_id, tok.specials)
    assert [again.encode(text) for text in HARD] == [tok.encode(text) for text in HARD]


def test_the_official_file_gives_the_published_number_of_merges() -> None:
    """llama.cpp prints `n_merges = 280147` for every published GGUF of Llama 3."""
    lists = lists_of(llama3)
    assert len(lists["tokenizer.ggml.merges"]) == 280_147
    assert lists["tokenizer.ggml.merges"][0] == "Ġ Ġ"
    assert lists["tokenizer.ggml.tokens"][128_000] == "<|begin_of_text|>"
    assert lists["tokenizer.ggml.token_type"][127_999:128_001] == [1, 3]
    assert lists["tokenizer.ggml.pre"] == "llama-bpe"


@settings(max_examples=20, deadline=None)
@given(texts)
def test_a_real_gguf_encodes_as_the_vocabulary_beside_it(text: str) -> None:
    assert from_gguf_vocabulary(REAL).encode(text) == tiny_pieces().encode(text)


def read_real() -> dict[str, Any]:
    reader = gguf.GGUFReader(testdata("weights/stories260K/stories260K-f32.gguf"))
    return {name: field.contents() for name, field in reader.fields.items()}


REAL = read_real()


def test_our_lists_are_those_of_a_real_gguf() -> None:
    ours = to_gguf_vocabulary(tiny_pieces())
    for key in ("model", "tokens", "scores", "token_type", "bos_token_id", "eos_token_id"):
        assert ours[f"tokenizer.ggml.{key}"] == REAL[f"tokenizer.ggml.{key}"], key


def test_tokens_may_be_bytes_and_types_may_be_missing_for_pieces() -> None:
    tokens = [text.encode() for text in to_gguf_vocabulary(tiny_pieces())["tokenizer.ggml.tokens"]]
    tok = from_gguf_vocabulary(changed(tiny_pieces(), tokens=tokens, token_type=None))
    assert to_gguf_vocabulary(tok) == to_gguf_vocabulary(tiny_pieces())


def test_an_added_tag_is_a_control_token() -> None:
    lists = changed(tiny_pieces())
    for key, value in (("tokens", "<|im_start|>"), ("scores", -999.0), ("token_type", 4)):
        lists[f"tokenizer.ggml.{key}"] = [*lists[f"tokenizer.ggml.{key}"], value]
    tok = from_gguf_vocabulary(lists)
    assert tok.specials["<|im_start|>"] == 512
    assert 512 not in tok.encode("<|im_start|>system")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": None}, "no tokenizer.ggml.tokens"),
        ({"model": "bert"}, "of the kind 'bert'"),
        ({"pre": "qwen2"}, "splits text as 'qwen2'"),
        ({"token_type": [1, 1]}, "2 token types for 600 tokens"),
        ({"token_type": None}, "0 token types for 600 tokens"),
        ({"token_type": [9] * 600}, "token type 9"),
        ({"token_type": [3] * 256 + [1] * 344}, "special tokens stand between"),
        ({"merges": ["a b c"]}, "merge 0 is 'a b c'"),
        ({"merges": ["Ġ nowhere"]}, "do not come in the order"),
    ],
)
def test_lists_that_are_no_llama_3_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=f"model.gguf: .*{message}"):
        from_gguf_vocabulary(changed(trained(), **fields), where="model.gguf")


def test_merges_out_of_order_are_refused() -> None:
    merges = to_gguf_vocabulary(trained())["tokenizer.ggml.merges"]
    with pytest.raises(FormatError, match="do not come in the order"):
        from_gguf_vocabulary(changed(trained(), merges=merges[::-1]))


def test_a_token_outside_the_byte_alphabet_is_refused() -> None:
    tokens = list(to_gguf_vocabulary(trained())["tokenizer.ggml.tokens"])
    tokens[0] = "a b"
    with pytest.raises(FormatError, match="'a b' holds a character that stands for no byte"):
        from_gguf_vocabulary(changed(trained(), tokens=tokens, merges=[]))


def test_missing_scores_are_refused() -> None:
    with pytest.raises(FormatError, match="2 scores for 512 tokens"):
        from_gguf_vocabulary(changed(tiny_pieces(), scores=[0.0, 0.0]))


def test_a_unigram_model_does_not_fit_gguf() -> None:
    with pytest.raises(FormatError, match="GGUF cannot hold"):
        to_gguf_vocabulary(load_tokenizer_file(testdata("tokenizers/m.model")))


def test_old_files_without_a_splitter_are_llama_3() -> None:
    assert isinstance(from_gguf_vocabulary(changed(trained(), pre=None)), RankTokenizer)
