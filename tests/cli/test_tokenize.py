"""`puna tokenize`: what it prints for a text and for a message."""

import json
from pathlib import Path

import pytest

from puna.cli.tokenize import tokenize
from puna.errors import PunaError
from puna.tokenizer.save import save_tokenizer
from puna.tokenizer.train import train_bpe
from tests.testdata import testdata

TEXT = "Hello, world! 🦙"  # the llama is cut into three pieces


def test_each_id_stands_beside_its_piece(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    tokenize(str(testdata("tokenizers/llama3/tokenizer.model")), TEXT)
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "128000  '<|begin_of_text|>'",
        "  9906  'Hello'",
        "    11  ','",
        "  1917  ' world'",
        "     0  '!'",
        " 11410  b' \\xf0\\x9f'",
        "    99  b'\\xa6'",
        "   247  b'\\x99'",
    ]


def test_json_holds_the_exact_bytes(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    tokenize(str(testdata("tokenizers/llama2/tokenizer.model")), "llama é", bos=False, json_=True)
    table = json.loads(capsysbinary.readouterr().out)
    assert table.keys() == {"ids", "pieces", "pieces_hex"}
    assert bytes.fromhex("".join(table["pieces_hex"])).decode() == " llama é"
    assert len(table["ids"]) == len(table["pieces"]) == len(table["pieces_hex"])


def test_a_message_stands_in_its_frame(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    save_tokenizer(train_bpe(["a llama and a llama"], 515), tmp_path)
    tokenize(str(tmp_path), "<|eot_id|>", chat=True, json_=True)
    table = json.loads(capsysbinary.readouterr().out)
    text = "".join(table["pieces"])
    assert text.startswith("<|begin_of_text|><|start_header_id|>")
    assert "user<|end_header_id|>\n\n<|eot_id|><|eot_id|>" in text
    assert table["ids"].count(268) == 1  # the turn's own end, not the user's text
    assert table["loss_mask"] == [0] * len(table["ids"])


def test_a_column_shows_the_loss_mask(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    save_tokenizer(train_bpe(["a llama and a llama"], 515), tmp_path)
    tokenize(str(tmp_path), "hi", chat=True)
    assert capsysbinary.readouterr().out.decode().splitlines()[0] == "259  0  '<|begin_of_text|>'"


def test_a_tokenizer_without_chat_tokens_is_refused() -> None:
    with pytest.raises(PunaError, match="chat"):
        tokenize(str(testdata("tokenizers/llama2/tokenizer.model")), "hi", chat=True)
    with pytest.raises(PunaError, match="no chat format is known"):
        tokenize(str(testdata("weights/stories260K/stories260K-f32.gguf")), "hi", chat=True)
