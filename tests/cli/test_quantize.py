import json
from pathlib import Path

import pytest

from puna.cli.main import main
from tests.testdata import testdata

STORY = "Once upon a time, there was a little girl named Lily. She loved to play in the park. "


@pytest.fixture
def story(tmp_path: Path) -> list[str]:
    """Return the arguments that give stories260K its tokenizer and text."""
    text = tmp_path / "story.txt"
    text.write_text(STORY * 220, encoding="utf-8")
    tokenizer = testdata("weights/stories260K/tok512.bin")
    return ["--text", str(text), "--tokenizer", str(tokenizer), "--tokens", "1024", "--quiet"]


def run(target: Path, story: list[str], *arguments: str) -> int:
    source = testdata("weights/stories260K/hf")
    return main(["quantize", str(source), str(target), *arguments, *story])


def test_the_command_ends_with_a_table(tmp_path: Path, story: list[str], capsys) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path / "q", story, "--scheme", "int4") == 0
    page = capsys.readouterr().out
    for row in ("bytes", "bits a weight", "perplexity", "KL divergence", "tokens/s"):
        assert f"\n{row}" in page
    assert page.startswith(f"{tmp_path / 'q'}: int4, gptq")
    assert main(["inspect", str(tmp_path / "q")]) == 0
    assert "INT4" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ("--scheme", "int8", "--asymmetric", "--head", "keep"),
        ("--scheme", "int4", "--method", "awq", "--group", "64"),
        ("--scheme", "fp8", "--static"),
    ],
    ids=" ".join,
)
def test_every_scheme_writes_a_folder_that_answers(
    tmp_path: Path, story: list[str], options: tuple[str, ...], capsys
) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path / "q", story, *options, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["kl_divergence_nats"] < 0.5
    assert facts["bytes"][1] < facts["bytes"][0]
    tokenizer = str(testdata("weights/stories260K/tok512.bin"))
    words = ["generate", str(tmp_path / "q"), "--prompt", "Once upon a time", "--temperature", "0"]
    assert main([*words, "--max-tokens", "5", "--tokenizer", tokenizer, "--quiet"]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "fp8", "--method", "gptq"), "--static calibrates"),
        (("--scheme", "int4", "--static"), "--static is for fp8"),
        (("--scheme", "int8", "--text", "no-such-file"), "Check --text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing(
    tmp_path: Path, story: list[str], options: tuple[str, ...], message: str, capsys
) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path / "q", story, *options) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "q").exists()


def test_a_target_that_exists_is_kept(tmp_path: Path, story: list[str], capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "q").mkdir()
    assert run(tmp_path / "q", story, "--scheme", "int8") == 1
    assert "something is there already" in capsys.readouterr().err
    assert not list((tmp_path / "q").iterdir())


def test_a_folder_of_few_bits_is_not_rounded_again(
    tmp_path: Path, story: list[str], capsys
) -> None:  # type: ignore[no-untyped-def]
    assert run(tmp_path / "q", story, "--scheme", "int8", "--method", "rtn") == 0
    again = ["quantize", str(tmp_path / "q"), str(tmp_path / "r"), "--scheme", "int4", *story]
    assert main(again) == 1
    assert "in few bits already" in capsys.readouterr().err


def test_without_a_tokenizer_the_command_says_what_to_give(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    source = testdata("weights/stories260K/hf")
    assert main(["quantize", str(source), str(tmp_path / "q"), "--scheme", "int4"]) == 1
    assert "--tokenizer FILE" in capsys.readouterr().err
