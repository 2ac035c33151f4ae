"""Which rows or columns of which weights a rank holds: a table, and one rule for each kind.

A column split divides what a matrix gives (its rows, as they are stored), a row split what it takes
(its columns), so that each pair costs one sum over the ranks. Heads are never cut; of key and value
heads that are fewer than the ranks each rank holds a copy of the one that its queries read. Codes
of few bits are divided between groups, so that no scale belongs to two ranks. Source: Shoeybi et
al. 2019, Megatron-LM, arXiv:1909.08053, section 3.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from puna.errors import ConfigError
from puna.model.config import ModelConfig
from puna.parallel.mesh import Mesh

# What is divided, and along which dimension of the stored matrix [out, in]; norms are held whole.
TENSOR_PLAN: Mapping[str, tuple[str, int]] = {
    "attn.wq": ("heads", 0),
    "attn.wk": ("kv_heads", 0),
    "attn.wv": ("kv_heads", 0),
    "attn.wo": ("heads", 1),
    "mlp.gate": ("mlp_width", 0),
    "mlp.up": ("mlp_width", 0),
    "mlp.down": ("mlp_width", 1),
    "embed": ("vocab", 0),
    "head": ("vocab", 0),
}
_WHOLE = ("attn_norm", "mlp_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """The steps in which a model may be divided; 1 where its weights have all their bits."""

    heads: int = 1  # inputs of attn.wo that share a scale
    mlp_width: int = 1  # inputs of mlp.down
    vocab: int = 1  # rows that lie in one panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One weight of a rank's model, and the part of the stored tensor that it is."""

    target: str  # its name in the rank's model
    source: str  # the name of the whole tensor
    dim: int = 0
    span: tuple[int, int] | None = None  # None: the whole tensor

    def cut(self, whole: Tensor) -> Tensor:
        """Return the part; a view, so that of a mapped file nothing else is read."""
        if self.span is None:
            return whole
        begin, end = self.span
        return whole.narrow(self.dim, begin, end - begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A model divided over a mesh, as one rank sees it.

    Raises:
        ConfigError: it cannot be divided so without cutting a head or a group of codes.
    """

    whole: ModelConfig
    mesh: Mesh
    grain: Grain = Grain()

    def __post_init__(self) -> None:
        config, N = self.whole, self.mesh.tensor
        H, K, E = config.heads, config.kv_heads, config.head_width
        if H % N:
            raise ConfigError(
                f"tensor parallel: {N} ranks were asked for and the model has {H} query heads; a "
                "number that divides them is expected. Choose another one."
            )
        if K % N and N % K:
            raise ConfigError(
                f"tensor parallel: {N} ranks were asked for and the model has {K} key and value "
                "heads; one number must divide the other, so that each rank has whole heads. "
                "Choose another."
            )
        if H // N * E % self.grain.heads and N > 1:
            raise ConfigError(
                f"tensor parallel: {N} ranks were asked for, and each would take {H // N * E} "
                f"inputs of attn.wo, whose codes share a scale for {self.grain.heads}; whole "
                "groups are expected. Choose fewer ranks, or weights with smaller groups."
            )
        for name in ("mlp_width", "vocab"):
            total, step = getattr(config, name), getattr(self.grain, name)
            if -(-total // step) < N:
                in_steps = "" if step == 1 else f", as its codes lie together in steps of {step}"
                raise ConfigError(
                    f"tensor parallel: {N} ranks cannot share {name}={total}{in_steps}; at least "
                    "one step for each is expected. Choose fewer ranks."
                )
        if config.layers < self.mesh.pipeline:
            raise ConfigError(
                f"pipeline parallel: {self.mesh.pipeline} stages were asked for and the model has "
                f"{config.layers} layers; at least one layer a stage is expected. Ask for fewer "
                "stages."
            )

    @property
    def layers(self) -> range:
        """The layers of this stage; what is left over goes to the first stages, as the last one
        has the head to compute.
        """
        return range(*share(self.whole.layers, self.mesh.pipeline, self.mesh.stage))

    @property
    def own(self) -> ModelConfig:
        """The shape of this rank's blocks; width, vocabulary and context are the whole ones."""
        first, end = self._span("mlp_width")
        return dataclasses.replace(
            self.whole,
            layers=len(self.layers),
            heads=self.whole.heads // self.mesh.tensor,
            kv_heads=max(1, self.whole.kv_heads // self.mesh.tensor),
            head_width=self.whole.head_width,
            mlp_width=end - first,
        )

    @property
    def vocab_spans(self) -> list[tuple[int, int]]:
        """The rows of the vocabulary of each rank of a stage."""
        N, step = self.mesh.tensor, self.grain.vocab
        return [share(self.whole.vocab, N, rank, step) for rank in range(N)]

    def shards(self) -> Iterator[Shard]:
        """Yield every weight of this rank's model."""
        if self.mesh.is_first:
            yield self._shard("embed", "embed", "embed")
        for own, layer in enumerate(self.layers):
            for part in (*_WHOLE, *(name for name in TENSOR_PLAN if "." in name)):
                yield self._shard(part, f"blocks.{own}.{part}", f"blocks.{layer}.{part}")
        if self.mesh.is_last:
            yield Shard(target="norm.weight", source="norm.weight")
            yield self._shard("head", "head", "embed" if self.whole.tied else "head")

    def _shard(self, part: str, target: str, source: str) -> Shard:
        target, source = f"{target}.weight", f"{source}.weight"
        if part not in TENSOR_PLAN or self.mesh.tensor == 1:
            return Shard(target=target, source=source)
        what, dim = TENSOR_PLAN[part]
        return Shard(target=target, source=source, dim=dim, span=self._span(what))

    def _span(self, what: str) -> tuple[int, int]:
        """Return the rows or columns of this rank."""
        N, rank, total = self.mesh.tensor, self.mesh.tensor_rank, getattr(self.whole, what)
        if what in ("mlp_width", "vocab"):
            return share(total, N, rank, getattr(self.grain, what))
        begin, E = rank * total // N, self.whole.head_width
        return begin * E, (begin + max(1, total // N)) * E


def share(total: int, parts: int, index: int, step: int = 1) -> tuple[int, int]:
    """Return begin and end of one of several shares in whole steps; the first ones take what is
    left over, and the last step may be short.
    """
    size, more = divmod(-(-total // step), parts)
    begin = index * size + min(index, more)
    return begin * step, min(total, (begin + size + (index < more)) * step)
