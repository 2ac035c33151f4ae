import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from puna.errors import FormatError, NotFoundError
from puna.infer.adapters import with_adapter
from puna.infer.engine import Request
from puna.model.llama import Llama
from puna.quant.recipe import as_recipe, quantize_model
from tests.infer.engines import expected, run, tiny_engine
from tests.infer.tiny import GREEDY, tiny_model

LAYER = "base_model.model.model.layers.{}.{}.weight"
PLACES = {  # PEFT's name, puna's name, out and in
    LAYER.format(0, "self_attn.q_proj.lora_{}"): ("blocks.0.attn.wq", 48, 48),
    LAYER.format(1, "mlp.down_proj.lora_{}"): ("blocks.1.mlp.down", 48, 80),
}
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}


def halves() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = {}
    for name, (_, out, inner) in PLACES.items():
        found[name.format("A")] = torch.randn(4, inner, generator=generator) * 0.2
        found[name.format("B")] = torch.randn(out, 4, generator=generator) * 0.2
    return found


def save(folder: Path, config: dict[str, object] = CONFIG, **changed: torch.Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(halves() | changed, folder / "adapter_model.safetensors")
    return folder


def by_hand(model: Llama, scale: float) -> Llama:
    """W + s B A, written down."""
    given = halves()
    for name, (layer, _, _) in PLACES.items():
        product = given[name.format("B")] @ given[name.format("A")]
        model.get_submodule(layer).weight += scale * product
    return model


@pytest.mark.parametrize(("rule", "scale"), [({}, 2.0), ({"use_rslora": True}, 4.0)])
def test_an_adapter_adds_its_products(tmp_path: Path, rule: dict, scale: float) -> None:
    base, ids = tiny_model(), torch.tensor([[5, 7, 11, 2]])
    before = base(ids)
    adapted = with_adapter(base, save(tmp_path, CONFIG | rule))
    torch.testing.assert_close(adapted(ids), by_hand(tiny_model(), scale)(ids))
    assert torch.equal(base(ids), before)
    assert not torch.allclose(adapted(ids), before)


def test_weights_that_an_adapter_leaves_alone_are_the_base_models_own(tmp_path: Path) -> None:
    base = tiny_model()
    adapted = with_adapter(base, save(tmp_path))
    own = {
        name
        for name, weight in adapted.named_parameters()
        if weight.data_ptr() != base.get_parameter(name).data_ptr()
    }
    assert own == {f"{layer}.weight" for layer, _, _ in PLACES.values()}


def test_a_model_of_few_bits_computes_the_product_beside(tmp_path: Path) -> None:
    base = tiny_model()
    quantize_model(base, as_recipe("int8"))
    ids = torch.tensor([[5, 7, 11, 2]])
    found = with_adapter(base, save(tmp_path))(ids)
    exact = by_hand(tiny_model(), 2.0)(ids)
    assert (found - exact).abs().mean() < 0.3 * (found - base(ids)).abs().mean()


def test_base_and_adapter_are_served_side_by_side(tmp_path: Path) -> None:
    base = tiny_model()
    adapted = with_adapter(base, save(tmp_path))
    texts = []
    for model in (base, adapted):
        request = Request(ids=[5, 7, 11], sampling=GREEDY, max_tokens=20)
        texts.append(run(tiny_engine(model), request)[0][0].ids)
        assert texts[-1] == expected(model, [5, 7, 11], 20)
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"peft_type": "IA3"}, "'LORA' is expected"),
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 0}, "r=0"),
    ],
    ids=["kind", "dora", "saved", "rank"],
)
def test_an_adapter_that_means_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], why: str
) -> None:
    with pytest.raises(FormatError, match=why):
        with_adapter(tiny_model(), save(tmp_path, CONFIG | change))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    name = LAYER.format(0, "self_attn.q_proj.lora_A")
    with pytest.raises(FormatError, match=r"\[4, 9\] and \[48, 4\]; \[r, 48\]"):
        with_adapter(tiny_model(), save(tmp_path, **{name: torch.zeros(4, 9)}))
    name = LAYER.format(7, "self_attn.q_proj.lora_A")
    with pytest.raises(FormatError, match="in no layer of this model"):
        with_adapter(tiny_model(), save(tmp_path, **{name: torch.zeros(4, 48)}))


def test_a_folder_without_an_adapter_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no adapter_config\.json"):
        with_adapter(tiny_model(), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(NotFoundError, match="the adapter's weights"):
        with_adapter(tiny_model(), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(FormatError, match="a safetensors file is expected"):
        with_adapter(tiny_model(), tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(FormatError, match="no JSON"):
        with_adapter(tiny_model(), tmp_path)
