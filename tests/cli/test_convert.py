"""`puna convert` and `puna inspect` as a person calls them."""

import json
from pathlib import Path

import pytest

from puna.cli.convert import convert
from puna.cli.inspect import inspect
from puna.errors import FormatError, RequestError
from tests.testdata import testdata


def test_convert_prints_the_size_and_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stories = testdata("weights/stories260K")
    convert(str(stories / "stories260K.bin"), tmp_path / "m.gguf", to="gguf", verify=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'm.gguf'}: {(tmp_path / 'm.gguf').stat().st_size:,} bytes"
    assert lines[1] == "largest logit difference: 0"
    assert lines[2].startswith("of it not rounding: 0 (bound ")
    with pytest.raises(RequestError, match="something is there already"):
        convert(str(stories / "hf"), tmp_path / "m.gguf", to="gguf")


def test_inspect_tells_shape_memory_and_where_each_fact_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inspect(str(testdata("weights/stories260K/stories260K-f16.gguf")))
    page = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "gguf" in page["format"] and "260,032" in page["parameters"]
    assert "8 query and 4 key/value, 8 wide" in page["heads"] and "[metadata]" in page["rope"]
    assert "SentencePieceTokenizer, 512 ids" in page["tokenizer"]
    assert "F16 259,328, F32 704" in page["numbers"]


def test_inspect_refuses_a_tokenizer_of_another_model() -> None:
    with pytest.raises(FormatError, match="32,000 ids and the embedding 512 rows"):
        inspect(
            str(testdata("weights/stories260K/hf")),
            tokenizer=testdata("tokenizers/llama2/tokenizer.model"),
        )


def test_inspect_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    inspect(
        str(testdata("weights/stories260K/hf")),
        tokenizer=testdata("weights/stories260K/tok512.bin"),
        json_=True,
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == 260_032 and facts["kind"] == "huggingface"
    assert facts["config"]["kv_heads"] == 4 and facts["cache_bytes_per_token"] == 2 * 5 * 4 * 8 * 2
    assert facts["tokenizer_vocab"] == 512 and facts["sources"]["config"] == "config.json"


def test_a_released_shape_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Headers alone are enough: the weights of this 8B model are a hole in a sparse file."""
    from puna.checkpoint.huggingface_config import config_to_huggingface
    from puna.checkpoint.names import places
    from puna.model.family import FAMILY

    config = FAMILY["llama-3.1-8b"].config
    table = config_to_huggingface(config, dtype="bfloat16", bos=128000, eos=(128001, 128009))
    (tmp_path / "config.json").write_text(json.dumps(table))
    header, end = {}, 0
    for place in places(config, "huggingface"):
        start, count = end, 2
        for size in place.shape:
            count *= size
        end += count
        header[place.name] = {
            "dtype": "BF16",
            "shape": place.shape,
            "data_offsets": [start, end],
        }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    inspect(str(tmp_path))
    page = capsys.readouterr().out
    assert "Llama 3.1 8B" in page and "8,030,261,248" in page
    assert "131,072 bytes a token" in page and "128001, 128009" in page
    assert "scaled x8 from 8,192 positions" in page
