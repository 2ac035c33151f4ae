"""RMSNorm: divide by the root mean square, then scale each channel."""

import torch
from jaxtyping import Float
from torch import Tensor


def rms_norm(x: Float[Tensor, "*B D"], weight: Float[Tensor, "D"], eps: float) -> Tensor:
    """Return `x / sqrt(mean(x^2) + eps) * weight`, the quotient computed in float32.

    The quotient is cast back to the dtype of `x` before the multiplication; in bfloat16 this order
    is visible in the last bit.

    Returns:
        [*B, D] in the dtype of `x`.
    Source: Meta's llama-models, RMSNorm; Zhang and Sennrich 2019, arXiv:1910.07467.
    """
    wide = x.float()
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide * scale).to(x.dtype) * weight
