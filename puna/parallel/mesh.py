"""Where each process stands: its place among the tensor ranks of a stage, and its stage.

`puna.parallel.shards` says which weights a place holds, `puna.parallel.links` lets places talk.
Ranks of one stage are neighbours, so that torchrun puts them on one machine where its size allows:
they speak twice in every layer, while stages hand on one tensor a step.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from puna.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A place in a mesh of `tensor` x `pipeline` processes.

    rank = tensor_rank + tensor * stage, the innermost dimension first. Source: The Llama 3 Herd of
    Models, section 3.3.2.
    """

    tensor: int = 1  # ranks that share every layer
    pipeline: int = 1  # stages, each with layers of its own
    rank: int = 0
    neighbours: int = 1  # processes on this machine, this one too

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline"):
            if getattr(self, name) < 1:
                raise ConfigError(f"mesh: {name}={getattr(self, name)} must be at least 1.")
        if not 0 <= self.rank < self.size:
            raise ConfigError(
                f"mesh: rank {self.rank} was given; {self.tensor} x {self.pipeline} processes have "
                f"the ranks 0 to {self.size - 1}."
            )

    @classmethod
    def of_process(
        cls, *, tensor: int = 1, pipeline: int = 1, environment: Mapping[str, str] = os.environ
    ) -> "Mesh":
        """Return the place of this process, as torchrun tells it.

        Raises:
            ConfigError: the number of processes is not tensor x pipeline.
        """
        started = int(environment.get("WORLD_SIZE", "1"))
        wanted = tensor * pipeline
        if started != wanted:
            raise ConfigError(
                f"mesh: {started} processes were started; tensor x pipeline is {tensor} x "
                f"{pipeline} = {wanted}. Start them with: torchrun --nproc-per-node {wanted} -m "
                "puna ..., or change --tensor-parallel and --pipeline-parallel."
            )
        return cls(
            tensor=tensor,
            pipeline=pipeline,
            rank=int(environment.get("RANK", "0")),
            neighbours=int(environment.get("LOCAL_WORLD_SIZE", "1")),
        )

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.tensor * self.pipeline

    @property
    def tensor_rank(self) -> int:
        """Place among those that share the layers of this stage."""
        return self.rank % self.tensor

    @property
    def stage(self) -> int:
        """Place in the pipeline."""
        return self.rank // self.tensor

    @property
    def is_first(self) -> bool:
        """Whether this stage reads tokens."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether this stage gives logits."""
        return self.stage == self.pipeline - 1

    @property
    def is_leader(self) -> bool:
        """Whether this process decides what all of them do."""
        return self.rank == 0

    @property
    def teller(self) -> int:
        """The rank that holds the whole logits of a step."""
        return self.tensor * (self.pipeline - 1)

    def team(self, stage: int) -> list[int]:
        """Return the ranks that share the layers of a stage."""
        return list(range(stage * self.tensor, (stage + 1) * self.tensor))
