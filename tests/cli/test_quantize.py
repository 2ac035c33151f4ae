import json
from pathlib import Path
from typing import Any

import pytest

from puna.cli.main import main
from puna.cli.rounding_table import lines
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
    for row in ("weights, MB", "bits a weight", "perplexity", "KL divergence", "tokens/s"):
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
    assert 0 < facts["rounded_share"] <= 1
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
        (("--scheme", "fp8", "--layout", "panels"), "--layout panels was given for fp8"),
        (("--scheme", "int4", "--layout", "fbgemm_fp8"), "dynamic activation scales alone"),
        (("--scheme", "fp8", "--static", "--layout", "fbgemm_fp8"), "dynamic activation scales"),
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


def test_a_full_disk_is_told_before_the_work(
    tmp_path: Path, story: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    import shutil

    used = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used)
    assert run(tmp_path / "new" / "q", story, "--scheme", "int4") == 1
    assert "1,000 bytes are free there; at least 130,016 are needed" in capsys.readouterr().err


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


def test_plain_rounding_needs_no_tokenizer_and_says_what_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = testdata("weights/stories260K/hf")
    assert main(["quantize", str(source), str(tmp_path / "q"), "--scheme", "int8"]) == 0
    page = capsys.readouterr().out
    assert "Without a tokenizer" in page and "perplexity" not in page
    assert main(["quantize", str(source), str(tmp_path / "r"), "--scheme", "fp8", "--static"]) == 1


FACTS = {
    "target": "q", "scheme": "int4", "method": "gptq", "device": "cpu",
    "bytes": [2_471_645_184, 834_000_000], "bits_per_weight": [16.0, 5.4],
    "bits_per_rounded_weight": 5.03, "rounded_share": 0.99994,
    "perplexity": [12.3456, 12.9], "kl_divergence_nats": 0.0123, "same_likeliest_token": 0.912,
    "tokens_per_s": [17.84, 1052.3], "text": "book.txt", "measured_tokens": 2048,
}  # fmt: skip


def test_the_table_is_narrow_and_rounds_to_what_was_measured() -> None:
    page = lines(FACTS)
    assert max(map(len, page)) < 80
    assert page[2] == "weights, GB             2.47        0.83  34%"
    assert page[5] == "perplexity             12.35       12.90  +4.49%"
    assert page[8] == "tokens/s               17.84       1,052  58.99x, one answer at a time"
    assert page[9:] == ["Measured on 2,048 tokens: book.txt."]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scheme": "fp8"}, "a CPU emulates it exactly, and slowly"),
        ({"rounded_share": 0.8}, "such as the embedding, stays as it was stored"),
        ({"perplexity": [1478.0, 1399.0]}, "foreign to the model"),
        ({"perplexity": [12.3, 12.2]}, "A perplexity that fell is chance"),
    ],
    ids=["fp8", "embedding", "foreign", "fell"],
)
def test_what_could_be_misread_is_said_below_the_table(
    changes: dict[str, object], said: str
) -> None:
    assert any(said in line for line in lines(FACTS | changes))
    assert not any(said in line for line in lines(FACTS))
