import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from puna.checkpoint.compressed import packed_parts
from puna.checkpoint.convert import convert
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.quantization import Layout, read_quantization
from puna.checkpoint.stored import Low
from puna.errors import ConfigError, FormatError
from puna.model.llama import Llama
from puna.quant.calibrate import Calibration
from puna.quant.codes import Codes, Format, Scheme, quantize_weight
from puna.quant.fp8 import Fp8Linear, quantize_fp8
from puna.quant.linear import QuantLinear, RowEmbedding
from puna.quant.recipe import Recipe, quantize_model
from puna.quant.words import pack_words, unpack_words
from tests.quant.models import rows, tiny_model

RECIPES = [
    Recipe(scheme="int4"),
    Recipe(scheme="int4", symmetric=False, group=64),
    Recipe(scheme="int8", head="int4"),
    Recipe(scheme="int8", symmetric=False, head=None),
    Recipe(scheme="fp8"),
]


def stored(
    folder: Path,
    recipe: Recipe,
    *,
    tied: bool = False,
    calibration: Calibration | None = None,
    layout: Layout | None = None,
    shard_bytes: int = 10**9,
) -> Llama:
    """Write a quantized folder and return the model that lies in it."""
    model, lows = tiny_model(tied=tied), {}
    quantize_model(model, recipe, calibration, keep=lows.__setitem__)
    dense = tiny_model(tied=tied)
    save_huggingface(dense, dense.config, folder, lows=lows, layout=layout, shard_bytes=shard_bytes)
    if layout != "panels":
        model.embed = dense.embed  # other programs look tokens up in the original
    return model


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_a_quantized_folder_computes_what_was_quantized(
    tmp_path: Path, recipe: Recipe, tied: bool
) -> None:
    model = stored(tmp_path / "q", recipe, tied=tied)
    ids = rows(model)
    assert torch.equal(load_model(tmp_path / "q", as_stored=True)(ids), model(ids))
    wide = load_model(tmp_path / "q")(ids)
    # What is left is the rounding of activations to eight bits, larger for random weights.
    assert float((wide - model(ids)).norm() / wide.norm()) < 0.08


@pytest.mark.parametrize("recipe", RECIPES[:-1], ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_of_panels_computes_what_was_quantized(
    tmp_path: Path, recipe: Recipe, tied: bool
) -> None:
    model = stored(tmp_path / "q", recipe, tied=tied, layout="panels")
    ids = rows(model)
    assert torch.equal(load_model(tmp_path / "q", as_stored=True)(ids), model(ids))
    wide, shared = load_model(tmp_path / "q"), tmp_path / "shared"
    stored(shared, recipe, tied=tied)
    other = load_model(shared)
    if tied and recipe.head is not None:
        assert wide.head is None and isinstance(model.embed, RowEmbedding)
        other.embed = wide.embed
    torch.testing.assert_close(wide(ids), other(ids), rtol=1e-3, atol=1e-3)
    convert(tmp_path / "q", tmp_path / "plain", "hf")
    assert torch.equal(load_model(tmp_path / "plain")(ids), wide(ids))


def test_a_tied_model_in_panels_stores_one_matrix_for_embedding_and_head(tmp_path: Path) -> None:
    stored(tmp_path / "q", Recipe(scheme="int4"), tied=True, layout="panels")
    checkpoint = open_checkpoint(tmp_path / "q")
    assert checkpoint.config.tied and "head.weight" not in checkpoint.tensors
    config = checkpoint.config
    assert checkpoint.tensors["embed.weight"].stored_bytes < 1.5 * config.vocab * config.width
    wide, run = load_model(tmp_path / "q"), load_model(tmp_path / "q", as_stored=True)
    ids = torch.arange(config.vocab)
    assert torch.equal(run.embed(ids), wide.embed.weight)


def test_a_folder_of_panels_is_run_from_where_it_lies(tmp_path: Path) -> None:
    """A private mapping: bytes that change in the file change the weights that were not touched."""
    model = tiny_model().bfloat16()
    lows: dict[str, Low] = {}
    quantize_model(model, Recipe(scheme="int4"), keep=lows.__setitem__)  # type: ignore[arg-type]
    dense = tiny_model().bfloat16()
    save_huggingface(dense, dense.config, tmp_path / "q", lows=lows, layout="panels")
    loaded = load_model(tmp_path / "q", as_stored=True, dtype=torch.float32)
    file = tmp_path / "q" / "model.safetensors"
    with file.open("r+b") as raw:
        raw.seek(len(file.read_bytes()) - 100)
        raw.write(bytes(100))
    last = loaded.get_submodule("blocks.3.attn.wv")  # the file ends with it
    assert isinstance(last, QuantLinear)
    assert isinstance(loaded.embed, RowEmbedding)
    assert not last.packed.codes.flatten()[-100:].any()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"weight_form": None}, "no form, no panels or no scales"),
        ({"weight_panels": torch.zeros(3, 2, 16, 4, dtype=torch.uint8)}, "panels are U8"),
        ({"weight_panel_scales": torch.zeros(10, 3, 16)}, "panel_scales are F32"),
        ({"weight_form": torch.tensor([4, 160, 96, 0, 0, 0, 0, 0])}, "groups of 0"),
        ({"weight_form": torch.tensor([3, 160, 96, 32, 0, 0, 0, 0])}, "in 3 bits"),
        ({"weight_form": torch.tensor([4, 96, 160, 32, 0, 0, 0, 0])}, "96 x 160"),
        ({"weight_form": torch.tensor([4, 160, 96, 32, 999, 0, 0, 0])}, "do not belong together"),
    ],
)
def test_damaged_panels_are_refused(
    tmp_path: Path, spoil: dict[str, torch.Tensor | None], message: str
) -> None:
    stored(tmp_path / "q", Recipe(scheme="int4"), layout="panels")
    file = tmp_path / "q" / "model.safetensors"
    parts = {name: part.clone() for name, part in load_file(file).items()}
    for end, part in spoil.items():
        name = f"model.layers.1.mlp.up_proj.{end}"
        del parts[name]
        if part is not None:
            parts[name] = part
    save_file(parts, file)
    with pytest.raises(FormatError, match=message):
        open_checkpoint(tmp_path / "q")


def test_fp8_has_no_panels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="panels hold int4 and int8"):
        stored(tmp_path / "q", Recipe(scheme="fp8"), layout="panels")


def test_a_quantized_folder_comes_back_from_shards(tmp_path: Path) -> None:
    model = stored(tmp_path / "q", Recipe(scheme="int4"), shard_bytes=40_000)
    assert (tmp_path / "q" / "model.safetensors.index.json").exists()
    ids = rows(model)
    assert torch.equal(load_model(tmp_path / "q", as_stored=True)(ids), model(ids))


@pytest.mark.parametrize("layout", ["compressed-tensors", None])
def test_static_fp8_scales_come_back(tmp_path: Path, layout: Layout | None) -> None:
    calibration = Calibration(ids=rows(tiny_model()))
    stored(tmp_path / "q", Recipe(scheme="fp8"), calibration=calibration, layout=layout)
    layer = load_model(tmp_path / "q", as_stored=True).get_submodule("blocks.1.mlp.up")
    assert isinstance(layer, Fp8Linear)
    assert layer.input_scale is not None


def test_dynamic_fp8_keeps_its_bound_in_the_form_of_the_released_405b(tmp_path: Path) -> None:
    stored(tmp_path / "q", Recipe(scheme="fp8"))
    rules = json.loads((tmp_path / "q" / "config.json").read_text())["quantization_config"]
    assert rules["quant_method"] == "fbgemm_fp8"
    assert rules["activation_scale_ub"] == 1200.0
    assert "lm_head" in rules["modules_to_not_convert"]
    assert "model.layers.0.mlp.up_proj" in rules["modules_to_not_convert"]
    assert "model.layers.1.mlp.up_proj" not in rules["modules_to_not_convert"]
    layer = load_model(tmp_path / "q", as_stored=True).get_submodule("blocks.2.mlp.down")
    assert isinstance(layer, Fp8Linear)
    assert layer.bound == 1200.0


def test_a_bound_that_the_layout_cannot_hold_is_not_lost_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its form for dynamic fp8 has no bound: a reader would scale by the outlier (Q1)."""
    caplog.set_level("INFO", logger="puna")
    stored(tmp_path / "q", Recipe(scheme="fp8"), layout="compressed-tensors")
    assert "no place for the bound of activation scales (1200)" in caplog.text
    layer = load_model(tmp_path / "q", as_stored=True).get_submodule("blocks.2.mlp.down")
    assert isinstance(layer, Fp8Linear)
    assert layer.bound is None
    calibration = Calibration(ids=rows(tiny_model()))
    caplog.clear()
    stored(tmp_path / "s", Recipe(scheme="fp8"), calibration=calibration)
    assert not caplog.text


def test_low_bits_do_not_fit_the_form_of_fbgemm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose the compressed-tensors layout"):
        stored(tmp_path / "q", Recipe(scheme="int4"), layout="fbgemm_fp8")


def test_a_quantized_folder_converts_to_plain_weights(tmp_path: Path) -> None:
    stored(tmp_path / "q", Recipe(scheme="int4"), tied=True)
    done = convert(tmp_path / "q", tmp_path / "plain", "hf", verify=True)
    assert done.proof is not None
    assert open_checkpoint(tmp_path / "plain").tensors["head.weight"].dtype == "F32"


@pytest.mark.parametrize("form", ["int4", "int8"])
@pytest.mark.parametrize("columns", [256, 33, 7])
def test_words_give_their_codes_back(form: Format, columns: int) -> None:
    codes = torch.arange(3 * columns, dtype=torch.int64).view(3, columns)
    codes = (codes % (16 if form == "int4" else 256)).to(torch.uint8)
    assert torch.equal(unpack_words(pack_words(codes, form), form, columns), codes)


def test_the_first_column_lies_in_the_lowest_bits() -> None:
    codes = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 15]], dtype=torch.uint8)
    assert int(pack_words(codes, "int4")[0, 0]) & 0xFFFFFFFF == 0xF7654321


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors_reads_the_same_weight(bits: int, symmetric: bool) -> None:
    pytest.importorskip("compressed_tensors", reason="the package is not installed")
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weight = torch.randn(24, 96, generator=torch.Generator().manual_seed(0))
    low = quantize_weight(weight, Scheme(bits=bits, symmetric=symmetric))
    args = QuantizationArgs(
        num_bits=bits, type="int", strategy="group", group_size=32, symmetric=symmetric
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    parts = packed_parts(low)
    parts["weight_scale"] = parts["weight_scale"].float()
    theirs = PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
    torch.testing.assert_close(theirs.float(), low.weight(), rtol=1e-6, atol=1e-7)


def test_codes_of_minus_128_are_multiplied_in_wide_numbers(tmp_path: Path) -> None:
    """Other tools use the whole range of a byte; the kernels' codes are symmetric."""
    model = tiny_model()
    low = quantize_weight(model.get_parameter("blocks.0.attn.wo.weight"), Scheme(bits=8))
    low.codes[3, 4] = -128
    save_huggingface(model, model.config, tmp_path / "q", lows={"blocks.0.attn.wo": low})
    layer = load_model(tmp_path / "q", as_stored=True).get_submodule("blocks.0.attn.wo")
    assert isinstance(layer, torch.nn.Linear)
    assert torch.equal(layer.weight, low.weight())


def one(folder: Path, low: Low) -> dict[str, torch.Tensor]:
    """Store a model with one quantized matrix and return its tensors."""
    from safetensors.torch import load_file

    model = tiny_model()
    save_huggingface(model, model.config, folder, lows={"blocks.1.mlp.up": low})
    return load_file(folder / "model.safetensors")


def int4_up() -> Codes:
    weight = tiny_model().get_parameter("blocks.1.mlp.up.weight")
    return quantize_weight(weight, Scheme(bits=4, symmetric=False))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("weight_packed", lambda x: x[:, :-1], "is packed as I32"),
        ("weight_packed", lambda x: x.to(torch.int64), "is packed as I64"),
        ("weight_scale", lambda x: None, "has no weight_scale"),
        ("weight_scale", lambda x: x[:-1], "rows are expected"),
        ("weight_scale", lambda x: x[:, :-1], "do not belong together"),
        ("weight_scale", lambda x: x * torch.nan, "negative or no number"),
        ("weight_zero_point", lambda x: x[:-1], "zero points"),
        ("weight_shape", lambda x: x + 1, "weight_shape is not"),
        ("weight_g_idx", lambda x: torch.zeros(96, dtype=torch.int32), "g_idx"),
    ],
)
def test_a_damaged_matrix_is_named(tmp_path: Path, part: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    from safetensors.torch import save_file

    tensors = one(tmp_path / "q", int4_up())
    name = f"model.layers.1.mlp.up_proj.{part}"
    changed = change(tensors.get(name))
    tensors.pop(name, None)
    if changed is not None:
        tensors[name] = changed.contiguous()
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    with pytest.raises(FormatError, match=message) as caught:
        load_model(tmp_path / "q", as_stored=True)
    assert "model.layers.1.mlp.up_proj" in str(caught.value)


def test_nan_in_fp8_is_damage(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    low = quantize_fp8(tiny_model().get_parameter("blocks.1.mlp.up.weight"))
    tensors = one(tmp_path / "q", low)
    tensors["model.layers.1.mlp.up_proj.weight"].view(torch.uint8)[2, 3] = 255
    save_file(tensors, tmp_path / "q" / "model.safetensors")
    with pytest.raises(FormatError, match="holds NaN"):
        load_model(tmp_path / "q", as_stored=True)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
def test_a_truncated_quantized_file_is_no_model(tmp_path: Path, keep: int) -> None:
    one(tmp_path / "q", int4_up())
    path = tmp_path / "q" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        load_model(tmp_path / "q", as_stored=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quant_method": "gptq"}, "quant_method is 'gptq'"),
        ({"format": "nvfp4-pack-quantized"}, "nvfp4"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({"config_groups": {}}, "config_groups"),
    ],
)
def test_what_is_not_computed_is_refused(change: dict[str, object], message: str) -> None:
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
    table = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    assert read_quantization(table, where="config.json").groups == (32,)
    with pytest.raises(ConfigError, match=message):
        read_quantization(table | change, where="config.json")


def test_whole_numbers_in_an_unquantized_folder_are_still_refused(tmp_path: Path) -> None:
    one(tmp_path / "q", int4_up())
    path = tmp_path / "q" / "config.json"
    table = json.loads(path.read_text())
    del table["quantization_config"]
    path.write_text(json.dumps(table))
    with pytest.raises(FormatError, match="stored as I32"):
        open_checkpoint(tmp_path / "q")


def test_layers_in_few_bits_hold_no_wide_matrix(tmp_path: Path) -> None:
    stored(tmp_path / "q", Recipe(scheme="int4"))
    model = load_model(tmp_path / "q", as_stored=True)
    layer = model.get_submodule("blocks.1.mlp.up")
    assert isinstance(layer, QuantLinear)
    assert layer.packed.nbytes < 160 * 96 * 0.7
    assert not list(layer.parameters())
