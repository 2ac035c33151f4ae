"""Keys and values in eight bits: half the memory of a 16-bit cache, with scales that follow them.

Every head of every token has a scale of its own, computed when the token arrives. There is no scale
to calibrate, and none that the first batch could set for all that follow. No command runs this: it
is the readable reference, which widens what attention reads, and the native decoder's eight-bit
caches are held against it (tests/infer/test_kv_cache.py).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from puna.errors import ConfigError
from puna.model.cache import KVCache
from puna.model.config import ModelConfig
from puna.quant.fp8 import E4M3, quantize_rows

CacheFormat = Literal["int8", "fp8"]

_INT8_MAX = 127.0
_STORED = {"int8": torch.int8, "fp8": E4M3}


class QuantKVCache(KVCache):
    """A KV cache whose numbers take eight bits, and a float32 scale for each head and token."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        form: CacheFormat = "int8",
    ) -> None:
        if form not in _STORED:
            raise ConfigError(f"KV cache: form={form!r}; 'int8' or 'fp8' is expected.")
        super().__init__(config, batch, capacity, _STORED[form], device)
        self.form, self.dtype = form, dtype
        self.key_scales = torch.zeros(*self.keys.shape[:-1], 1, device=device)
        self.value_scales = torch.zeros_like(self.key_scales)

    def write(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, T, K, E] at positions [B, T]; return all keys and values so far, wide.

        Returns:
            Keys and values [B, S, K, E] in the dtype of the model.
        """
        reach = int(self.lengths.max()) + positions.shape[1]
        rows = torch.arange(self.batch, device=k.device)[:, None]
        for given, codes, scales in (
            (k, self.keys, self.key_scales),
            (v, self.values, self.value_scales),
        ):
            codes[layer][rows, positions], scales[layer][rows, positions] = self._narrow(given)
        return (
            self._wide(self.keys[layer, :, :reach], self.key_scales[layer, :, :reach]),
            self._wide(self.values[layer, :, :reach], self.value_scales[layer, :, :reach]),
        )

    def _narrow(self, x: Float[Tensor, "B T K E"]) -> tuple[Tensor, Tensor]:
        if self.form == "fp8":
            return quantize_rows(x)
        wide = x.float()
        scales = wide.abs().amax(-1, keepdim=True).clamp(min=1e-12) / _INT8_MAX
        return (wide / scales).round().to(torch.int8), scales

    def _wide(self, codes: Tensor, scales: Tensor) -> Tensor:
        return (codes.float() * scales).to(self.dtype)
