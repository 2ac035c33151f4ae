from pathlib import Path

import pytest
import torch

from puna.checkpoint.convert import convert
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.meta import save_meta
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError, FormatError
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.quant.fp8 import Fp8Linear, Fp8Weight
from puna.quant.recipe import quantize_model

CONFIG = ModelConfig(width=96, layers=4, heads=6, kv_heads=2, mlp_width=160, vocab=72, context=8192)


def model() -> Llama:
    made = Llama(CONFIG)
    initialise(made, seed=0, std=0.15)
    return made.eval().requires_grad_(False)


def fp8() -> tuple[Llama, dict[str, Fp8Weight]]:
    kept: dict[str, Fp8Weight] = {}
    made = quantize_model(model(), "fp8", keep=kept.__setitem__)  # type: ignore[arg-type]
    return made, kept


@pytest.mark.parametrize("shards", [1, 2])
def test_a_meta_folder_in_fp8_comes_back(tmp_path: Path, shards: int) -> None:
    """Cut in two, the activations of w2 have a scale in each half: near, and not the same."""
    made, lows = fp8()
    save_meta(model(), CONFIG, tmp_path / "m", shards=shards, lows=lows)
    scales = torch.load(tmp_path / "m" / "fp8_scales_0.pt", weights_only=True)
    assert sorted(scales) == [
        f"{layer}_feed_forward.{name}_0" for layer in (1, 2) for name in ("w1", "w2", "w3")
    ]
    assert scales["1_feed_forward.w1_0"].shape == (160 // shards,)
    assert scales["1_feed_forward.w2_0"].shape == (96,)
    checkpoint = open_checkpoint(tmp_path / "m")
    for name, low in lows.items():
        assert torch.equal(checkpoint.tensor(f"{name}.weight"), low.weight()), name
    loaded = load_model(checkpoint, as_stored=True)
    assert isinstance(loaded.get_submodule("blocks.1.mlp.down"), Fp8Linear)
    ids = torch.randint(72, (2, 11), generator=torch.Generator().manual_seed(0))
    expected, found = made(ids), loaded(ids)
    if shards == 1:
        assert torch.equal(found, expected)
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_bytes_saved_without_a_type_are_the_same_weights(tmp_path: Path) -> None:
    _, lows = fp8()
    save_meta(model(), CONFIG, tmp_path / "m", lows=lows)
    path = tmp_path / "m" / "consolidated.00.pth"
    parts = torch.load(path, weights_only=True)
    plain = {n: t.view(torch.uint8) if t.itemsize == 1 else t for n, t in parts.items()}
    torch.save(plain, path)
    found = open_checkpoint(tmp_path / "m").tensor("blocks.2.mlp.up.weight")
    assert torch.equal(found, lows["blocks.2.mlp.up"].weight())


def test_fp8_is_converted_between_folders_without_being_widened(tmp_path: Path) -> None:
    _, lows = fp8()
    save_huggingface(model(), CONFIG, tmp_path / "hf", lows=lows)
    convert(tmp_path / "hf", tmp_path / "meta", "meta", verify=True)
    assert (tmp_path / "meta" / "fp8_scales_0.pt").exists()
    convert(tmp_path / "meta", tmp_path / "back", "hf", verify=True)
    tensors = open_checkpoint(tmp_path / "back").tensors
    assert tensors["blocks.1.mlp.gate.weight"].dtype == "F8_E4M3"
    assert tensors["blocks.0.mlp.gate.weight"].dtype == "F32"


def test_bytes_without_scales_and_scales_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    _, lows = fp8()
    save_meta(model(), CONFIG, tmp_path / "m", lows=lows)
    path = tmp_path / "m" / "fp8_scales_0.pt"
    scales = torch.load(path, weights_only=True)
    torch.save(scales | {"1_feed_forward.w1_0": torch.ones(7)}, path)
    with pytest.raises(FormatError, match="7 scales for 160 rows"):
        open_checkpoint(tmp_path / "m")
    del scales["1_feed_forward.w1_0"]
    torch.save(scales, path)
    with pytest.raises(FormatError, match="has no scales for it"):
        open_checkpoint(tmp_path / "m")
    path.unlink()
    with pytest.raises(FormatError, match="Choose an unquantized checkpoint"):
        open_checkpoint(tmp_path / "m")


def test_int4_has_no_place_in_metas_form(tmp_path: Path) -> None:
    lows: dict[str, object] = {}
    quantize_model(model(), "int4", keep=lows.__setitem__)
    with pytest.raises(ConfigError, match="cannot say"):
        save_meta(model(), CONFIG, tmp_path / "m", lows=lows)  # type: ignore[arg-type]
