"""Conversions are proven on the spot, and a wrong copy never takes the target's place."""

from pathlib import Path
from typing import Any

import pytest
import torch

from puna.checkpoint import convert as converter
from puna.checkpoint.convert import convert, prove
from puna.checkpoint.gguf import save_gguf
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.layout import to_interleaved
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError, FormatError, RequestError
from tests.checkpoint.models import (
    GENERATIONS,
    assert_same_state,
    random_state,
    tiny_tokenizer,
)
from tests.testdata import testdata

CONFIG = GENERATIONS["3"]


def source_of(tmp_path: Path, **options: Any) -> Path:
    save_huggingface(random_state(CONFIG), CONFIG, tmp_path / "source", **options)
    return tmp_path / "source"


def test_a_chain_through_all_formats_keeps_every_bit(tmp_path: Path) -> None:
    source = source_of(tmp_path, tokenizer=tiny_tokenizer(), stop_ids=(265, 272))
    first = convert(source, tmp_path / "meta", "meta", verify=True, shards=4)
    second = convert(tmp_path / "meta", tmp_path / "m.gguf", "gguf", verify=True)
    third = convert(tmp_path / "m.gguf", tmp_path / "hf", "hf", verify=True)
    for done in (first, second, third):
        assert done.proof is not None
        assert done.proof.difference <= done.proof.bound < 1e-3
    assert_same_state(dict(load_model(tmp_path / "hf").state_dict()), random_state(CONFIG))
    last = open_checkpoint(tmp_path / "hf")
    assert last.config == CONFIG and last.stop_ids == (265, 272)
    tok = last.tokenizer()
    assert tok is not None and tok.encode("the hat") == tiny_tokenizer().encode("the hat")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
@pytest.mark.parametrize("generation", ["1", "3.1", "3.2"])
def test_all_of_the_difference_is_rounding(generation: str, dtype: Any, tmp_path: Path) -> None:
    config = GENERATIONS[generation]
    save_huggingface(random_state(config), config, tmp_path / "source")
    done = convert(tmp_path / "source", tmp_path / "m.gguf", "gguf", verify=True, dtype=dtype)
    assert done.proof is not None
    assert done.proof.difference > 10 * done.proof.bound >= 10 * done.proof.unexplained


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_rows_in_the_wrong_order_are_found_in_every_number_format(
    kind: str, tmp_path: Path
) -> None:
    source, wrong = source_of(tmp_path), random_state(CONFIG)
    name = "blocks.1.attn.wk.weight"
    wrong[name] = to_interleaved(wrong[name], CONFIG.kv_heads // 2)
    save_gguf(wrong, CONFIG, tmp_path / "wrong.gguf", kind=kind)
    proof = prove(open_checkpoint(source), open_checkpoint(tmp_path / "wrong.gguf"))
    assert proof.unexplained > 1000 * proof.bound


def test_a_copy_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(tmp_path)
    other = random_state(CONFIG, seed=1)
    monkeypatch.setattr(
        converter, "save_gguf", lambda weights, *rest, **more: save_gguf(other, *rest, **more)
    )
    with pytest.raises(FormatError, match="the largest logit difference"):
        convert(source, tmp_path / "m.gguf", "gguf", verify=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_weights_that_are_not_numbers_fail_verification(tmp_path: Path) -> None:
    state = random_state(CONFIG)
    state["norm.weight"][3] = 1e5  # beyond half precision's range
    save_huggingface(state, CONFIG, tmp_path / "source")
    with pytest.raises(FormatError, match="the largest logit difference"):
        convert(tmp_path / "source", tmp_path / "hf", "hf", verify=True, dtype="float16")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "onnx"}, "to='onnx'"),
        ({"dtype": "int4"}, "dtype='int4'"),
        ({"shards": 0}, "shards=0 was given; 1 or more"),
        ({"to": "gguf"}, "gguf is a file whose name ends in .gguf"),
        ({"to": "llama2c"}, "llama2c is a file whose name ends in .bin"),
        ({"target": "copy.gguf"}, "meta is a folder"),
        ({"to": "hf", "dtype": "q8_0"}, "q8_0 is a number format of gguf"),
        ({"to": "llama2c", "target": "m.bin", "dtype": "float16"}, "llama2.c files hold float32"),
        ({"to": "gguf", "target": "m.gguf", "shards": 2}, "only Meta folders are cut so"),
    ],
)
def test_arguments_that_do_not_suit_the_format_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"to": "meta", "target": "copy"} | changes
    target = tmp_path / arguments.pop("target")
    with pytest.raises(RequestError, match=message):
        convert(source_of(tmp_path), target, **arguments)
    assert not target.exists()


def test_an_error_names_the_target_and_not_where_it_is_prepared(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(source_of(tmp_path), tmp_path / "copy", "meta", shards=7)
    assert str(caught.value).startswith(f"{tmp_path / 'copy'}: heads=")


@pytest.mark.parametrize("to", ["hf", "meta", "gguf", "llama2c"])
def test_an_existing_target_is_never_overwritten(to: Any, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("precious")
    with pytest.raises(RequestError, match="something is there already"):
        convert(source_of(tmp_path), tmp_path / "copy", to)
    assert (tmp_path / "copy").read_text() == "precious"


def test_a_tokenizer_of_another_size_is_refused_with_both_numbers(tmp_path: Path) -> None:
    source, file = source_of(tmp_path), testdata("weights/stories260K/tok512.bin")
    with pytest.raises(FormatError, match="512 ids and the embedding 520 rows"):
        convert(source, tmp_path / "m.gguf", "gguf", tokenizer=file)
    assert not (tmp_path / "m.gguf").exists()


def test_a_tokenizer_given_by_hand_travels_along(tmp_path: Path) -> None:
    stories = testdata("weights/stories260K")
    convert(stories / "stories260K.bin", tmp_path / "hf", "hf", tokenizer=stories / "tok512.bin")
    tok = open_checkpoint(tmp_path / "hf").tokenizer()
    assert tok is not None and tok.vocab == 512


def test_the_tokenizer_of_a_llama2c_model_lies_beside_it(tmp_path: Path) -> None:
    stories = testdata("weights/stories260K")
    done = convert(
        stories / "hf", tmp_path / "m.bin", "llama2c", tokenizer=stories / "tok512.bin", verify=True
    )
    assert done.vocabulary == tmp_path / "m.tokenizer.bin"
    assert (tmp_path / "m.bin").read_bytes() == (stories / "stories260K.bin").read_bytes()
    assert done.vocabulary.read_bytes() == (stories / "tok512.bin").read_bytes()
    tok = open_checkpoint(tmp_path / "m.bin").tokenizer()
    assert tok is not None and tok.vocab == 512


def test_a_tokenizer_that_llama2c_cannot_read_is_not_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="puna")
    source = testdata("weights/stories260K/hf")
    assert convert(source, tmp_path / "m.bin", "llama2c").vocabulary is None
    assert "the source has no tokenizer, so none was written" in caplog.text


def test_a_vocabulary_that_lies_beside_the_target_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m.tokenizer.bin").write_text("precious")
    with pytest.raises(RequestError, match=r"m\.tokenizer\.bin: something is there already"):
        convert(source_of(tmp_path), tmp_path / "m.bin", "llama2c")
    assert (tmp_path / "m.tokenizer.bin").read_text() == "precious"


def test_quantized_weights_become_float32(tmp_path: Path) -> None:
    source = source_of(tmp_path)
    convert(source, tmp_path / "q8.gguf", "gguf", dtype="q8_0")
    done = convert(tmp_path / "q8.gguf", tmp_path / "hf", "hf", verify=True)
    assert done.proof is not None and done.proof.difference == 0.0
    assert load_model(tmp_path / "hf").embed.weight.dtype == torch.float32
