"""Weights of few bits on a divided model: each rank has the codes of its part, and no others."""

from pathlib import Path
from typing import Any

import pytest
import torch

from puna.checkpoint.convert import convert
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.quantization import Layout
from puna.checkpoint.quantize import quantize_checkpoint
from puna.checkpoint.shard import fill_share, load_share
from puna.errors import ConfigError
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.ops.lowbit import Packed, pack
from puna.parallel.apply import Share
from puna.quant.codes import Codes, Scheme, quantize_weight
from puna.quant.cut import Low, cut
from puna.quant.fp8 import Fp8Linear, Fp8Weight, quantize_fp8
from puna.quant.linear import QuantLinear, packed_of
from puna.quant.recipe import Recipe, as_recipe, quantize_model
from puna.quant.words import Words, pack_words
from tests.llm.scripted import BYTES
from tests.parallel.threads import divided, logits_of

IDS = torch.tensor([[5, 7, 11, 2, 90, 31]])


def model(*, tied: bool = False, layers: int = 3, vocab: int = 97, mlp_width: int = 320) -> Llama:
    """A model with groups of 32 and of 128 to divide, and a vocabulary of no whole panel."""
    config = ModelConfig(
        width=256, layers=layers, heads=8, kv_heads=4, mlp_width=mlp_width, vocab=vocab,
        context=128, rope_theta=10_000.0, tied=tied,
    )  # fmt: skip
    made = Llama(config)
    initialise(made, seed=3, std=0.1)
    return made.eval().requires_grad_(False)


def bytes_of(share: Llama) -> int:
    """Bytes of the codes that a model multiplies by."""
    packed = (m.packed.nbytes for m in share.modules() if isinstance(m, QuantLinear))
    return sum(packed) + sum(m.codes.numel() for m in share.modules() if isinstance(m, Fp8Linear))


def check(whole: Llama, shares: list[Share], *, within: float) -> None:
    """Compare logits, relative to their spread, and how much memory each rank takes."""
    expected, found = whole(IDS), logits_of(shares, IDS)
    assert (found - expected).abs().max() <= within * expected.std()
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
    total = bytes_of(whole)
    assert total and max(map(bytes_of, shares)) < 0.75 * total


# A row-parallel product adds the same terms in another order: float32 keeps 24 bits of each. fp8
# rounds each rank's part of an input row with a scale of its own, and its product to bfloat16.
BOUNDS = {"int4": 1e-5, "int8": 1e-5, "fp8": 0.2}


@pytest.mark.parametrize(
    ("scheme", "layout"),
    [
        ("int4", "panels"),
        ("int8", "panels"),
        ("int4", "compressed-tensors"),
        ("int8", "compressed-tensors"),
        ("fp8", "compressed-tensors"),
        ("fp8", "fbgemm_fp8"),
    ],
)
def test_a_folder_of_few_bits_is_divided_as_it_lies(
    tmp_path: Path, scheme: Any, layout: Layout
) -> None:
    plain = model(vocab=BYTES.vocab)
    save_huggingface(plain, plain.config, tmp_path / "wide", tokenizer=BYTES)
    source = open_checkpoint(tmp_path / "wide")
    quantize_checkpoint(source, tmp_path / "low", as_recipe(scheme), layout=layout)
    stored = open_checkpoint(tmp_path / "low")
    whole = load_model(stored, dtype=torch.float32, as_stored=True)
    for tensor, pipeline in ((2, 1), (2, 3)):
        shares = divided(
            tensor, pipeline, lambda links: load_share(stored, links, dtype=torch.float32)
        )
        check(whole, shares, within=BOUNDS[scheme])


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_codes_of_gguf_are_divided_as_they_lie(tmp_path: Path, kind: Any) -> None:
    plain = model(tied=True, vocab=BYTES.vocab)
    save_huggingface(plain, plain.config, tmp_path / "wide", tokenizer=BYTES)
    convert(tmp_path / "wide", tmp_path / "low.gguf", to="gguf", dtype=kind)
    stored = open_checkpoint(tmp_path / "low.gguf")
    whole = load_model(stored, dtype=torch.float32, as_stored=True)
    shares = divided(2, 1, lambda links: load_share(stored, links, dtype=torch.float32))
    check(whole, shares, within=1e-5)


@pytest.mark.parametrize("scheme", ["int4", "int8", "fp8"])
@pytest.mark.parametrize("tied", [False, True])
def test_weights_rounded_on_the_way_get_the_codes_of_the_whole(scheme: Any, tied: bool) -> None:
    whole = model(tied=tied)
    state = dict(whole.state_dict())
    shares = divided(
        2, 1, lambda links: fill_share(
            whole.config, state, links, dtype=torch.float32, recipe=as_recipe(scheme)
        ),
    )  # fmt: skip
    quantize_model(whole, scheme)
    check(whole, shares, within=BOUNDS[scheme])


def test_groups_are_never_cut() -> None:
    wide = model(mlp_width=40)
    recipe = Recipe(scheme="int4", group=128)

    def shares(tensor: int, recipe: Recipe) -> list[Share]:
        return divided(
            tensor, 1, lambda links: fill_share(
                wide.config, dict(wide.state_dict()), links, dtype=torch.float32, recipe=recipe
            ),
        )  # fmt: skip

    with pytest.raises(
        ConfigError, match=r"64 inputs of attn\.wo, whose codes share a scale for 128"
    ):
        shares(4, recipe)
    with pytest.raises(ConfigError, match=r"cannot share mlp_width=40, .* in steps of 32"):
        shares(4, Recipe(scheme="int4"))


def forms(weight: torch.Tensor, scheme: Scheme) -> dict[str, Low]:
    codes = quantize_weight(weight, scheme)
    plain = codes.codes if codes.format == "int4" else (codes.codes.view(torch.uint8) ^ 128)
    words = Words(
        format=codes.format, words=pack_words(plain, codes.format), shape=codes.shape,
        scales=codes.scales, zeros=codes.zeros, group=codes.group,
    )  # fmt: skip
    return {"codes": codes, "words": words, "panels": packed_of(codes)}


def wide_of(low: Low) -> torch.Tensor:
    return low.dequantize() if isinstance(low, Packed) else low.weight()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [32, 1000])
def test_every_form_of_codes_is_cut_to_the_same_weights(
    bits: int, symmetric: bool, group: int
) -> None:
    weight = torch.randn(50, 88, generator=torch.Generator().manual_seed(0))
    scheme = Scheme(bits=bits, group=group, symmetric=symmetric)
    x = torch.randn(3, 88, generator=torch.Generator().manual_seed(1))
    for name, low in forms(weight, scheme).items():
        whole = wide_of(low)
        for begin, end in ((0, 16), (5, 37), (16, 50), (32, 50)):
            rows = cut(low, 0, (begin, end), where=name)
            assert torch.equal(wide_of(rows), whole[begin:end]), (name, begin)
            if isinstance(rows, Packed):  # to the bit, wherever the panels begin
                given = QuantLinear(rows)(x), QuantLinear(low)(x)[:, begin:end]
                assert torch.equal(*given)
        for begin, end in ((0, 64), (32, 88), (64, 88)):
            columns = cut(low, 1, (begin, end), where=name)
            assert torch.equal(wide_of(columns), whole[:, begin:end]), (name, begin)
            if isinstance(columns, Packed):
                own = x[:, begin:end].contiguous()
                expected = QuantLinear(forms(weight[:, begin:end], scheme)["panels"])(own)
                if group == 32:
                    torch.testing.assert_close(QuantLinear(columns)(own), expected)
        if group == 32:
            with pytest.raises(ConfigError, match="32 share a scale"):
                cut(low, 1, (16, 88), where=name)


def test_fp8_and_wide_panels_are_cut_too() -> None:
    weight = torch.randn(6, 48, generator=torch.Generator().manual_seed(0))
    low = quantize_fp8(weight)
    for dim, span in ((0, (2, 5)), (1, (16, 48))):
        assert torch.equal(
            wide_of(cut(low, dim, span, where="w")),
            low.weight().narrow(dim, span[0], span[1] - span[0]),
        )
    parts = Fp8Weight(codes=low.codes, scales=low.scales.repeat(1, 3))
    assert cut(parts, 1, (16, 48), where="w").scales.shape == (6, 2)  # type: ignore[union-attr]
    assert cut(parts, 1, (16, 24), where="w").scales.shape == (6, 1)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="whole parts are expected"):
        cut(parts, 1, (8, 24), where="w")
    plain = pack("bf16", weight)
    assert torch.equal(wide_of(cut(plain, 0, (1, 4), where="w")), wide_of(plain)[1:4])
    assert isinstance(quantize_weight(weight, Scheme(bits=4)), Codes)
