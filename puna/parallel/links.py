"""What the ranks of a mesh say to one another while they compute: sums, gathers, states, logits.

The only file that knows collectives. Tensors travel by gloo between processors and by NCCL between
GPUs. States go forward and logits come back in groups of their own: with NCCL a group keeps the
order of its calls, and a stage that hands on a second micro-batch must not wait behind the logits
of the first.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from puna.errors import RequestError, StateError
from puna.parallel.mesh import Mesh

JOIN_S = 300.0  # that ranks wait for each other at the start
WORK_S = 600.0  # that a rank may be late within a step; a rank that died is noticed at once
SILENCE_S = 30.0  # without a word from another rank, after which it counts as gone
_KEPT = 8  # tensors that are under way


class Links:
    """This process's connections to the others of its mesh."""

    def __init__(self, mesh: Mesh, device: torch.device, *, silence_s: float = SILENCE_S) -> None:
        """Meet the others; returns when all are there.

        Raises:
            StateError: some did not come.
        """
        self.mesh, self.device = mesh, device
        self.silence_s = silence_s
        everything, kind = backends_of(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                everything,
                rank=mesh.rank,
                world_size=mesh.size,
                timeout=timedelta(seconds=JOIN_S),
            )
            everybody = list(range(mesh.size))
            self.control = _group(everybody, silence_s, "gloo")
            self._agreement = _group(everybody, JOIN_S, "gloo")
            self._forward = _group(everybody, WORK_S, kind)
            self._back = _group(everybody, WORK_S, kind)
            teams = [_group(mesh.team(s), WORK_S, kind) for s in range(mesh.pipeline)]
        except (RuntimeError, ValueError) as error:
            raise self._unmet(error) from None
        self._team = teams[mesh.stage]
        self._under_way: deque[tuple[dist.Work, Tensor]] = deque()
        self._worker: int | None = None  # the thread whose turn it is

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let this thread use the links: all ranks compute the same step now."""
        self._worker = threading.get_ident()
        try:
            yield
        finally:
            self._worker = None

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over the ranks of this stage, the same to the bit on each."""
        self._check_turn()
        if self.mesh.tensor == 1:
            return x
        # gloo adds in the format that it is given; few bits would be lost again at every rank.
        whole = x.contiguous() if x.device.type == "cuda" else x.float().contiguous()
        dist.all_reduce(whole, group=self._team)
        return whole.to(x.dtype)

    def gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """Lay the last dimensions of all ranks of this stage end to end, on the first of them.

        Returns:
            The whole on the first rank; nothing, [..., 0], on the others.
        """
        self._check_turn()
        if self.mesh.tensor == 1:
            return x
        widest, first = max(widths), self.mesh.team(self.mesh.stage)[0]
        x = torch.nn.functional.pad(x, (0, widest - x.shape[-1])).contiguous()
        if self.mesh.rank != first:
            dist.gather(x, None, dst=first, group=self._team)
            return x[..., :0]
        parts = [torch.empty_like(x) for _ in widths]
        dist.gather(x, parts, dst=first, group=self._team)
        return torch.cat([part[..., :n] for part, n in zip(parts, widths, strict=True)], dim=-1)

    def hand_on(self, x: Tensor) -> None:
        """Send states to the next stage, without waiting until it takes them."""
        self._check_turn()
        self._send(x, self.mesh.rank + self.mesh.tensor, self._forward)

    def receive(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return the states of the previous stage."""
        self._check_turn()
        x = torch.empty(*shape, dtype=dtype, device=self.device)
        dist.recv(x, self.mesh.rank - self.mesh.tensor, group=self._forward)
        return x

    def tell(self, result: Tensor) -> None:
        """Send logits or states to the leader."""
        self._send(result, 0, self._back)

    def hear(self, rows: int, width: int) -> Tensor:
        """Return the oldest result that was not heard yet: [rows, V] of a step, or [rows, D]."""
        result = torch.empty(rows, width, device=self.device)
        dist.recv(result, self.mesh.teller, group=self._back)
        return result

    def least(self, number: int) -> int:
        """Return the smallest of the numbers that the ranks give, on each of them."""
        given = torch.tensor([number])
        try:
            dist.all_reduce(given, dist.ReduceOp.MIN, group=self._agreement)
        except RuntimeError as error:
            raise self._unmet(error) from None
        return int(given)

    def close(self) -> None:
        """Leave the mesh."""
        with contextlib.suppress(RuntimeError):  # nobody may want the last ones any more
            while self._under_way:
                self._under_way.popleft()[0].wait()
        dist.destroy_process_group()

    def _send(self, x: Tensor, rank: int, group: dist.ProcessGroup) -> None:
        x = x.contiguous()
        work = dist.isend(x, rank, group=group)
        assert work is not None
        self._under_way.append((work, x))  # which must live until it was taken
        if len(self._under_way) > _KEPT:
            self._under_way.popleft()[0].wait()

    def _unmet(self, error: Exception) -> StateError:
        return StateError(
            f"rank {self.mesh.rank}: the {self.mesh.size} processes did not all begin "
            f"({str(error).splitlines()[0]}). Start every one of them with torchrun."
        )

    def _check_turn(self) -> None:
        if self._worker != threading.get_ident():
            raise RequestError(
                f"rank {self.mesh.rank}: it holds one of {self.mesh.size} parts of the model, "
                "which compute together only within a step of the engine. Load the model whole for "
                "anything else."
            )


def backends_of(device: torch.device) -> tuple[str, str]:
    """Return what carries all kinds of tensors, and what carries those of a step.

    The line and the agreements of the beginning are numbers of processors everywhere.
    """
    if device.type == "cuda":
        return "cpu:gloo,cuda:nccl", "nccl"
    return "gloo", "gloo"


def _group(ranks: list[int], timeout_s: float, kind: str) -> dist.ProcessGroup:
    made: dist.ProcessGroup = dist.new_group(
        ranks, timeout=timedelta(seconds=timeout_s), backend=kind
    )
    return made
