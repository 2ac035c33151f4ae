import pytest

from puna.log import show
from puna.model.config import ModelConfig
from puna.quant.codes import Scheme
from puna.quant.effort import announce, count_products
from puna.quant.gptq import Gptq
from tests.quant.models import TINY

LARGE = ModelConfig(
    width=2048, layers=16, heads=32, kv_heads=8, mlp_width=8192, vocab=128_256, context=4096,
    norm_eps=1e-5, tied=True,
)  # fmt: skip


def test_products_are_counted_by_the_shapes_of_a_block() -> None:
    """Of 96 columns: 160 rows, 96 and 320; of 160 columns: 96 rows; four layers.

    Ten tokens pass through two streams and into two moments, a multiplication and an addition
    each, and once more for scales, whose search multiplies twenty times by each [in, in].
    """
    passes = 4 * 10 * (96 * 160 + 96 * 96 + 96 * 320 + 160 * 96 + 3 * 96**2 + 160**2)
    search = 2 * 10 * (96 * 160 + 96 * 96 + 96 * 320 + 160 * 96 + 3 * 96**2 + 160**2)
    search += 20 * 2 * (160 * 96**2 + 96 * 96**2 + 320 * 96**2 + 96 * 160**2)
    assert passes == 4_956_160
    assert count_products(TINY, 10, None, with_awq=False) == 4 * passes
    assert count_products(TINY, 10, None, with_awq=True) == 4 * (passes + search)
    assert count_products(TINY, 10, Gptq(), with_awq=False) > 4 * passes


def test_a_long_calibration_is_announced_and_a_short_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show():
        announce(TINY, 64, Scheme(bits=4), Gptq(), with_awq=False)
        assert not capsys.readouterr().err
        announce(LARGE, 16_384, Scheme(bits=4), Gptq(sweeps=0), with_awq=False)
    assert "Calibrating on 16,384 tokens will take about" in capsys.readouterr().err
