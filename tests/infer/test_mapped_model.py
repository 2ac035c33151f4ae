"""A model that runs from its file writes what the same folder writes by way of torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from puna import device
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.errors import FormatError, RequestError
from puna.infer.decoder import CacheName, Pages, Part
from puna.infer.generate import generate_ids
from puna.infer.mapped_model import MappedModel, rounded
from puna.infer.open_model import open_model
from puna.infer.rows import decoder_of
from puna.infer.runner import PagedCache, Runner
from puna.infer.sampling import SamplingConfig
from puna.ops import native
from puna.quant.recipe import Recipe, quantize_model
from tests.infer.tiny import GREEDY, WARM, prompts_of, tiny_model

pytestmark = pytest.mark.skipif(not native.levels(), reason="puna was installed without a compiler")
RECIPES = [
    Recipe(scheme="int4"),
    Recipe(scheme="int4", symmetric=False, group=64),
    Recipe(scheme="int8", head="int4"),
]


def folder_of(
    path: Path, recipe: Recipe | None, *, dtype: torch.dtype = torch.float32, tied: bool = False
) -> Path:
    """Write a random model whose norms are not all ones."""
    model = tiny_model(scaled=True, tied=tied)
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            weight.mul_(torch.linspace(0.7, 1.3, len(weight)))
    lows = {}
    if recipe is not None:
        low = tiny_model(scaled=True, tied=tied)
        low.load_state_dict(model.state_dict())
        quantize_model(low, recipe, keep=lows.__setitem__)
    layout = None if recipe is None else "panels"
    save_huggingface(model, model.config, path, dtype=dtype, lows=lows, layout=layout)
    return path


def mapped(folder: Path) -> MappedModel:
    model = open_model(open_checkpoint(folder), "cpu")
    assert isinstance(model, MappedModel)
    return model


@pytest.mark.parametrize("recipe", [None, *RECIPES], ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("is_fast", [False, True], ids=["emulated", "bfloat16"])
def test_logits_are_those_of_the_module_to_the_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe | None,
    tied: bool,
    is_fast: bool,
) -> None:
    """Processors with and without bfloat16 keep embedding and norms differently."""
    monkeypatch.setattr(device, "cpu_features", lambda: ("avx512_bf16",) * is_fast)
    for dtype in (torch.float32, torch.bfloat16):
        folder = folder_of(tmp_path / str(dtype), recipe, dtype=dtype, tied=tied)
        if recipe is None and dtype == torch.bfloat16 and not is_fast:
            continue  # widened when it is loaded
        model = mapped(folder)
        runner = Runner.of(model.as_module())
        assert runner is not None
        part = Part(ids=prompts_of([40])[0], held=0, pages=[2, 0, 1], wants_all=True)
        theirs = runner.step([part], PagedCache(runner.config, 3))
        ours = decoder_of(model).step([part], Pages(model.config, 3, kind="f32"))
        assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("kv_cache", [None, "f32", "int8", "fp8"])
def test_a_ragged_batch_writes_what_the_module_writes(
    tmp_path: Path, kv_cache: CacheName | None
) -> None:
    folder, prompts = folder_of(tmp_path / "q", RECIPES[0]), prompts_of([1, 13, 5])
    sampling = [GREEDY, WARM, SamplingConfig(repetition_penalty=1.3, seed=2)]
    model = mapped(folder)
    ours = generate_ids(model, prompts, max_tokens=20, sampling=sampling, kv_cache=kv_cache)
    module = load_model(folder, as_stored=True)
    theirs = generate_ids(module, prompts, max_tokens=20, sampling=sampling, kv_cache=kv_cache)
    assert ours == theirs


def test_weights_are_views_of_the_file(tmp_path: Path) -> None:
    model = mapped(folder_of(tmp_path / "q", RECIPES[1]))
    for weight in model.matrices.values():
        assert not weight.codes.flags.owndata
    assert load_model(tmp_path / "q", as_stored=True).config == model.config


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_what_must_be_converted_goes_by_way_of_torch(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = open_checkpoint(folder_of(tmp_path / "m", None, dtype=dtype))
    assert not isinstance(open_model(checkpoint, "cpu"), MappedModel)


def test_so_does_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = open_checkpoint(folder_of(tmp_path / "m", None))
    assert isinstance(open_model(checkpoint, "cpu"), MappedModel)
    for asked in ({"dtype": "float32"}, {"recipe": Recipe(scheme="int8")}):
        assert not isinstance(open_model(checkpoint, "cpu", **asked), MappedModel)
    monkeypatch.setattr(native, "level", lambda: None)
    assert not isinstance(open_model(checkpoint, "cpu"), MappedModel)


def test_layouts_of_other_programs_go_by_way_of_torch(tmp_path: Path) -> None:
    model, lows = tiny_model(), {}
    quantize_model(model, RECIPES[0], keep=lows.__setitem__)
    dense = tiny_model()
    save_huggingface(dense, dense.config, tmp_path / "q", lows=lows)
    assert not isinstance(open_model(open_checkpoint(tmp_path / "q"), "cpu"), MappedModel)


def test_a_damaged_scale_is_found_before_the_first_token(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "q", RECIPES[0])
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("panel_scales"))
    tensors[name].view(-1)[7] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FormatError, match="its panel_scales hold NaN or infinities"):
        open_model(open_checkpoint(folder), "cpu")


def test_a_prompt_is_checked_alike(tmp_path: Path) -> None:
    model = mapped(folder_of(tmp_path / "q", RECIPES[0]))
    for wrong, sentence in (([], "no tokens"), ([97], "holds the id 97")):
        with pytest.raises(RequestError, match=sentence):
            generate_ids(model, [wrong], max_tokens=2, sampling=GREEDY)


def test_norms_are_rounded_to_bfloat16_as_torch_rounds() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0)) * 10
    ties = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, torch.nan, torch.inf, 0.0])
    given = torch.cat((values, ties))
    expected = given.bfloat16().float()
    found = torch.from_numpy(rounded(given.numpy()))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
