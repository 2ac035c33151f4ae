import json
import sys
from functools import cache
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings

from puna.errors import ExtraError, FormatError, NotFoundError
from puna.tokenizer.export import tokenizer_json
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.library import LibraryTokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.specials import special_names
from tests.tokenizer.samples import (
    HARD,
    decode_after,
    is_exact_for,
    llama2,
    llama3,
    texts,
    tiny_pieces,
    trained,
)

GETTERS = [trained, llama3, llama2, tiny_pieces]


@cache
def json_of(get) -> str:
    return json.dumps(tokenizer_json(get()))


@cache
def library(get) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer.from_str(json_of(get))
    made.encode_special_tokens = True
    return made


@cache
def foreign(get) -> LibraryTokenizer:
    return LibraryTokenizer(json.loads(json_of(get)), {}, where="here")


def write(folder: Path, spec: object) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def bert() -> dict:
    """A file without byte pairs."""
    empty = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "a": 1}))
    return json.loads(empty.to_str())


@pytest.mark.parametrize("get", GETTERS)
@settings(max_examples=50, deadline=None)
@given(texts)
def test_the_library_gives_equal_ids_and_text(get, text: str) -> None:
    tok = get()
    if is_exact_for(tok, text):
        ids = tok.encode(text)
        assert library(get).encode(text, add_special_tokens=False).ids == ids
        assert library(get).encode(text).ids == [tok.bos_id, *ids]
        assert library(get).decode(ids) == text


@pytest.mark.parametrize("get", GETTERS)
@settings(max_examples=30, deadline=None)
@given(texts)
def test_what_is_read_through_the_library_behaves_the_same(get, text: str) -> None:
    tok, other = get(), foreign(get)
    ids = tok.encode(text)
    assert other.encode(text, bos=True, eos=True) == [tok.bos_id, *ids, tok.eos_id]
    assert other.decode(ids) == tok.decode(ids)
    assert decode_after(other, ids, ids) == decode_after(tok, ids, ids)


@pytest.mark.parametrize("get", GETTERS)
def test_roles_survive_the_library(get) -> None:
    tok, other = get(), foreign(get)
    mine = (tok.vocab, tok.bos_id, tok.eos_id, tok.pad_id, tok.stop_ids)
    assert (other.vocab, other.bos_id, other.eos_id, other.pad_id, other.stop_ids) == mine
    assert tok.specials.items() <= other.specials.items()


@pytest.mark.parametrize("get", [trained, llama3])
def test_llama_3_s_file_becomes_ranks(get, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json_of(get), encoding="utf-8")
    again = load_tokenizer_file(tmp_path)
    assert isinstance(again, RankTokenizer)
    assert again.ranks == get().ranks
    assert again.specials == get().specials


def test_merges_may_be_pairs_and_control_tokens_may_stand_in_the_vocabulary(tmp_path: Path) -> None:
    spec = tokenizer_json(trained())
    assert spec is not None
    spec["model"]["merges"] = [merge.split(" ") for merge in spec["model"]["merges"]]
    spec["model"]["vocab"] |= trained().specials
    again = load_tokenizer_file(write(tmp_path, spec))
    assert isinstance(again, RankTokenizer)
    assert again.ranks == trained().ranks


def test_names_of_another_edition_survive(tmp_path: Path) -> None:
    tok = RankTokenizer(trained().ranks, special_names("llama-3.1-hf"))
    save_tokenizer(tok, tmp_path)
    for name in ("tokenizer.json", "tokenizer.model"):
        assert load_tokenizer_file(tmp_path / name).specials == tok.specials
    assert load_tokenizer_file(tmp_path).specials == tok.specials


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\S+|\s+"),
        lambda spec: spec.update(normalizer={"type": "NFC"}),
        lambda spec: spec["model"].update(merges=spec["model"]["merges"][::-1]),
        lambda spec: spec["added_tokens"].pop(7),
    ],
    ids=["another expression", "a normalizer", "another order", "a gap in the ids"],
)
def test_another_kind_of_byte_pairs_goes_to_the_library(change, tmp_path: Path) -> None:
    spec = json.loads(json_of(trained))
    change(spec)
    tok = load_tokenizer_file(write(tmp_path, spec))
    assert isinstance(tok, LibraryTokenizer)
    text = "the llama's wool 1234 <|eot_id|>"
    assert tok.decode(tok.encode(text)) == text


@pytest.mark.parametrize("get", GETTERS)
def test_special_looking_text_stays_text_in_the_library(get) -> None:
    """Pitfall B5, where the library's own default is the other way."""
    control = set(get().specials.values())
    for text in HARD:
        assert not set(foreign(get).encode(text)) & control


def test_an_added_tag_is_never_made_from_text() -> None:
    """Fine-tunes add tags without marking them special."""
    spec = json.loads(json_of(tiny_pieces))
    tag = dict(spec["added_tokens"][0], id=512, content="<|im_start|>", special=False)
    spec["added_tokens"].append(tag)
    tok = LibraryTokenizer(spec, {}, where="here")
    assert tok.specials["<|im_start|>"] == 512
    assert 512 not in tok.encode("<|im_start|>system")


def test_roles_come_from_the_files_beside_it(tmp_path: Path) -> None:
    spec = json.loads(json_of(tiny_pieces))
    write(tmp_path, spec)
    config = {"bos_token": {"content": "</s>"}, "eos_token": "<s>", "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tok = load_tokenizer_file(tmp_path)
    assert (tok.bos_id, tok.eos_id, tok.pad_id) == (2, 1, None)


def test_without_the_library_a_foreign_file_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, tokenizer_json(tiny_pieces()))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ExtraError, match="pip install tokenizers"):
        load_tokenizer_file(tmp_path)


def test_without_the_library_llama_3_s_file_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, tokenizer_json(trained()))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert load_tokenizer_file(tmp_path).encode("a llama") == trained().encode("a llama")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([1], "a JSON object is expected"),
        ({}, "no model with a vocabulary"),
        ({"model": {"vocab": {}}, "added_tokens": [{"id": "x"}]}, "added token is damaged"),
        ({"model": {"vocab": {"a": 0}, "type": "BPE"}}, "refuses it"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, spec: object, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text("  " + json.dumps(spec), encoding="utf-8")
    from puna.tokenizer.huggingface import read_tokenizer_json

    with pytest.raises(FormatError, match=message):
        read_tokenizer_json(tmp_path / "tokenizer.json")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    text = json_of(trained)
    (tmp_path / "tokenizer.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(FormatError, match="not valid JSON"):
        load_tokenizer_file(tmp_path)


def test_a_tokenizer_without_byte_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="decoder is absent"):
        load_tokenizer_file(write(tmp_path, bert()))


def test_a_tokenizer_without_a_begin_token_is_refused() -> None:
    spec = json.loads(json_of(tiny_pieces).replace("<s>", "<start>"))
    with pytest.raises(FormatError, match="no bos_token"):
        LibraryTokenizer(spec, {}, where="here")


@pytest.mark.parametrize("layout", ["plain", "huggingface"])
@pytest.mark.parametrize("get", [trained, llama2])
def test_transformers_loads_the_folder(get, layout, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tok: Tokenizer = get()
    save_tokenizer(tok, tmp_path, layout=layout)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "Hello  world , don't 12345 नमस्ते 😀 \n\n x ."
    ids = tok.encode(text, bos=True)
    assert theirs(text).input_ids == ids
    assert theirs.decode(ids, skip_special_tokens=True) == text
    roles = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, len(theirs))
    assert roles == (tok.bos_id, tok.eos_id, tok.pad_id, tok.vocab)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        load_tokenizer_file(tmp_path / "tokenizer.json")
