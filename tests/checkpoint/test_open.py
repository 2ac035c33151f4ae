"""The one door: what lies at a path decides, and what is no model is said to be none."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

import puna
from puna.checkpoint.gguf import save_gguf
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model, load_tokenizer
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.stored import Checkpoint
from puna.errors import ExtraError, FormatError, NotFoundError
from tests.checkpoint.models import GENERATIONS, random_state, tiny_tokenizer

CONFIG = GENERATIONS["3"]


def model_folder(folder: Path) -> Path:
    save_huggingface(random_state(CONFIG), CONFIG, folder, tokenizer=tiny_tokenizer())
    return folder


def test_a_run_folder_is_its_newest_model(tmp_path: Path) -> None:
    model_folder(tmp_path / "run" / "model")
    checkpoint = open_checkpoint(str(tmp_path / "run"))
    assert checkpoint.kind == "run" and checkpoint.config == CONFIG
    assert load_tokenizer(tmp_path / "run").vocab == 520
    assert puna.load_tokenizer(str(tmp_path / "run")).vocab == 520


def test_a_tokenizer_comes_from_a_folder_a_file_or_a_gguf(tmp_path: Path) -> None:
    folder, tok = model_folder(tmp_path / "model"), tiny_tokenizer()
    save_gguf(random_state(CONFIG), CONFIG, tmp_path / "m.gguf", tokenizer=tok)
    save_gguf(random_state(CONFIG), CONFIG, tmp_path / "bare.gguf")
    for place in (folder, folder / "tokenizer.json", tmp_path / "m.gguf"):
        assert load_tokenizer(place).encode("the hat") == tok.encode("the hat")
    with pytest.raises(NotFoundError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "bare.gguf")
    assert open_checkpoint(tmp_path / "bare.gguf").tokenizer() is None


def test_a_file_is_known_by_its_content_where_its_name_says_little(tmp_path: Path) -> None:
    save_gguf(random_state(CONFIG), CONFIG, tmp_path / "model")
    assert open_checkpoint(tmp_path / "model").kind == "gguf"


def test_what_is_no_model_is_refused_with_what_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file or folder"):
        open_checkpoint(tmp_path / "nothing")
    with pytest.raises(FormatError, match="no model is here"):
        open_checkpoint(tmp_path)
    folder = model_folder(tmp_path / "model")
    with pytest.raises(FormatError, match="Give the folder that holds it"):
        open_checkpoint(folder / "model.safetensors")
    (tmp_path / "ggufs").mkdir()
    (tmp_path / "ggufs" / "m.gguf").touch()
    with pytest.raises(FormatError, match=r"It holds m\.gguf: give the file itself"):
        open_checkpoint(tmp_path / "ggufs")
    (tmp_path / "run" / "stages").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="the run has no model yet"):
        open_checkpoint(tmp_path / "run")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(NotFoundError, match=r"pickled pytorch_model\.bin files are not read"):
        open_checkpoint(folder)


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(model_folder(tmp_path / "model"))
    assert checkpoint.tensor_names()[0] == "embed.weight"
    assert "head.bias" not in checkpoint.weights() and len(checkpoint.weights()) == 30
    with pytest.raises(NotFoundError, match=r"no tensor 'head\.bias'"):
        checkpoint.tensor("head.bias")
    with pytest.raises(KeyError):
        checkpoint.weights()["head.bias"]


def test_opening_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model_folder(tmp_path / "model")

    def forbidden(self: Checkpoint, name: str, dtype: Any = None) -> torch.Tensor:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(Checkpoint, "tensor", forbidden)
    assert open_checkpoint(folder).config == CONFIG


def test_a_loaded_model_is_in_evaluation_mode_and_takes_no_gradients(tmp_path: Path) -> None:
    model = load_model(model_folder(tmp_path / "model"), dtype=torch.bfloat16)
    assert not model.training
    assert not any(weight.requires_grad or weight.is_meta for weight in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.freqs.dtype == torch.float32


def test_a_hub_id_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ExtraError, match=r"pip install 'puna\[hub\]'"):
        open_checkpoint("owner/model")


def hub(
    monkeypatch: pytest.MonkeyPatch, cached: Path | None, online: Path | None
) -> list[dict[str, Any]]:
    """Stand in for the hub: what the cache holds, what a download gives; returns the calls."""
    calls: list[dict[str, Any]] = []

    def snapshot_download(name: str, **options: Any) -> str:
        calls.append(options)
        found = cached if options.get("local_files_only") else online
        if found is None:
            raise LocalEntryNotFoundError(f"no copy of {name}")
        return str(found)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_a_cached_model_of_the_hub_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "cache")
    calls = hub(monkeypatch, cached=folder, online=None)
    assert open_checkpoint("owner/model").config == CONFIG
    assert load_tokenizer("owner/model").vocab == 520
    assert all(call["local_files_only"] for call in calls)


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def name_a_shard_that_is_absent(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("damage", [drop_weights, name_a_shard_that_is_absent])
def test_a_half_cached_model_is_downloaded(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(model_folder(tmp_path / "cache"))
    whole = model_folder(tmp_path / "whole")
    hub(monkeypatch, cached=tmp_path / "cache", online=whole)
    assert open_checkpoint("owner/model").path == whole


def test_a_hub_id_that_nobody_has_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, cached=None, online=None)
    with pytest.raises(NotFoundError, match="Check the name and the network"):
        open_checkpoint("owner/model")
