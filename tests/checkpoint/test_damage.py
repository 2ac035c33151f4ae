"""Damaged files of every format end in an error of puna's, and writing fails without a trace."""

import json
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from puna.checkpoint.convert import convert
from puna.checkpoint.gguf import save_gguf
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.llama2c import save_llama2c
from puna.checkpoint.load import load_model
from puna.checkpoint.meta import save_meta
from puna.checkpoint.open import open_checkpoint
from puna.errors import FormatError, PunaError
from puna.model.config import ModelConfig
from tests.checkpoint.models import assert_same_state, random_state, tiny_tokenizer

TINY = ModelConfig(
    width=24,
    layers=2,
    heads=6,
    kv_heads=2,
    mlp_width=40,
    vocab=520,
    context=32,
    rope_theta=10_000.0,
)

# format: (writer, the file that is damaged)
WRITERS: dict[str, tuple[Callable[..., None], str]] = {
    "hf": (save_huggingface, "model.safetensors"),
    "meta": (save_meta, "consolidated.00.pth"),
    "gguf": (save_gguf, ""),
    "bin": (save_llama2c, ""),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in every format; tests copy before they damage."""
    folder = tmp_path_factory.mktemp("originals")
    for name, (save, _) in WRITERS.items():
        extra: dict[str, Any] = {} if name == "bin" else {"tokenizer": tiny_tokenizer()}
        save(random_state(TINY), TINY, folder / f"model.{name}", **extra)
    return folder


def copy_of(originals: Path, name: str, tmp_path: Path) -> tuple[Path, Path]:
    """Return a fresh copy of the model and the file in it that holds the weights."""
    source, target = originals / f"model.{name}", tmp_path / f"model.{name}"
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target, target / WRITERS[name][1]


def use(path: Path) -> None:
    """Do all that a reader does with a checkpoint."""
    checkpoint = open_checkpoint(path)
    load_model(checkpoint)
    checkpoint.tokenizer()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.02, 0.5, 0.999])
def test_a_truncated_file_is_refused(
    name: str, share: float, originals: Path, tmp_path: Path
) -> None:
    model, file = copy_of(originals, name, tmp_path)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(FormatError, match=file.name.replace(".", r"\.")):
        use(model)


@pytest.mark.parametrize("name", WRITERS)
def test_flipped_bytes_raise_nothing_but_errors_of_puna(
    name: str, originals: Path, tmp_path: Path
) -> None:
    """A flip in a weight changes a number, in a header it must be found or harmless."""
    model, file = copy_of(originals, name, tmp_path)
    whole = file.read_bytes()
    dice = random.Random(0)
    # Most flips fall where the structure is: at the head, and in a pickle's or archive's tables.
    head = range(min(len(whole), 3000 if name != "bin" else 28))
    tail = range(max(0, len(whole) - 4000), len(whole)) if name == "meta" else head
    refused = 0
    for _ in range(120):
        raw = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            raw[dice.choice(dice.choice((head, tail)))] = dice.randrange(256)
        file.write_bytes(raw)
        try:
            use(model)
        except PunaError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("name", ["hf", "meta"])
def test_flipped_bytes_in_json_raise_nothing_but_errors_of_puna(
    name: str, originals: Path, tmp_path: Path
) -> None:
    model, _ = copy_of(originals, name, tmp_path)
    file = model / ("config.json" if name == "hf" else "params.json")
    whole = file.read_bytes()
    dice = random.Random(1)
    refused = 0
    for _ in range(150):
        raw = bytearray(whole)
        raw[dice.randrange(len(raw))] = dice.choice(b'0123456789-e."{}[],:tfn\xff ')
        file.write_bytes(raw)
        try:
            open_checkpoint(model)
        except PunaError:
            refused += 1
    assert refused > 75


@contextmanager
def full_disk(largest_file: int) -> Iterator[None]:
    """Let the system refuse to write files beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_previous_model_and_nothing_else(
    name: str, originals: Path, tmp_path: Path
) -> None:
    model, _ = copy_of(originals, name, tmp_path)
    save, other = WRITERS[name][0], random_state(TINY, seed=1)
    with full_disk(60_000), pytest.raises(OSError, match=r"too large|full|write"):
        save(other, TINY, model)
    assert [path.name for path in tmp_path.iterdir()] == [model.name]
    assert_same_state(dict(load_model(model).state_dict()), random_state(TINY))


@pytest.mark.parametrize(
    ("to", "name"), [("hf", "copy"), ("meta", "copy"), ("gguf", "m.gguf"), ("llama2c", "m.bin")]
)
def test_a_full_disk_during_a_conversion_leaves_nothing(
    to: Any, name: str, originals: Path, tmp_path: Path
) -> None:
    with full_disk(60_000), pytest.raises(OSError, match=r"too large|full|write"):
        convert(originals / "model.hf", tmp_path / name, to)
    assert not any(tmp_path.iterdir())


def test_saving_over_the_mapped_model_itself_is_safe(originals: Path, tmp_path: Path) -> None:
    """The new folder is whole before it replaces the old, whose pages the weights still are."""
    model, _ = copy_of(originals, "hf", tmp_path)
    loaded = load_model(model)
    save_huggingface(loaded, TINY, model, dtype=torch.float32)
    assert_same_state(dict(loaded.state_dict()), random_state(TINY))
    assert_same_state(dict(load_model(model).state_dict()), random_state(TINY))


def test_a_llama2c_header_of_another_version_is_named(originals: Path, tmp_path: Path) -> None:
    model, file = copy_of(originals, "bin", tmp_path)
    file.write_bytes(b"24ka" + file.read_bytes()[4:])
    with pytest.raises(FormatError, match="version 1 or 2"):
        open_checkpoint(model)


def test_layers_beyond_reason_are_refused_before_anything_is_built(
    originals: Path, tmp_path: Path
) -> None:
    model, _ = copy_of(originals, "hf", tmp_path)
    values = json.loads((model / "config.json").read_text()) | {"num_hidden_layers": 2_000_000_000}
    (model / "config.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match="2000000000 layers"):
        open_checkpoint(model)
