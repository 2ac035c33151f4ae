"""Text on its way through one block, halted wherever matrices read it.

Calibration rounds the matrices of a stage, and only then lets the text pass on to the next: nothing
is computed twice. puna.quant.calibrate leads two of these through the model side by side.
"""

import torch
from torch import Tensor, nn

from puna.model.llama import View

# What feeds which matrices of a block, in the order of the computation.
STAGES = (
    ("attn_norm", ("attn.wq", "attn.wk", "attn.wv")),
    ("attn.wv", ("attn.wo",)),
    ("mlp_norm", ("mlp.gate", "mlp.up")),
    ("mlp.up", ("mlp.down",)),
)


class Passage:
    """The states of rows of text inside a block."""

    def __init__(self, block: nn.Module, layer: int, freqs: Tensor, states: list[Tensor]) -> None:
        dtype = next(block.parameters()).dtype
        self.block, self._layer, self._freqs = block, layer, freqs
        self._stream = [x.to(dtype) for x in states]
        self.inputs: list[Tensor] = []  # what the matrices of this stage read

    def enter(self, stage: int) -> None:
        """Go on to a stage, the one after the last; the weights before it count as they are now."""
        attn_norm, attn, mlp_norm, mlp = (
            self.block.get_submodule(name) for name in ("attn_norm", "attn", "mlp_norm", "mlp")
        )
        match stage:
            case 0:
                self.inputs = [attn_norm(x) for x in self._stream]
            case 1:
                self.inputs = [
                    _entering("wo", attn, x, self._view(x), self._layer) for x in self.inputs
                ]
            case 2:
                self._add("attn.wo")
                self.inputs = [mlp_norm(x) for x in self._stream]
            case _:
                self.inputs = [_entering("down", mlp, x) for x in self.inputs]

    def leave(self) -> list[Tensor]:
        """Return what leaves the block."""
        self._add("mlp.down")
        return self._stream

    def _add(self, name: str) -> None:
        """Multiply by the stage's matrix and add to the residual stream."""
        last = self.block.get_submodule(name)
        self._stream = [x + last(y) for x, y in zip(self._stream, self.inputs, strict=True)]
        self.inputs = []

    def _view(self, x: Tensor) -> View:
        positions = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        return View(positions, self._freqs.to(x.device), causal=True)


class _Catch(nn.Module):
    """Stands in the place of a matrix and keeps what it would read; nothing is multiplied."""

    def __init__(self, matrix: nn.Linear) -> None:
        super().__init__()
        self._out = matrix.weight.shape[0]
        self.read = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of the product's shape."""
        self.read = x
        return x.new_zeros(()).expand(*x.shape[:-1], self._out)


def _entering(name: str, module: nn.Module, *given: object) -> Tensor:
    """Return what a module gives to its last matrix."""
    matrix = module.get_submodule(name)
    assert isinstance(matrix, nn.Linear)
    catch = _Catch(matrix)
    setattr(module, name, catch)
    try:
        module(*given)
    finally:
        setattr(module, name, matrix)
    return catch.read
