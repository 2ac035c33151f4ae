"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one.

Each step moves a weight by the same amount in all its singular directions, which trains small
models in fewer tokens than AdamW (docs/log.md has the numbers). Only for matrices inside the
blocks; embeddings, head and norms keep AdamW.
Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of
the update from Liu et al. 2025, arXiv:2502.16982; the polynomials from Amsel et al. 2025,
"The Polar Express", arXiv:2505.16932.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Of odd quintics a x + b x^3 + c x^5 that push singular values towards one, each the best after
# those before it. Three suffice: models trained with five learnt the same a step (docs/log.md).
_QUINTICS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    Args:
        params: matrices.
        lr: root-mean-square size of an update, as for AdamW (`0.2 * sqrt(max(rows, columns))` times
            an orthogonal matrix has the size of a usual AdamW step).
        momentum: share of the old momentum that is kept.
        weight_decay: `p <- p - lr * weight_decay * p`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix once; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, matrices in by_shape.items():
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in matrices])
                directions = orthogonalise(updates)
                size = 0.2 * max(shape) ** 0.5 * group["lr"]
                for p, direction in zip(matrices, directions, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction, alpha=-size)

    def _momentum(self, p: Tensor, keep: float) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        assert p.grad is not None
        momentum.lerp_(p.grad, 1 - keep)
        return p.grad.lerp(momentum, keep)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return U V^T of each matrix U S V^T, [N, rows, columns], roughly.

    Three quintics on the shorter side, products only; singular values end between 0.2 and 1.9.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (1.01 * torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # rounding stays below one
    for a, b, c in _QUINTICS:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x
