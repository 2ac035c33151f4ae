"""A rank's share of a Llama: the same decoder with fewer blocks and heads, joined to the others.

The model's forward pass does not know of it. Where a matrix takes only some of its columns, its
product is summed over the ranks; where a stage has no embedding, it receives states instead; where
it has no head, it hands them on. `puna.checkpoint.shard` fills in the weights, in as many bits as
they have, and joins the share when all are there.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from puna.model.cache import KVCache
from puna.model.llama import Llama
from puna.parallel.links import Links
from puna.parallel.shards import Division

SUMMED = ("attn.wo", "mlp.down")  # divided along their inputs


class Share(Llama):
    """One rank's part of a model. Its `config` tells its own heads and layers."""

    def __init__(self, division: Division) -> None:
        """Make the part, its weights still to be filled in.

        Raises:
            ConfigError: the model cannot be divided over this mesh.
        """
        super().__init__(division.own)
        self.division = division
        # Set on rank 0 of a mesh in service: computes the states of a text on all ranks.
        self.ask: Callable[[Tensor], Tensor] | None = None
        if self.head is None and division.mesh.is_last:
            self.head = nn.Linear(self.config.width, self.config.vocab, bias=False)

    def join(self, links: Links) -> None:
        """Put what speaks to the other ranks into the places of what is divided."""
        mesh, spans = self.division.mesh, self.division.vocab_spans
        for block in self.blocks:
            for name in SUMMED:
                room, _, own = name.partition(".")
                owner = block.get_submodule(room)
                owner.add_module(own, Summed(owner.get_submodule(own), links))
        if mesh.is_first:
            embed: nn.Module = SharedEmbedding(self.embed, spans[mesh.tensor_rank], links)
        else:
            embed = Received(self.config.width, links, like=next(self.blocks.parameters()))
        self.add_module("embed", embed)
        if mesh.is_last:
            assert self.head is not None
            self.head = GatheredHead(self.head, spans, links)
        else:
            self.add_module("norm", HandedOn(links))
            self.head = NoHead()

    def hidden(
        self,
        ids: Int[Tensor, "B T"],
        *,
        documents: Int[Tensor, "B T"] | None = None,
        cache: KVCache | None = None,
        counts: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return this stage's states; a text by itself, asked for on rank 0, goes to all ranks."""
        if cache is None and documents is None and self.ask is not None:
            return self.ask(ids)
        return super().hidden(ids, documents=documents, cache=cache, counts=counts)


class Summed(nn.Module):
    """A matrix that is divided along its inputs: each rank gives a part of every output."""

    def __init__(self, inner: nn.Module, links: Links) -> None:
        super().__init__()
        self.inner, self._links = inner, links

    def forward(self, x: Tensor) -> Tensor:
        """Return the whole product."""
        return self._links.sum(self.inner(x))


class SharedEmbedding(nn.Module):
    """The rows of some tokens; what the ranks find is summed, and all but one find zeros."""

    def __init__(self, inner: nn.Module, span: tuple[int, int], links: Links) -> None:
        super().__init__()
        self._begin, self._end = span
        self.inner, self._links = inner, links

    @property
    def weight(self) -> Tensor:
        """The rows, or what tells their dtype and device."""
        return self.inner.get_parameter("weight")

    def forward(self, ids: Tensor) -> Tensor:
        """Return the row of each token."""
        is_own = (ids >= self._begin) & (ids < self._end)
        rows = self.inner(torch.where(is_own, ids - self._begin, 0))
        return self._links.sum(rows * is_own[..., None])


class GatheredHead(nn.Module):
    """The logits of some tokens; the first rank of the stage gets them all."""

    def __init__(self, inner: nn.Module, spans: Sequence[tuple[int, int]], links: Links) -> None:
        super().__init__()
        self._widths = [end - begin for begin, end in spans]
        self.inner, self._links = inner, links

    def forward(self, x: Tensor) -> Tensor:
        """Return all logits on the first rank, and none on the others."""
        return self._links.gather(self.inner(x).float(), self._widths)


class Received(nn.Module):
    """In the place of the embedding: the states that the stage before has computed."""

    def __init__(self, width: int, links: Links, *, like: Tensor) -> None:
        super().__init__()
        # No rows, but the dtype and the device of states: those of the norms.
        self.weight = nn.Parameter(like.new_empty(0, width), requires_grad=False)
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
