"""Which weights are updated how: AdamW for all, or Muon for the matrices inside the blocks.

AdamW is the paper's; Muon is what measures best for small models in little time. Every group keeps
its own peak, and the schedule scales all of them together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from puna.errors import ConfigError
from puna.train.muon import Muon


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """How gradients become updates.

    Source: The Llama 3 Herd of Models, section 3.4.1 (AdamW, peak 8e-5 for 405B) and section 3.2.1
    (weight decay of 0.1 times the learning rate at each step); betas and clipping as in Llama 2.
    """

    name: Literal["adamw", "muon"] = "adamw"
    peak_lr: float = 3e-4  # AdamW, of every weight or of those that Muon leaves; 8B's value
    matrix_lr: float = 0.02  # Muon, of the matrices inside the blocks
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    momentum: float = 0.95  # Muon
    weight_decay: float = 0.1
    decay_norms: bool = True  # the paper names no exception
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if min(self.peak_lr, self.matrix_lr, self.max_grad_norm) <= 0:
            raise ConfigError(
                f"optimizer: peak_lr={self.peak_lr}, matrix_lr={self.matrix_lr} and "
                f"max_grad_norm={self.max_grad_norm} must be positive."
            )


class Optimizers:
    """The optimizers of one model, stepped together under one schedule."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        inner = [(n, p) for n, p in named if p.ndim == 2 and n.startswith("blocks.")]
        matrices = {n for n, _ in inner} if config.name == "muon" else set()
        self.names = [n for n, _ in named]
        self._parameters = dict(named)
        rest = [(n, p) for n, p in named if n not in matrices]
        self.adamw = torch.optim.AdamW(
            _groups(rest, config),
            lr=config.peak_lr,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
        )
        self.each: list[torch.optim.Optimizer] = [self.adamw]
        if matrices:
            self.each.append(
                Muon(
                    [p for n, p in inner],
                    lr=config.matrix_lr,
                    momentum=config.momentum,
                    weight_decay=config.weight_decay,
                )
            )
        self._peaks = [group["lr"] for group in self._all_groups()]

    def step(self, share: float) -> None:
        """Update every weight with `share` of its peak learning rate, then drop the gradients."""
        for group, peak in zip(self._all_groups(), self._peaks, strict=True):
            group["lr"] = peak * share
        for optimizer in self.each:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return every tensor of the optimizers under "weight's name/what it is"."""
        tensors = {}
        for optimizer in self.each:
            for name, p in self._parameters.items():
                for key, value in optimizer.state.get(p, {}).items():
                    tensors[f"{name}/{key}"] = torch.as_tensor(value)
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` returned."""
        owner = {
            id(p): optimizer
            for optimizer in self.each
            for group in optimizer.param_groups
            for p in group["params"]
        }
        for key, value in tensors.items():
            name, _, field = key.rpartition("/")
            p = self._parameters[name]
            owner[id(p)].state[p][field] = value.clone()

    def _all_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.each for group in optimizer.param_groups]


def _groups(named: Iterable[tuple[str, Tensor]], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Split off the norms where they do not decay."""
    decayed, kept = list[Tensor](), list[Tensor]()
    for _, p in named:
        (decayed if p.ndim > 1 or config.decay_norms else kept).append(p)
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": config.weight_decay}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    return groups


def clip_gradients(parameters: Sequence[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their common norm is at most `max_norm`; return the norm before.

    Source: Pascanu et al. 2013, arXiv:1211.5063.
    """
    return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))
