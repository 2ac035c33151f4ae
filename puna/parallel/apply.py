"""A rank's share of a Llama: the same class with fewer blocks and heads, joined to the others.

The model's forward pass does not know of it. Where a matrix takes only some of its columns, its
product is summed over the ranks; where a stage has no embedding, it receives states instead; where
it has no head, it hands them on. `puna.checkpoint.shard` fills in the weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.parallel.links import Links
from puna.parallel.shards import local_config, refuse_uneven, vocab_shares


class SummedLinear(nn.Module):
    """A matrix that is divided along its inputs: each rank gives a part of every output."""

    def __init__(self, whole: nn.Linear, links: Links) -> None:
        super().__init__()
        self.weight, self._links = whole.weight, links

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole product."""
        return self._links.sum(F.linear(x, self.weight))


class SharedEmbedding(nn.Module):
    """The rows of some tokens; what the ranks find is summed, and all but one find zeros."""

    def __init__(self, span: tuple[int, int], width: int, links: Links) -> None:
        super().__init__()
        self._begin, self._end = span
        self.weight = nn.Parameter(torch.empty(self._end - self._begin, width))
        self._links = links

    def forward(self, ids: Tensor) -> Tensor:
        """Return the row of each token."""
        is_own = (ids >= self._begin) & (ids < self._end)
        rows = F.embedding(torch.where(is_own, ids - self._begin, 0), self.weight)
        return self._links.sum(rows * is_own[..., None])


class GatheredHead(nn.Module):
    """The logits of some tokens; the first rank of the stage gets them all."""

    def __init__(self, spans: list[tuple[int, int]], own: int, width: int, links: Links) -> None:
        super().__init__()
        self._widths = [end - begin for begin, end in spans]
        self.weight = nn.Parameter(torch.empty(self._widths[own], width))
        self._links = links

    def forward(self, x: Tensor) -> Tensor:
        """Return all logits on the first rank, and none on the others."""
        return self._links.gather(F.linear(x, self.weight).float(), self._widths)


class Received(nn.Module):
    """In the place of the embedding: the states that the stage before has computed."""

    def __init__(self, width: int, links: Links) -> None:
        super().__init__()
        # No rows, but the dtype and the device of states.
        self.weight = nn.Parameter(torch.empty(0, width))
        self._links = links

    def forward(self, ids: Tensor) -> Tensor:
        """Return the states of these tokens."""
        return self._links.receive((*ids.shape, self.weight.shape[1]), self.weight.dtype)


class HandedOn(nn.Module):
    """In the place of the last norm: states go to the next stage."""

    def __init__(self, links: Links) -> None:
        super().__init__()
        self._links = links

    def forward(self, x: Tensor) -> Tensor:
        """Send states on, and return them."""
        self._links.hand_on(x)
        return x


class NoHead(nn.Module):
    """In the place of the head: the logits are computed elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        """Return no logits."""
        return x[..., :0]


def make_share(config: ModelConfig, links: Links) -> Llama:
    """Return this rank's share of a model, its weights still to be filled in.

    Its `config` tells the heads and layers that this rank has, and the whole vocabulary.

    Raises:
        ConfigError: the model cannot be divided over this mesh.
    """
    mesh = links.mesh
    refuse_uneven(config, mesh)
    model = Llama(local_config(config, mesh))
    spans = vocab_shares(config, mesh)
    for block in model.blocks:
        for owner, name in ((block.attn, "wo"), (block.mlp, "down")):
            assert isinstance(owner, nn.Module)
            owner.add_module(name, SummedLinear(getattr(owner, name), links))
    if mesh.is_first:
        embed: nn.Module = SharedEmbedding(spans[mesh.tensor_rank], config.width, links)
    else:
        embed = Received(config.width, links)
    model.add_module("embed", embed)
    if mesh.is_last:
        model.head = GatheredHead(spans, mesh.tensor_rank, config.width, links)
    else:
        model.add_module("norm", HandedOn(links))
        model.head = NoHead()
    return model
