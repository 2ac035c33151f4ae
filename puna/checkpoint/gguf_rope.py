"""RoPE scaling in GGUF: a tensor of divisors instead of the rule that made them.

`rope_freqs.weight` holds, for each pair of channels, by what its frequency is divided. Writing is
a division; reading finds the rule again, because puna's models keep the rule. A tensor that no rule
of Llama 3's form makes is refused, never approximated. Source: llama.cpp's conversion of Llama 3.1.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from puna.checkpoint.facts import Facts
from puna.errors import ConfigError, FormatError
from puna.ops.rope import RopeScaling, inverse_frequencies, scale_frequencies

NAME = "rope_freqs.weight"
PREFIX = "puna.rope."  # puna's own metadata: the rule in words, checked against the tensor

_TOLERANCE = 1e-4  # relative; neighbouring rules differ by far more, float32 rounding by far less


def divisors(head_width: int, theta: float, rule: RopeScaling) -> Float[Tensor, "E_half"]:
    """Return what each frequency is divided by: 1 where it is kept, `rule.factor` at the end."""
    freqs = inverse_frequencies(head_width, theta)
    return freqs / scale_frequencies(freqs, rule)


def rule_of(
    stored: Float[Tensor, "E_half"], head_width: int, theta: float, stated: Facts, *, where: str
) -> RopeScaling | None:
    """Find the rule behind a tensor of divisors; None where it divides by one throughout.

    Raises:
        FormatError: no rule of Llama 3's form gives these numbers.
    """
    stored = stored.float()
    if stored.shape != (head_width // 2,) or not bool((stored > 0).all()):
        raise FormatError(
            f"{where}: {NAME} has shape {list(stored.shape)} or values that are not positive; "
            f"{head_width // 2} divisors are expected. Download it again."
        )
    for rule in _candidates(stored, head_width, theta, stated):
        if torch.allclose(divisors(head_width, theta, rule), stored, rtol=_TOLERANCE, atol=0.0):
            return rule
    if bool((stored == 1.0).all()):
        return None
    raise FormatError(
        f"{where}: {NAME} follows no rule of Llama 3's form (kept, blended, divided); puna "
        "computes no other scaling of RoPE. Choose a Llama 3 checkpoint."
    )


def _candidates(
    stored: Tensor, head_width: int, theta: float, stated: Facts
) -> Iterator[RopeScaling]:
    """Yield rules to try: the stated one, the published ones, and one fitted to the numbers."""
    if stated.value(f"{PREFIX}factor") is not None:
        yield RopeScaling(
            factor=stated.number(f"{PREFIX}factor"),
            low_freq_factor=stated.number(f"{PREFIX}low_freq_factor"),
            high_freq_factor=stated.number(f"{PREFIX}high_freq_factor"),
            original_context=stated.integer(f"{PREFIX}original_context"),
        )
    if bool((stored == 1.0).all()):
        return
    factor = float(stored[-1])
    factor = float(round(factor)) if abs(factor - round(factor)) < 1e-3 else factor
    if factor >= 1:
        yield RopeScaling(factor=factor)
        fitted = _fitted(stored, inverse_frequencies(head_width, theta), factor)
        if fitted is not None:
            yield fitted


def _fitted(stored: Tensor, freqs: Tensor, factor: float) -> RopeScaling | None:
    """Solve for the two bounds from the blended pairs, whose blend is linear in the frequency.

    With s = (1/d - 1/factor) / (1 - 1/factor) and s = (C/w - low) / (high - low), two points give
    C / low and C / high; low = 1 fixes the scale, which the rule leaves free.
    """
    blend = (1 / stored.double() - 1 / factor) / (1 - 1 / factor)
    inside = (blend > 1e-3) & (blend < 1 - 1e-3)
    if int(inside.sum()) < 2:
        return None
    x = freqs.double()[inside] / (2 * torch.pi)
    s = blend[inside]
    slope = float((s[0] - s[-1]) / (x[0] - x[-1]))
    offset = float(s[0] - slope * x[0])
    if slope <= 0 or offset >= 0:
        return None
    high = 1 - 1 / offset
    try:
        return RopeScaling(
            factor=factor,
            low_freq_factor=1.0,
            high_freq_factor=float(f"{high:.4g}"),
            original_context=round(slope * (high - 1)),
        )
    except ConfigError:
        return None
