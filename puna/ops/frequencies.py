"""How fast RoPE turns each pair of channels, and how that is slowed for long contexts.

Frequencies are numbers of a model's shape alone, so they are computed in numpy: the native decoder
starts without torch (docs/decisions/0014), and `puna.ops.rope` turns with the same ones. Powers are
taken in float64 and rounded once, which gives the same float32 on every machine.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from puna.errors import ConfigError

Frequencies = NDArray[np.float32]  # [E_half] radians per position, highest first


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


def inverse_frequencies(head_width: int, theta: float) -> Frequencies:
    """Return `theta^(-2i/E)` for i = 0 .. E/2-1: radians per position, float32, highest first.

    Source: Su et al. 2021, arXiv:2104.09864.
    """
    exponents = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
    powers = np.power(np.float64(np.float32(theta)), exponents.astype(np.float64))
    return np.float32(1.0) / powers.astype(np.float32)


def scale_frequencies(freqs: Frequencies, rule: RopeScaling) -> Frequencies:
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
    one = np.float32(1.0)
    # A number divided by a tensor is, in torch and so in the references, a product with 1 / tensor.
    wavelengths = np.float32(2 * math.pi) * (one / freqs)
    low, high = np.float32(rule.low_freq_factor), np.float32(rule.high_freq_factor)
    blend = (np.float32(rule.original_context) * (one / wavelengths) - low) / (high - low)
    blend = blend.clip(np.float32(0.0), one)  # 0: stretched, 1: kept
    slowed = (one - blend) * freqs / np.float32(rule.factor) + blend * freqs
    return np.where(blend >= 1, freqs, slowed)


def frequencies(head_width: int, theta: float, rule: RopeScaling | None) -> Frequencies:
    """Return the frequencies that a model turns its queries and keys by."""
    freqs = inverse_frequencies(head_width, theta)
    return freqs if rule is None else scale_frequencies(freqs, rule)
