import pytest
import torch

from puna.errors import ConfigError
from puna.model.cache import KVCache
from puna.quant.cache import CacheFormat, QuantKVCache
from tests.quant.models import rows, tiny_model


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_a_model_reads_its_eight_bit_cache_nearly_as_it_reads_its_own(form: CacheFormat) -> None:
    model = tiny_model()
    ids = rows(model, count=3)
    exact = KVCache(model.config, 3, 30)
    small = QuantKVCache(model.config, 3, 30, form=form)
    counts = torch.tensor([5, 8, 2])
    for cache in (exact, small):
        model(ids[:, :8], cache=cache, counts=counts)
    expected, found = (model(ids[:, 8:12], cache=cache) for cache in (exact, small))
    bound = 0.02 if form == "int8" else 0.12
    assert float((found - expected).norm() / expected.norm()) < bound


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_every_head_of_every_token_has_its_own_scale(form: CacheFormat) -> None:
    """The first batch sets no scale for what follows: a token 1000 times louder is as exact."""
    model = tiny_model()
    cache = QuantKVCache(model.config, 2, 8, form=form)
    k = torch.randn(2, 3, 2, 16, generator=torch.Generator().manual_seed(0))
    k[:, 1] *= 1000.0
    k[0, 2, 1] = 0.0
    positions = torch.arange(3).expand(2, 3)
    keys, values = cache.write(1, positions, k, 2 * k)
    lost = (keys - k).norm(dim=-1) / k.norm(dim=-1).clamp(min=1e-9)
    assert float(lost.max()) < 0.05
    torch.testing.assert_close(values, 2 * keys)
    assert not keys[0, 2, 1].any()
    assert cache.keys.itemsize == 1


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ConfigError, match="'int8' or 'fp8'"):
        QuantKVCache(tiny_model().config, 1, 4, form="int3")  # type: ignore[arg-type]
