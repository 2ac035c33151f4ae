import pytest
import torch

from puna.errors import ConfigError, FormatError
from puna.ops import lowbit
from puna.quant.codes import RANGES, Codes, Scheme, quantize_weight, spread
from puna.quant.linear import QuantLinear
from puna.quant.words import pack_words

SCHEMES = [
    Scheme(bits=bits, group=group, symmetric=symmetric)
    for bits in (4, 8)
    for group in (32, 64)
    for symmetric in (True, False)
]


def drawn(out: int = 24, columns: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randn(out, columns, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("columns", [96, 172, 33, 5])
def test_rounding_errs_by_half_a_step_or_by_one_with_a_rounded_zero(
    scheme: Scheme, columns: int
) -> None:
    """Also for the largest positive value of int4, whose code would be 8 if the step were max/8.

    Scales are bfloat16 numbers, which adds 2^-8 of a value: a sixteenth of a step of int4 at 7.5.
    """
    weight = drawn(columns=columns)
    codes = quantize_weight(weight, scheme)
    steps = spread(codes.scales, scheme.group, columns)
    allowed = (0.5 if scheme.symmetric else 1.0) + (0.5 if scheme.bits == 8 else 0.07)
    assert bool(((codes.weight() - weight).abs() <= allowed * steps).all())
    first, last, _ = RANGES[scheme.format]
    assert int(codes.codes.min()) >= first
    assert int(codes.codes.max()) <= last


def test_scales_are_bfloat16_numbers_so_that_no_file_rounds_them() -> None:
    scales = quantize_weight(drawn(), Scheme(bits=4)).scales
    assert torch.equal(scales, scales.bfloat16().float())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_zeros_stay_zeros_and_nothing_is_divided_by_zero(scheme: Scheme) -> None:
    weight = drawn()
    weight[3], weight[:, 32:64], weight[5, 7] = 0.0, 0.0, 1e-44
    back = quantize_weight(weight, scheme).weight()
    assert bool(back.isfinite().all())
    assert not back[3].any()
    assert not back[:, 32:64].any()


def test_an_outlier_costs_its_own_group_only() -> None:
    weight = drawn()
    calm = quantize_weight(weight, Scheme(bits=4)).weight()
    weight[2, 40] = 1e6
    wild = quantize_weight(weight, Scheme(bits=4)).weight()
    same = torch.ones_like(calm, dtype=torch.bool)
    same[2, 32:64] = False
    assert torch.equal(calm[same], wild[same])
    assert abs(float(wild[2, 40]) / 1e6 - 1) < 0.08


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_name(bad: float) -> None:
    weight = drawn()
    weight[1, 2] = bad
    with pytest.raises(FormatError, match=r"blocks\.3\.attn\.wq: 1 of 2,304 weights are NaN"):
        quantize_weight(weight, Scheme(bits=8), where="blocks.3.attn.wq")


def test_a_scheme_of_three_bits_is_refused() -> None:
    with pytest.raises(ConfigError, match="4 or 8"):
        Scheme(bits=3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_every_pair_of_nibbles_survives_packing(symmetric: bool) -> None:
    codes = torch.arange(256).repeat(3, 1)
    pairs = torch.stack((codes % 16, codes // 16), dim=-1).flatten(1).to(torch.uint8)
    scales = (torch.rand(3, 16) + 0.5).bfloat16().float()
    zeros = None if symmetric else torch.arange(48.0).view(3, 16) % 16
    given = Codes(format="int4", codes=pairs, scales=scales, zeros=zeros, group=32)
    packed = lowbit.pack("int4", pairs, scales, zeros, group=32)
    torch.testing.assert_close(packed.dequantize(), given.weight(), rtol=0, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("columns", [96, 172])
@pytest.mark.parametrize("tokens", [1, 7])
def test_a_low_bit_layer_multiplies_by_what_its_codes_stand_for(
    scheme: Scheme, columns: int, tokens: int
) -> None:
    """Kernels may round activations to eight bits: 2^-7 of the row's size, over sqrt(in) terms."""
    codes = quantize_weight(drawn(columns=columns), scheme)
    layer = QuantLinear(codes)
    torch.testing.assert_close(layer.packed.dequantize(), codes.weight(), rtol=1e-6, atol=1e-7)
    x = torch.randn(2, tokens, columns, generator=torch.Generator().manual_seed(1))
    exact = x @ codes.weight().T
    assert float((layer(x) - exact).norm() / exact.norm()) < 0.01
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [(24, 96), (33, 172), (7, 5)])
def test_words_of_a_file_make_the_same_panels_as_single_codes(
    scheme: Scheme, shape: tuple[int, int]
) -> None:
    given = quantize_weight(drawn(*shape), scheme)
    octets = given.codes
    if given.format == "int8":
        octets = (given.codes.to(torch.int16) + 128).to(torch.uint8)
    words = pack_words(octets, given.format)
    expected = lowbit.pack(given.format, given.codes, given.scales, given.zeros, given.group)
    found = lowbit.pack_words(given.format, words, shape[1], given.scales, given.zeros, given.group)
    assert torch.equal(found.dequantize(), expected.dequantize())
    assert found.codes.shape == expected.codes.shape
    assert (found.group, found.scale_unit) == (expected.group, expected.scale_unit)
    x = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.equal(lowbit.linear(x, found), lowbit.linear(x, expected))
