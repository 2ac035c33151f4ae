"""Tokens chosen natively from rows of logits, without putting the vocabulary in order.

`puna.infer.sampling` says in torch what is right and computes it where this answers None. The same
uniform number chooses the same token on both paths, except where it, or the mass that top-p keeps,
lies within 2e-6 of the border between two tokens: sums of float32 are not exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from puna.ops import native


class Choice(NamedTuple):
    """How a row's token is chosen; native/kernels.h has the same fields."""

    temperature: float
    top_k: int = 0  # 0 is off
    top_p: float = 1.0
    min_p: float = 0.0
    uniform: float = 0.0


def choose(
    logits: Float[Tensor, "B V"], choices: Sequence[Choice], *, level: str | None = None
) -> Int[Tensor, "B"] | None:
    """Choose a token of each row; None where the native kernels cannot read the logits.

    Returns:
        Ids; -1 for a row that holds NaN or +inf, or nothing that may be drawn.
    """
    level = level or native.level()
    is_readable = (
        logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.is_contiguous()
    )
    if level is None or not is_readable:
        return None
    settings = np.array(choices, dtype=np.float64)
    ids = torch.empty(len(logits), dtype=torch.int64)
    native.extension().choose(
        level, logits.data_ptr(), *logits.shape, settings.ctypes.data, ids.data_ptr(),
        native.threads(),
    )  # fmt: skip
    return ids
