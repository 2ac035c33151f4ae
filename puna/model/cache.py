"""The keys and values of tokens already read, so that each new token is computed once.

One contiguous block a layer. Rows of a batch have their own lengths and never see each other; a
padded row writes beyond its length, and its next tokens overwrite that.
"""

import torch
from torch import Tensor

from puna.errors import ContextError
from puna.model.config import ModelConfig


class KVCache:
    """Keys and values of B rows, up to `capacity` tokens each."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.layers, batch, capacity, config.kv_heads, config.head_width)
        # Zeros, not garbage: masked keys meet the softmax as 0 * value, and 0 * NaN is NaN.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = torch.zeros(batch, dtype=torch.int64)  # tokens held by each row, on the CPU

    @property
    def batch(self) -> int:
        """Number of rows."""
        return self.keys.shape[1]

    @property
    def capacity(self) -> int:
        """Tokens that a row can hold."""
        return self.keys.shape[2]

    def require(self, tokens: int) -> None:
        """Stop unless every row has room for `tokens` more.

        Raises:
            ContextError: a row would overflow.
        """
        longest = int(self.lengths.max())
        if longest + tokens > self.capacity:
            raise ContextError(
                f"KV cache: {longest} tokens are held and {tokens} more were given; its capacity "
                f"is {self.capacity}. Make a larger cache or give a shorter prompt."
            )

    def write(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, T, K, E] at positions [B, T]; return all keys and values so far.

        Returns:
            Keys and values [B, S, K, E], S reaching to the furthest position written.
        """
        T = positions.shape[1]
        low, high = int(self.lengths.min()), int(self.lengths.max())
        if low == high:
            self.keys[layer, :, low : low + T] = k
            self.values[layer, :, low : low + T] = v
        else:
            rows = torch.arange(self.batch, device=k.device)[:, None]
            self.keys[layer][rows, positions] = k
            self.values[layer][rows, positions] = v
        return self.keys[layer, :, : high + T], self.values[layer, :, : high + T]

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, in this order; the others are dropped."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.lengths = self.lengths[rows.cpu()]
