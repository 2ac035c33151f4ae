"""The shape of one Llama decoder, its exact size, and what it costs to run."""

from dataclasses import dataclass

from puna.errors import ConfigError
from puna.ops.frequencies import RopeScaling

__all__ = ["ModelConfig", "RopeScaling", "mlp_width_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of one Llama decoder. Source: The Llama 3 Herd of Models, table 3."""

    width: int  # D: residual stream
    layers: int  # L
    heads: int  # H: query heads
    kv_heads: int  # K: key and value heads, each shared by H / K query heads
    mlp_width: int  # F: hidden width of the gated MLP
    vocab: int = 128_256  # V: 128,000 byte pairs and 256 special tokens
    context: int = 8192  # positions that the model may read
    head_width: int = 0  # E; 0 stands for width / heads
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tied: bool = False  # the head is the embedding

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "kv_heads", "mlp_width", "vocab", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}.")
        if not self.head_width:
            if self.width % self.heads:
                raise ConfigError(f"width={self.width} must be a multiple of heads={self.heads}.")
            object.__setattr__(self, "head_width", self.width // self.heads)
        if self.head_width % 2:
            raise ConfigError(f"head_width={self.head_width} must be even: RoPE turns pairs.")

    @property
    def layer_parameters(self) -> int:
        """Weights of one block: four attention matrices, three of the MLP, two norms."""
        attention = 2 * self.width * self.head_width * (self.heads + self.kv_heads)
        return attention + 3 * self.width * self.mlp_width + 2 * self.width

    @property
    def parameters(self) -> int:
        """Exact number of weights; a tied head counts once."""
        return self.parameters_without_embeddings + self.vocab * self.width * (2 - self.tied)

    @property
    def parameters_without_embeddings(self) -> int:
        """Number of weights without the embedding and the head."""
        return self.layers * self.layer_parameters + self.width

    def cache_bytes_per_token(self, bytes_per_value: int = 2) -> int:
        """Bytes that one token holds in the KV cache, 2 L K E values."""
        return 2 * self.layers * self.kv_heads * self.head_width * bytes_per_value

    def forward_flops_per_token(self, keys: float = 0) -> float:
        """Floating-point operations of one token's forward pass; a multiply-add counts two.

        Args:
            keys: key positions that the token attends to (S/2 on average in a causal sequence).
        """
        norms = 2 * self.layers * self.width + self.width
        products = 2 * (self.parameters_without_embeddings - norms + self.vocab * self.width)
        return products + 4 * self.layers * self.heads * self.head_width * keys


def mlp_width_of(width: int, *, multiplier: float | None, multiple_of: int) -> int:
    """Return the hidden width of the gated MLP as Meta's `params.json` implies it.

    Two thirds of four times the width, times the multiplier, rounded up to `multiple_of`.
    Source: Meta's llama-models, FeedForward.
    """
    hidden = int(2 * (4 * width) / 3)
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return multiple_of * -(-hidden // multiple_of)
