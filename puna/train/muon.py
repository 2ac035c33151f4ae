"""Muon: momentum whose every matrix is replaced by the nearest orthogonal one.

Each step moves a weight by the same amount in all its singular directions, which trains small
models in fewer tokens than AdamW (docs/log.md has the numbers). Only for matrices inside the
blocks; embeddings, head and norms keep AdamW.
Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the scale of
the update from Liu et al. 2025, arXiv:2502.16982.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic a x + b x^3 + c x^5 whose iterates push singular values towards one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


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
    """Return U V^T of each matrix U S V^T, [..., rows, columns], roughly: singular values near one.

    Five Newton-Schulz iterations on the shorter side, products only.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x
