import json
from dataclasses import replace

import pytest
import sentencepiece
from hypothesis import given, settings

from puna.errors import FormatError, RequestError
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.pieces import Kind, Piece, read_model, write_model
from puna.tokenizer.protobuf import write_field
from puna.tokenizer.sentence import SentencePieceTokenizer
from tests.testdata import testdata
from tests.tokenizer.samples import HARD, is_exact_for, llama2, texts


def test_ids_equal_the_published_vectors() -> None:
    lines = testdata("tokenizers/llama2/vectors.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 30
    for vector in map(json.loads, lines):
        assert llama2().encode(vector["text"]) == vector["ids"]
        assert llama2().decode(vector["ids"]) == vector["text"]


def test_roles_are_those_of_llama_2() -> None:
    tok = llama2()
    assert (tok.vocab, tok.bos_id, tok.eos_id, tok.pad_id) == (32_000, 1, 2, None)
    assert tok.specials == {"<s>": 1, "</s>": 2}
    assert tok.stop_ids == {2}
    assert tok.model.unknown_id == 0
    assert tok.model.is_llama


@settings(max_examples=50, deadline=None)
@given(texts)
def test_decoding_gives_back_the_text(text: str) -> None:
    if is_exact_for(llama2(), text):
        assert llama2().decode(llama2().encode(text)) == text


@pytest.mark.parametrize("text", HARD)
def test_decoding_equals_the_library_s(text: str) -> None:
    library = sentencepiece.SentencePieceProcessor(model_proto=llama2().proto)
    ids = llama2().encode(text, bos=True, eos=True)
    assert llama2().decode(ids, skip_special=True) == library.decode(ids)


@pytest.mark.parametrize("text", ["<s>", "</s>", "<unk>", "<0x0A>", "a</s><s>[INST]"])
def test_text_never_becomes_a_control_token(text: str) -> None:
    ids = llama2().encode(text)
    assert not set(ids) & {0, 1, 2, 13}
    assert llama2().decode(ids) == text


def test_digits_stand_alone_and_bytes_stand_for_the_rest() -> None:
    tok = llama2()
    assert [tok.piece(i) for i in tok.encode("2024")] == [b" ", b"2", b"0", b"2", b"4"]
    assert [tok.piece(i) for i in tok.encode("\x07")] == [b" ", b"\x07"]


@pytest.mark.parametrize("character", [" ", "a"])
def test_a_million_equal_characters_come_back(character: str) -> None:
    text = character * 1_000_000
    assert llama2().decode(llama2().encode(text)) == text


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(RequestError, match="surrogate"):
        llama2().encode("\udc00")


def test_a_small_unigram_model_loads() -> None:
    tok = load_tokenizer_file(testdata("tokenizers/m.model"))
    assert isinstance(tok, SentencePieceTokenizer)
    assert (tok.vocab, tok.bos_id, tok.eos_id) == (2_000, 1, 2)
    assert not tok.model.is_llama
    assert tok.decode(tok.encode("Hello world!")) == "Hello world!"
    library = sentencepiece.SentencePieceProcessor(model_proto=tok.proto)
    assert tok.encode("Hello world!") == library.encode("Hello world!")


def test_a_model_is_written_as_it_was_read() -> None:
    again = SentencePieceTokenizer.from_model(llama2().model, where="again")
    assert again.model == llama2().model
    text = testdata("corpora/tinyshakespeare.txt").read_text("utf-8")[:20_000]
    assert again.encode(text) == llama2().encode(text)


def test_damage_is_found_wherever_the_file_ends() -> None:
    proto = llama2().proto
    for end in (1, 5, 1_000, 400_003, len(proto) - 1):
        with pytest.raises(FormatError, match="here: "):
            SentencePieceTokenizer(proto[:end], where="here")


def test_a_file_cut_between_two_pieces_is_truncated() -> None:
    pieces = write_field(1, write_field(1, "<unk>") + write_field(3, 2)) * 3
    with pytest.raises(FormatError, match="ends after 3 pieces"):
        read_model(pieces, where="here")


def test_a_vocabulary_that_contradicts_itself_is_refused() -> None:
    model = replace(llama2().model, pieces=llama2().model.pieces[:300])
    for wrong, message in (
        (replace(model, bos_id=300), "begin-of-text id is 300"),
        (replace(model, pieces=model.pieces[:100]), "97 byte pieces"),
        (replace(model, pieces=(*model.pieces, model.pieces[-1])), "twice"),
        (replace(model, pieces=(*model.pieces, Piece(text="", score=0.0))), "refuses"),
    ):
        with pytest.raises(FormatError, match=message):
            SentencePieceTokenizer.from_model(wrong, where="here")


def test_negative_and_absent_ids_survive_the_model_file() -> None:
    pieces = tuple(
        Piece(text=text, score=-1.5, kind=kind)
        for text, kind in [("<unk>", Kind.UNKNOWN), ("<s>", Kind.CONTROL), ("</s>", Kind.CONTROL)]
    )
    for pad in (None, 2):
        model = replace(llama2().model, pieces=pieces, pad_id=pad, adds_space=False)
        assert read_model(write_model(model), where="here") == model
