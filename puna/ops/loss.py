"""Cross-entropy over the next token, counted in nats and summed over the targets that count."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100  # torch's own mark for a target that does not count


def cross_entropy_sum(logits: Float[Tensor, "*B V"], targets: Int[Tensor, "*B"]) -> Tensor:
    """Return the sum of -log p(target) in nats, float32; targets equal to IGNORED add nothing.

    The caller divides by the number of targets of the whole optimizer step: a mean of means over
    micro-batches would weight their tokens differently.
    """
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return F.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED, reduction="sum")
