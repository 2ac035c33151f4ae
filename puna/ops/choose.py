"""Tokens chosen natively from rows of logits, without putting the vocabulary in order.

`puna.infer.filters` says in torch what is right and computes it where this answers None. The same
uniform number chooses the same token on both paths, except where it, or the mass that top-p keeps,
lies within 2e-6 of the border between two tokens: sums of float32 are not exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from puna.ops import native


class Choice(NamedTuple):
    """How a row's token is chosen; native/kernels.h has the same fields."""

    temperature: float
    top_k: int = 0  # 0 is off
    top_p: float = 1.0
    min_p: float = 0.0
    uniform: float = 0.0


def choose(
    logits: NDArray[np.float32], choices: Sequence[Choice], *, level: str | None = None
) -> NDArray[np.int64] | None:
    """Choose a token of each row of [B, V]; None where the native kernels are not there.

    Returns:
        Ids; -1 for a row that holds NaN or +inf, or nothing that may be drawn.
    """
    level = level or native.level()
    if level is None:
        return None
    settings = np.array(choices, dtype=np.float64)
    ids = np.empty(len(logits), dtype=np.int64)
    native.extension().choose(
        level, native.array_address(logits), *logits.shape, settings.ctypes.data, ids.ctypes.data,
        native.threads(),
    )  # fmt: skip
    return ids
