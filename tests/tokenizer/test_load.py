import shutil
from pathlib import Path

import pytest

from puna.errors import FormatError, NotFoundError, RequestError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.library import LibraryTokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.sentence import SentencePieceTokenizer
from tests.testdata import testdata
from tests.tokenizer.samples import HARD, llama2, tiny_pieces, trained


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tokenizers/llama3/tokenizer.model", RankTokenizer),
        ("tokenizers/tiktoken_small.model", RankTokenizer),
        ("tokenizers/llama2/tokenizer.model", SentencePieceTokenizer),
        ("weights/stories260K/tok512.bin", SentencePieceTokenizer),
    ],
)
def test_a_file_is_known_by_its_content(name: str, kind: type, tmp_path: Path) -> None:
    path = tmp_path / "file"
    shutil.copy(testdata(name), path)
    assert type(load_tokenizer_file(path)) is kind
    assert type(load_tokenizer_file(str(path))) is kind


@pytest.mark.parametrize("layout", ["plain", "huggingface"])
@pytest.mark.parametrize("get", [trained, llama2, tiny_pieces])
def test_a_saved_folder_loads_as_what_was_saved(get, layout, tmp_path: Path) -> None:
    tok: Tokenizer = get()
    save_tokenizer(tok, tmp_path / "new" / "folder", layout=layout)
    again = load_tokenizer_file(tmp_path / "new" / "folder")
    assert type(again) is type(tok)
    assert (again.vocab, again.specials) == (tok.vocab, tok.specials)
    assert [again.encode(text) for text in HARD] == [tok.encode(text) for text in HARD]


def test_ranks_stand_where_each_layout_expects_them(tmp_path: Path) -> None:
    """llama.cpp's converter takes a `tokenizer.model` beside the weights for SentencePiece."""
    save_tokenizer(trained(), tmp_path / "plain")
    save_tokenizer(trained(), tmp_path / "hf", layout="huggingface")
    save_tokenizer(llama2(), tmp_path / "hf2", layout="huggingface")
    assert (tmp_path / "plain" / "tokenizer.model").is_file()
    assert not (tmp_path / "hf" / "tokenizer.model").exists()
    assert (tmp_path / "hf" / "original" / "tokenizer.model").is_file()
    assert (tmp_path / "hf2" / "tokenizer.model").read_bytes() == llama2().proto


def test_a_foreign_tokenizer_is_saved_as_it_came(tmp_path: Path) -> None:
    save_tokenizer(tiny_pieces(), tmp_path / "a")
    foreign = load_tokenizer_file(tmp_path / "a" / "tokenizer.json")
    assert isinstance(foreign, LibraryTokenizer)
    save_tokenizer(foreign, tmp_path / "b")
    again = load_tokenizer_file(tmp_path / "b")
    assert isinstance(again, LibraryTokenizer)
    assert again.spec == foreign.spec
    assert not (tmp_path / "b" / "tokenizer.model").exists()


def test_a_unigram_model_is_saved_as_its_model_file_alone(tmp_path: Path) -> None:
    save_tokenizer(load_tokenizer_file(testdata("tokenizers/m.model")), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.model"]


def test_tokens_added_beside_a_sentencepiece_model_are_kept(tmp_path: Path) -> None:
    import json

    save_tokenizer(tiny_pieces(), tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    spec["added_tokens"].append(dict(spec["added_tokens"][0], id=512, content="<|im_end|>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    tok = load_tokenizer_file(tmp_path)
    assert (tok.vocab, tok.specials["<|im_end|>"]) == (513, 512)


def test_a_folder_with_a_llama2c_vocabulary_loads(tmp_path: Path) -> None:
    shutil.copy(testdata("weights/stories260K/tok512.bin"), tmp_path)
    assert load_tokenizer_file(tmp_path).vocab == 512
    shutil.copy(tmp_path / "tok512.bin", tmp_path / "tokenizer.bin")
    with pytest.raises(NotFoundError, match=r"2 llama2\.c vocabularies"):
        load_tokenizer_file(tmp_path)


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"neither tokenizer\.model nor"):
        load_tokenizer_file(tmp_path)
    with pytest.raises(NotFoundError, match="no such file"):
        load_tokenizer_file(tmp_path / "gone")


@pytest.mark.parametrize(
    "name",
    [
        "weights/stories260K/stories260K-f32.gguf",
        "weights/stories260K/stories260K.bin",
        "weights/stories260K/hf/model.safetensors",
        "media/dog.jpg",
        "corpora/tinyshakespeare.txt",
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="not the weights"):
        load_tokenizer_file(testdata(name))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(FormatError, match="an empty file"):
        load_tokenizer_file(tmp_path)


def test_only_tokenizers_are_saved(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="got a str"):
        save_tokenizer("llama", tmp_path)  # type: ignore[arg-type]
