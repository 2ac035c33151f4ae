"""Rotary position embedding, with the frequency scaling that carries Llama 3.1 to 128K positions.

Frequencies are computed once per model, in float32 (puna.ops.frequencies); a forward pass turns its
positions into one cosine and one sine table that all layers share. Nothing here depends on the
sequence length, so a position has the same rotation in prefill and in decode.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from puna.ops import frequencies
from puna.ops.frequencies import RopeScaling

__all__ = ["RopeScaling", "inverse_frequencies", "rotate", "rotation", "scale_frequencies"]


def inverse_frequencies(head_width: int, theta: float) -> Float[Tensor, "E_half"]:
    """Return `puna.ops.frequencies.inverse_frequencies` as a tensor on the CPU."""
    return torch.from_numpy(frequencies.inverse_frequencies(head_width, theta))


def scale_frequencies(freqs: Float[Tensor, "E_half"], rule: RopeScaling) -> Float[Tensor, "E_half"]:
    """Return `puna.ops.frequencies.scale_frequencies` of a tensor on the CPU."""
    return torch.from_numpy(frequencies.scale_frequencies(freqs.numpy(), rule))


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
