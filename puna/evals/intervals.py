"""How far a measured number may lie from the true one: 95 % intervals.

A share of right answers gets Wilson's interval, which stays inside 0 to 1 and has a width even
when every answer is right (the paper's 1.96 sqrt(S(1-S)/N) has none there). A ratio of sums, such
as bits per byte, is bootstrapped by document: the bytes of one document are not independent.
"""

import math
import random
from collections.abc import Sequence

from puna.errors import RequestError

# The 97.5 % quantile of the normal distribution, to double precision.
Z_95 = 1.959963984540054


def wilson(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return the interval of a share of `right` out of `n`.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if n < 1 or not 0 <= right <= n:
        raise RequestError(f"interval: {right} right of {n}; 0 to n right of n >= 1 is expected.")
    rate = right / n
    spread = z * z / n
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    # At the ends the bound is the end itself; rounding must not push it past.
    return (
        0.0 if right == 0 else max(0.0, middle - half),
        1.0 if right == n else min(1.0, middle + half),
    )


def bootstrap_ratio(
    tops: Sequence[float], bottoms: Sequence[float], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of sum(tops) / sum(bottoms), drawing the pairs anew with replacement.

    Percentile bootstrap; the same pairs and seed give the same interval. Source: Efron 1979.

    Args:
        tops: bits of each document.
        bottoms: bytes of each document.
    """
    if len(tops) != len(bottoms) or not tops or min(bottoms) <= 0:
        raise RequestError(
            f"bootstrap: {len(tops)} numerators and {len(bottoms)} denominators; as many of each, "
            "at least one, and denominators above 0 are expected."
        )
    rng = random.Random(seed)
    indices = range(len(tops))
    ratios = []
    for _ in range(draws):
        chosen = rng.choices(indices, k=len(tops))
        ratios.append(sum(tops[i] for i in chosen) / sum(bottoms[i] for i in chosen))
    ratios.sort()
    return ratios[int(0.025 * (draws - 1))], ratios[math.ceil(0.975 * (draws - 1))]
