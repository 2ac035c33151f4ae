"""What every writer asks of its weights: each tensor is there, in its shape and dtype."""

from collections.abc import Mapping

import torch
from torch import Tensor

from puna.checkpoint.names import EMBED, Place, places
from puna.errors import FormatError
from puna.model.config import ModelConfig


def checked_weight(
    state: Mapping[str, Tensor], place: Place, dtype: torch.dtype | None = None
) -> Tensor:
    """Return one tensor on the CPU, dense, in `dtype` (None keeps its own).

    Raises:
        FormatError: it is missing or has another shape than the configuration says.
    """
    if place.puna not in state:
        raise FormatError(
            f"weights: the tensor '{place.puna}' is missing; the configuration expects it with "
            f"shape {list(place.shape)}."
        )
    tensor = state[place.puna].detach()
    if tuple(tensor.shape) != place.shape:
        raise FormatError(
            f"weights: the tensor '{place.puna}' has shape {list(tensor.shape)}; the configuration "
            f"expects {list(place.shape)}."
        )
    return tensor.to("cpu", dtype or tensor.dtype).contiguous()


def refuse_extra_weights(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Stop on a tensor that the configuration has no place for: leaving it out would lose it."""
    known = {place.puna for place in places(config)}
    for name in state:
        if name not in known:
            raise FormatError(
                f"weights: the tensor '{name}' has no place in the configuration"
                f"{' (its head is tied)' if config.tied else ''}; nothing may be lost. "
                "Pass the configuration that belongs to these weights."
            )


def dtype_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """Return the dtype of a model: that of its embedding, as norms may be kept wider."""
    return state[EMBED.puna].dtype
