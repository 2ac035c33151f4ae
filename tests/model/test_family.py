"""The table of released sizes, its exact counts, and models of its shapes without memory."""

import subprocess
import sys

import pytest

from puna.errors import ConfigError
from puna.model.config import ModelConfig, RopeScaling, mlp_width_of
from puna.model.family import FAMILY, members_of

# Computed by hand from N = V D (1 or 2) + L (2 D^2 + 2 D K E + 3 D F + 2 D) + D; the second number
# leaves the embedding and the head out; the third is the bfloat16 KV cache of one token in bytes.
COUNTS = {
    "llama-1-7b": (6_738_415_616, 6_476_271_616, 524_288),
    "llama-2-7b": (6_738_415_616, 6_476_271_616, 524_288),
    "llama-1-13b": (13_015_864_320, 12_688_184_320, 819_200),
    "llama-2-13b": (13_015_864_320, 12_688_184_320, 819_200),
    "llama-1-33b": (32_528_943_616, 32_102_959_616, 1_597_440),
    "llama-1-65b": (65_285_660_672, 64_761_372_672, 2_621_440),
    "llama-2-70b": (68_976_648_192, 68_452_360_192, 327_680),
    "llama-3-8b": (8_030_261_248, 6_979_588_096, 131_072),
    "llama-3-70b": (70_553_706_496, 68_452_360_192, 327_680),
    "llama-3.1-8b": (8_030_261_248, 6_979_588_096, 131_072),
    "llama-3.1-70b": (70_553_706_496, 68_452_360_192, 327_680),
    "llama-3.1-405b": (405_853_388_800, 401_650_696_192, 516_096),
    "llama-3.2-1b": (1_235_814_400, 973_146_112, 32_768),
    "llama-3.2-3b": (3_212_749_824, 2_818_747_392, 114_688),
    "llama-3.3-70b": (70_553_706_496, 68_452_360_192, 327_680),
    "llama-guard-3-8b": (8_030_261_248, 6_979_588_096, 131_072),
    "llama-guard-3-1b": (1_235_814_400, 973_146_112, 32_768),
}
FLOPS = {  # forward products of one token, and of one key that it attends to
    "llama-1-7b": (13_214_154_752, 524_288),
    "llama-3.1-8b": (15_009_316_864, 524_288),
    "llama-3.1-405b": (807_495_794_688, 8_257_536),
    "llama-3.2-1b": (2_471_493_632, 131_072),
}


def test_every_member_has_its_exact_number_of_parameters() -> None:
    assert set(COUNTS) == set(FAMILY)
    for name, (total, inner, cache) in COUNTS.items():
        config = FAMILY[name].config
        assert config.parameters == total, name
        assert config.parameters_without_embeddings == inner, name
        assert config.cache_bytes_per_token() == cache, name


def test_flops_per_token_follow_the_formula() -> None:
    for name, (products, attention) in FLOPS.items():
        config = FAMILY[name].config
        assert config.forward_flops_per_token() == products
        assert config.forward_flops_per_token(keys=1) - products == attention


def test_every_member_builds_without_memory_for_its_weights() -> None:
    """All 17 shapes on the meta device, 405B among them, in under 200 MB beyond the imports."""
    program = """
import resource, torch
from puna.model.family import FAMILY
from puna.model.llama import Llama
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, member in FAMILY.items():
    with torch.device("meta"):
        model = Llama(member.config)
    assert sum(p.numel() for p in model.parameters()) == member.config.parameters, name
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 200 * 1024, grown
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_shape_finds_its_names_even_with_a_shortened_context() -> None:
    from dataclasses import replace

    config = replace(FAMILY["llama-3.1-70b"].config, context=4096)
    assert members_of(config) == ["llama-3.1-70b", "llama-3.3-70b"]
    assert members_of(ModelConfig(width=8, layers=1, heads=2, kv_heads=1, mlp_width=8)) == []


@pytest.mark.parametrize(
    ("width", "multiplier", "multiple_of", "hidden"),
    [
        (4096, None, 256, 11008),
        (5120, None, 256, 13824),
        (6656, None, 256, 17920),
        (8192, None, 256, 22016),
        (8192, 1.3, 4096, 28672),
        (4096, 1.3, 1024, 14336),
        (16384, 1.2, 4096, 53248),
        (2048, 1.5, 256, 8192),
        (3072, 1.0, 256, 8192),
        (64, None, 4, 172),
    ],
)
def test_the_mlp_width_follows_metas_rule(
    width: int, multiplier: float | None, multiple_of: int, hidden: int
) -> None:
    assert mlp_width_of(width, multiplier=multiplier, multiple_of=multiple_of) == hidden


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_heads": 4}, "heads=6 must be a multiple of kv_heads=4"),
        ({"heads": 5, "kv_heads": 5}, "width=48 must be a multiple of heads=5"),
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"head_width": 7}, "head_width=7 must be even"),
    ],
)
def test_a_contradictory_shape_is_refused(change: dict[str, int], message: str) -> None:
    shape = {"width": 48, "layers": 2, "heads": 6, "kv_heads": 2, "mlp_width": 96} | change
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**shape)


def test_a_scaling_whose_bounds_cross_is_refused() -> None:
    with pytest.raises(ConfigError, match="low_freq_factor=4"):
        RopeScaling(low_freq_factor=4.0, high_freq_factor=1.0)
