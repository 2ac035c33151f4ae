"""Fresh weights for a model that will be trained from nothing."""

import math

import torch

from puna.model.llama import Llama


@torch.no_grad()
def initialise(
    model: Llama, *, seed: int, std: float = 0.02, embed_std: float | None = None
) -> None:
    """Draw every matrix from a normal distribution; norms start at one.

    The two matrices that write to the residual stream are scaled by 1/sqrt(2L), so that its size
    does not grow with depth. The draw depends on the seed and the shapes alone.
    Source: torchtitan's Llama 3 initialisation (the paper gives none).
    """
    generator = torch.Generator().manual_seed(seed)
    residual = std / math.sqrt(2 * model.config.layers)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.fill_(1.0)
            continue
        writes = name.endswith(("attn.wo.weight", "mlp.down.weight"))
        scale = residual if writes else std
        if name == "embed.weight" and embed_std is not None:
            scale = embed_std
        drawn = torch.empty(weight.shape, dtype=torch.float32).normal_(
            0.0, scale, generator=generator
        )
        weight.copy_(drawn)
