"""The ranks of a mesh as threads of the test: real shares, and links that are queues."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, cast

import torch
from torch import Tensor

from puna.parallel.apply import Share
from puna.parallel.links import Links
from puna.parallel.mesh import Mesh

WAIT_S = 60.0


class Room:
    """What the threads of one mesh share."""

    def __init__(self, mesh: Mesh) -> None:
        self.teams = [Barrier(mesh.tensor, timeout=WAIT_S) for _ in range(mesh.pipeline)]
        self.given: list[Any] = [None] * mesh.size
        self.states: list[queue.SimpleQueue[Tensor]] = [
            queue.SimpleQueue() for _ in range(mesh.size)
        ]


class ThreadLinks:
    """Sums and gathers as `puna.parallel.links` has them, in float32, in the order of ranks."""

    device = torch.device("cpu")

    def __init__(self, mesh: Mesh, room: Room) -> None:
        self.mesh, self._room = mesh, room

    def _all(self, x: Tensor) -> list[Tensor]:
        team, mesh = self._room.teams[self.mesh.stage], self.mesh
        self._room.given[mesh.rank] = x
        team.wait()
        found = [self._room.given[rank] for rank in mesh.team(mesh.stage)]
        team.wait()
        return found

    def sum(self, x: Tensor) -> Tensor:
        return x if self.mesh.tensor == 1 else torch.stack(self._all(x.float())).sum(0).to(x.dtype)

    def gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        if self.mesh.tensor == 1:
            return x
        parts = self._all(x)
        assert [part.shape[-1] for part in parts] == list(widths)
        return torch.cat(parts, dim=-1) if self.mesh.tensor_rank == 0 else x[..., :0]

    def hand_on(self, x: Tensor) -> None:
        self._room.states[self.mesh.rank + self.mesh.tensor].put(x)

    def receive(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        x = self._room.states[self.mesh.rank].get(timeout=WAIT_S)
        assert tuple(x.shape) == tuple(shape) and x.dtype == dtype
        return x


def divided(tensor: int, pipeline: int, make: Callable[[Links], Share]) -> list[Share]:
    """Return the shares of all ranks."""
    room = Room(Mesh(tensor=tensor, pipeline=pipeline))
    places = [Mesh(tensor=tensor, pipeline=pipeline, rank=r) for r in range(tensor * pipeline)]
    return [make(cast("Links", ThreadLinks(place, room))) for place in places]


def logits_of(shares: Sequence[Share], ids: Tensor) -> Tensor:
    """Return the logits that all of them compute together."""
    with ThreadPoolExecutor(len(shares)) as threads:
        told = list(threads.map(lambda share: share(ids), shares))
    (logits,) = (one for one in told if one.shape[-1])
    return logits
