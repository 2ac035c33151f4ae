"""`puna tokenize`: what it prints for a text and for a message."""

import datetime
import io
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


DIALOG = [
    {"role": "user", "content": "a llama"},
    {"role": "assistant", "content": "and", "tool_calls": None},
]


def _tokenizer(folder: Path) -> str:
    save_tokenizer(train_bpe(["a llama and a llama"], 515), folder)
    return str(folder)


@pytest.mark.parametrize("with_tools", [False, True])
def test_a_dialog_is_read_from_a_file(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, with_tools: bool
) -> None:
    file = tmp_path / "dialog.json"
    given = {"messages": DIALOG, "tools": ["calculator"]} if with_tools else DIALOG
    file.write_text(json.dumps(given))
    tokenize(_tokenizer(tmp_path), messages=str(file), reply=False, json_=True)
    table = json.loads(capsysbinary.readouterr().out)
    text = "".join(table["pieces"])
    assert ("Tools: calculator" in text) == with_tools
    said = [piece for piece, flag in zip(table["pieces"], table["loss_mask"], strict=True) if flag]
    assert "".join(said) == "and<|eot_id|>"


def test_a_dialog_is_read_from_stdin(
    capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(DIALOG).encode())))
    day = datetime.date(2025, 3, 5)
    tokenize(_tokenizer(tmp_path), messages="-", date=day, json_=True)
    text = "".join(json.loads(capsysbinary.readouterr().out)["pieces"])
    assert "Today Date: 05 March 2025" in text
    assert text.endswith("assistant<|end_header_id|>\n\n")


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("{", "no JSON"),
        ('{"dialog": []}', "'messages', and 'tools'"),
        ('{"messages": [], "model": "x"}', "'messages', and 'tools'"),
        ("3", "int given"),
        ('[{"role": "robot", "content": "x"}]', "unknown role 'robot'"),
    ],
)
def test_a_file_without_a_dialog_is_refused(tmp_path: Path, written: str, complaint: str) -> None:
    file = tmp_path / "dialog.json"
    file.write_text(written)
    with pytest.raises(PunaError, match=complaint):
        tokenize(_tokenizer(tmp_path), messages=str(file))


def test_one_text_or_one_dialog_is_expected(tmp_path: Path) -> None:
    model = _tokenizer(tmp_path)
    with pytest.raises(PunaError, match="neither given"):
        tokenize(model)
    with pytest.raises(PunaError, match="both given"):
        tokenize(model, "x", messages="-")
    with pytest.raises(PunaError, match="no such file"):
        tokenize(model, messages=str(tmp_path / "absent.json"))


@pytest.mark.parametrize("no_color", [None, "1"])
def test_a_terminal_shows_colours_unless_told_not_to(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_color: str | None,
) -> None:
    model = _tokenizer(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    tokenize(model, "\x1b[31m", chat=True)
    out = capsys.readouterr().out
    assert ("\x1b[" in out) == (no_color is None)
    assert "\x1b[31m" not in out  # what a text says never reaches the terminal as a command


def test_a_tokenizer_without_chat_tokens_is_refused() -> None:
    with pytest.raises(PunaError, match="chat"):
        tokenize(str(testdata("tokenizers/llama2/tokenizer.model")), "hi", chat=True)
    with pytest.raises(PunaError, match="no chat format is known"):
        tokenize(str(testdata("weights/stories260K/stories260K-f32.gguf")), "hi", chat=True)
