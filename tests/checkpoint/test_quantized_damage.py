"""Damaged folders of few bits: every form ends in one sentence that names file or matrix."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.stored import Low
from puna.errors import FormatError, PunaError
from puna.quant.calibrate import Calibration
from puna.quant.recipe import Recipe, quantize_model
from tests.quant.models import rows, tiny_model

# form: the recipe, the layout, whether activations are static
FORMS: dict[str, tuple[Recipe, Any, bool]] = {
    "int4 panels": (Recipe(scheme="int4", symmetric=False), "panels", False),
    "int8 panels": (Recipe(scheme="int8"), "panels", False),
    "int4 shared": (Recipe(scheme="int4", symmetric=False), "compressed-tensors", False),
    "int8 shared": (Recipe(scheme="int8"), "compressed-tensors", False),
    "fp8 dynamic": (Recipe(scheme="fp8"), "fbgemm_fp8", False),
    "fp8 static": (Recipe(scheme="fp8"), "compressed-tensors", True),
}
_MATRIX = "model.layers.1.mlp.up_proj."


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model in every form; a test damages a copy."""
    home = tmp_path_factory.mktemp("forms")
    for name, (recipe, layout, is_static) in FORMS.items():
        model, lows = tiny_model(), dict[str, Low]()
        text = Calibration(ids=rows(model)) if is_static else None
        quantize_model(model, recipe, text, keep=lows.__setitem__)  # type: ignore[arg-type]
        dense = tiny_model()
        save_huggingface(dense, dense.config, home / name, lows=lows, layout=layout)
    return home


def copy_of(folders: Path, form: str, target: Path) -> Path:
    """Return a copy's file of weights."""
    target.mkdir()
    for file in (folders / form).iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target / "model.safetensors"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_whole_before_it_is_damaged(folders: Path, form: str) -> None:
    model = load_model(folders / form, as_stored=True)
    assert bool(model(rows(model)).isfinite().all())


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_is_named(folders: Path, form: str, tmp_path: Path) -> None:
    file = copy_of(folders, form, tmp_path / "q")
    whole = file.read_bytes()
    for keep in (0, 5, 300, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:keep])
        with pytest.raises(FormatError, match=r"model\.safetensors") as caught:
            load_model(tmp_path / "q", as_stored=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_flipped_bytes_of_the_header_raise_nothing_but_errors_of_puna(
    folders: Path, form: str, tmp_path: Path
) -> None:
    file = copy_of(folders, form, tmp_path / "q")
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    dice, refused = random.Random(0), 0
    for _ in range(40):
        raw = bytearray(whole)
        raw[dice.randrange(header)] ^= 1 << dice.randrange(8)
        file.write_bytes(raw)
        try:
            load_model(tmp_path / "q", as_stored=True)
        except PunaError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30


def _scale_of(form: str) -> str:
    return "weight_panel_scales" if "panels" in form else "weight_scale"


def _with_nan(scales: Tensor) -> Tensor:
    spoiled = scales.clone()
    spoiled.flatten()[3] = torch.nan
    return spoiled


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", ["missing", "NaN", "infinite", "short"])
def test_scales_that_are_missing_or_no_numbers_are_refused_by_the_name_of_the_matrix(
    folders: Path, form: str, damage: str, tmp_path: Path
) -> None:
    file = copy_of(folders, form, tmp_path / "q")
    parts = {name: part.clone() for name, part in load_file(file).items()}
    name = _MATRIX + _scale_of(form)
    match damage:
        case "missing":
            del parts[name]
        case "NaN":
            parts[name] = _with_nan(parts[name])
        case "infinite":
            parts[name] = parts[name] / 0.0
        case _:
            parts[name] = parts[name][:-1].contiguous()
    save_file(parts, file)
    with pytest.raises(FormatError, match=r"model\.layers\.1\.mlp\.up_proj\.weight") as caught:
        load_model(tmp_path / "q", as_stored=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_matrix_of_another_shape_is_refused(folders: Path, form: str, tmp_path: Path) -> None:
    file = copy_of(folders, form, tmp_path / "q")
    parts = {name: part.clone() for name, part in load_file(file).items()}
    last = {"panels": "weight_panels", "shared": "weight_packed"}.get(form[5:], "weight")
    parts[_MATRIX + last] = parts[_MATRIX + last][:, :-1].contiguous()
    save_file(parts, file)
    with pytest.raises(FormatError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(tmp_path / "q", as_stored=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_configuration_without_its_rules_is_refused(
    folders: Path, form: str, tmp_path: Path
) -> None:
    copy_of(folders, form, tmp_path / "q")
    file = tmp_path / "q" / "config.json"
    table = json.loads(file.read_text())
    del table["quantization_config"]
    file.write_text(json.dumps(table))
    with pytest.raises(PunaError):
        load_model(tmp_path / "q", as_stored=True)
