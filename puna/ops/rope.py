"""Rotary position embedding, with the frequency scaling that carries Llama 3.1 to 128K positions.

Frequencies are computed once per model, in float32; a forward pass turns its positions into one
cosine and one sine table that all layers share. Nothing here depends on the sequence length, so a
position has the same rotation in prefill and in decode.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from puna.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How RoPE's low frequencies are slowed for long contexts (`rope_type: llama3`).

    Source: The Llama 3 Herd of Models, section 3.4.2; constants from Meta's llama-models.
    """

    factor: float = 8.0  # 8 in Llama 3.1 and 3.3, 32 in Llama 3.2
    low_freq_factor: float = 1.0  # wavelengths above original_context / this are stretched
    high_freq_factor: float = 4.0  # wavelengths below original_context / this are kept
    original_context: int = 8192  # positions seen before the extension

    def __post_init__(self) -> None:
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                f"low_freq_factor={self.low_freq_factor} must be positive and below "
                f"high_freq_factor={self.high_freq_factor}."
            )
        if self.factor < 1 or self.original_context < 1:
            raise ConfigError(
                f"rope factor={self.factor} and original_context={self.original_context} "
                "must be at least 1."
            )


def inverse_frequencies(head_width: int, theta: float) -> Float[Tensor, "E_half"]:
    """Return `theta^(-2i/E)` for i = 0 .. E/2-1: radians per position, float32, highest first.

    Source: Su et al. 2021, arXiv:2104.09864.
    """
    exponents = torch.arange(0, head_width, 2, dtype=torch.float32, device="cpu") / head_width
    return 1.0 / torch.pow(torch.tensor(theta, dtype=torch.float32, device="cpu"), exponents)


def scale_frequencies(freqs: Float[Tensor, "E_half"], rule: RopeScaling) -> Tensor:
    """Slow the low RoPE frequencies so that a model trained on 8K positions can read 128K.

    Wavelengths longer than the original context are stretched by `rule.factor`, short ones are
    kept, and those between are blended so that the curve has no step.

    Args:
        freqs: radians per position, float32, highest first.
        rule: factor and the two wavelength bounds, in fractions of the original context.
    Returns:
        Radians per position, same order.
    Source: The Llama 3 Herd of Models, section 3.4.2; constants from Meta's llama-models.
    """
    wavelengths = 2 * math.pi / freqs
    low, high = rule.low_freq_factor, rule.high_freq_factor
    blend = (rule.original_context / wavelengths - low) / (high - low)
    blend = blend.clamp(0.0, 1.0)  # 0: stretched, 1: kept
    return torch.where(blend >= 1.0, freqs, (1.0 - blend) * freqs / rule.factor + blend * freqs)


def rotation(
    positions: Int[Tensor, "B T"], freqs: Float[Tensor, "E_half"]
) -> tuple[Float[Tensor, "B T 1 E_half"], Float[Tensor, "B T 1 E_half"]]:
    """Return the cosines and sines of `position * frequency`, in float32."""
    angles = positions.to(torch.float32)[..., None] * freqs
    return angles.cos()[:, :, None, :], angles.sin()[:, :, None, :]


def rotate(
    x: Float[Tensor, "B T H E"],
    cos: Float[Tensor, "B T 1 E_half"],
    sin: Float[Tensor, "B T 1 E_half"],
) -> Float[Tensor, "B T H E"]:
    """Turn each pair (i, i + E/2) of a head's channels by its position's angle, in float32.

    This is Hugging Face's half-split layout; weights in Meta's interleaved layout are permuted when
    they are loaded (puna.checkpoint.layout).
    """
    turned: Tensor = _Turn.apply(x.float(), cos, sin)  # type: ignore[no-untyped-call]
    return turned.to(x.dtype)


class _Turn(torch.autograd.Function):
    """The rotation and its gradient, which is the rotation back: four passes each way, no copies.

    Left to autograd, the two halves cost two zero-filled tensors and two additions more.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    out = torch.empty_like(x)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out
