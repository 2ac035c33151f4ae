"""From logits to the next token: penalty, temperature, top-k, top-p, min-p, one draw a row.

A row's token depends on its own logits, config and numbers alone: whom it shares a batch with
changes nothing. `puna.infer.batch` calls `sample` once a step. The native kernels choose
(`puna.ops.choose`); `puna.infer.filters` says in torch which tokens those are, and chooses where
the kernels are not. torch is imported where it is needed and nowhere else.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from puna.errors import RequestError, StateError
from puna.infer.uniforms import Uniforms
from puna.ops.choose import Choice, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Logits: TypeAlias = "NDArray[np.float32] | Tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How the next token is drawn; `None` switches a filter off.

    Source of the defaults: `generation_config.json` of Llama 3.1 Instruct.
    """

    temperature: float = 0.6  # 0 takes the most likely token
    top_k: int | None = None  # keep the k most likely tokens and those tied with the last
    top_p: float | None = 0.9  # keep the likeliest tokens until they hold this mass; 0 keeps one
    min_p: float | None = None  # keep tokens at least this share as likely as the likeliest
    repetition_penalty: float | None = None  # above 1, tokens already in the row become less likely
    seed: int | None = None  # None draws a fresh one

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, "0 or more", lambda x: x >= 0)
        _require("top_k", self.top_k, "1 or more", lambda x: x >= 1 and x == int(x))
        _require("top_p", self.top_p, "between 0 and 1", lambda x: 0 <= x <= 1)
        _require("min_p", self.min_p, "between 0 and 1", lambda x: 0 <= x <= 1)
        _require("repetition_penalty", self.repetition_penalty, "above 0", lambda x: x > 0)
        _require(
            "seed", self.seed, "between 0 and 2^63 - 1, without a fraction,",
            lambda x: isinstance(x, int) and 0 <= x < 2**63,
        )  # fmt: skip

    def generator(self, index: int = 0) -> Uniforms:
        """Return the numbers that one row draws by.

        Args:
            index: of the row among those that share the config's seed and shall differ.
        """
        if self.seed is None:
            return Uniforms(int.from_bytes(os.urandom(8), "little"))
        return Uniforms((self.seed + index) % 2**63)

    def choice(self, uniform: float) -> Choice:
        """Return this config and the number to draw by, as the native kernels take them."""
        return Choice(
            temperature=self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            uniform=uniform,
        )


def _require(name: str, value: float | None, expected: str, holds: Callable[[float], bool]) -> None:
    if value is None and name != "temperature":
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):  # type: ignore[arg-type]
        raise RequestError(
            f"sampling: {name}={value!r} was given; a number {expected} is expected."
        )


def sample(
    logits: Logits,
    configs: Sequence[SamplingConfig],
    generators: Sequence[Uniforms],
    seen: "NDArray[np.bool_] | None" = None,
) -> list[int]:
    """Draw the next token of each row.

    Args:
        logits: scores of the next token [B, V]: an array of the native decoder's, or a tensor.
        configs: one a row.
        generators: one a row; a row that samples takes exactly one number from its own.
        seen: which tokens [B, V] the row holds already; needed only where a row has a penalty.
    Returns:
        Token ids.
    Raises:
        StateError: a row holds NaN, or no token that may be drawn.
    """
    if seen is not None and any(config.repetition_penalty is not None for config in configs):
        logits = _penalized(logits, configs, seen)
    uniforms = [
        generator.next() if config.temperature > 0 else 0.0
        for config, generator in zip(configs, generators, strict=True)
    ]
    readable = as_array(logits)
    choices = [c.choice(u) for c, u in zip(configs, uniforms, strict=True)]
    chosen = None if readable is None else choose(readable, choices)
    if chosen is None:
        return _chosen_by_torch(logits, configs, uniforms)
    if (chosen < 0).any():
        raise no_numbers()
    ids: list[int] = chosen.tolist()
    return ids


def as_array(logits: Logits) -> "NDArray[np.float32] | None":
    """Return logits as the native kernels read them, where they lie; None where they cannot."""
    if isinstance(logits, np.ndarray):
        return logits
    import torch

    is_float = logits.dtype == torch.float32 and logits.device.type == "cpu"
    return logits.detach().numpy() if is_float and logits.is_contiguous() else None


def no_numbers() -> StateError:
    """Return what to say where logits are NaN, infinite, or leave no token to draw."""
    return StateError(
        "sampling: the model's logits are not numbers; finite logits are expected. Check the "
        "weights with `puna inspect`, or load them with dtype='float32'."
    )


def _penalized(
    logits: Logits, configs: Sequence[SamplingConfig], seen: "NDArray[np.bool_]"
) -> "Tensor":
    import torch

    from puna.infer.filters import penalized

    scores = torch.as_tensor(logits)
    return penalized(scores, configs, torch.from_numpy(seen).to(scores.device))


def _chosen_by_torch(
    logits: Logits, configs: Sequence[SamplingConfig], uniforms: Sequence[float]
) -> list[int]:
    import torch

    from puna.infer.filters import chosen_by_torch

    scores = torch.as_tensor(logits)
    if not scores.amax(-1).isfinite().all():
        raise no_numbers()
    return chosen_by_torch(scores, configs, uniforms).tolist()
