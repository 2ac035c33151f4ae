"""Which rows or columns of which weights a rank holds: a table, and one rule for each kind.

A column split divides what a matrix gives (its rows, as they are stored), a row split what it takes
(its columns), so that each pair costs one sum over the ranks. Heads are never cut; of key and value
heads that are fewer than the ranks each rank holds a copy of the one that its queries read. Source:
Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053, section 3.
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


def refuse_uneven(config: ModelConfig, mesh: Mesh) -> None:
    """Stop on a mesh that the model cannot be divided over without cutting a head.

    Raises:
        ConfigError: it cannot.
    """
    H, K, N = config.heads, config.kv_heads, mesh.tensor
    if H % N:
        raise ConfigError(
            f"tensor parallel: {N} ranks were asked for and the model has {H} query heads; a "
            "number that divides them is expected. Choose another one."
        )
    if K % N and N % K:
        raise ConfigError(
            f"tensor parallel: {N} ranks were asked for and the model has {K} key and value heads; "
            "one number must divide the other, so that each rank has whole heads. Choose another."
        )
    for name in ("mlp_width", "vocab"):
        if getattr(config, name) < N:
            raise ConfigError(f"tensor parallel: {N} ranks cannot share {name}, which is smaller.")
    if config.layers < mesh.pipeline:
        raise ConfigError(
            f"pipeline parallel: {mesh.pipeline} stages were asked for and the model has "
            f"{config.layers} layers; at least one layer a stage is expected. Ask for fewer stages."
        )


def share(total: int, parts: int, index: int) -> tuple[int, int]:
    """Return begin and end of one of several shares; the first ones take what is left over."""
    size, more = divmod(total, parts)
    begin = index * size + min(index, more)
    return begin, begin + size + (index < more)


def layers_of(config: ModelConfig, mesh: Mesh) -> range:
    """Return the layers of this stage; what is left over goes to the first ones, as the last has
    the head to compute.
    """
    return range(*share(config.layers, mesh.pipeline, mesh.stage))


def local_config(config: ModelConfig, mesh: Mesh) -> ModelConfig:
    """Return the shape of a rank's own blocks; width, vocabulary and context are the whole ones."""
    first, end = _span(config, mesh, "mlp_width")
    return dataclasses.replace(
        config,
        layers=len(layers_of(config, mesh)),
        heads=config.heads // mesh.tensor,
        kv_heads=max(1, config.kv_heads // mesh.tensor),
        head_width=config.head_width,
        mlp_width=end - first,
    )


def vocab_shares(config: ModelConfig, mesh: Mesh) -> list[tuple[int, int]]:
    """Return the rows of the vocabulary of each rank of a stage."""
    return [share(config.vocab, mesh.tensor, rank) for rank in range(mesh.tensor)]


def shards_of(config: ModelConfig, mesh: Mesh) -> Iterator[Shard]:
    """Yield every weight of this rank's model."""
    if mesh.is_first:
        yield _shard(config, mesh, "embed", "embed", "embed")
    for own, layer in enumerate(layers_of(config, mesh)):
        for part in (*_WHOLE, *(name for name in TENSOR_PLAN if "." in name)):
            yield _shard(config, mesh, part, f"blocks.{own}.{part}", f"blocks.{layer}.{part}")
    if mesh.is_last:
        yield Shard(target="norm.weight", source="norm.weight")
        yield _shard(config, mesh, "head", "head", "embed" if config.tied else "head")


def _shard(config: ModelConfig, mesh: Mesh, part: str, target: str, source: str) -> Shard:
    target, source = f"{target}.weight", f"{source}.weight"
    if part not in TENSOR_PLAN or mesh.tensor == 1:
        return Shard(target=target, source=source)
    what, dim = TENSOR_PLAN[part]
    return Shard(target=target, source=source, dim=dim, span=_span(config, mesh, what))


def _span(config: ModelConfig, mesh: Mesh, what: str) -> tuple[int, int]:
    """Return the rows or columns of this rank."""
    N, rank = mesh.tensor, mesh.tensor_rank
    if what in ("mlp_width", "vocab"):
        return share(getattr(config, what), N, rank)
    E, total = config.head_width, getattr(config, what)
    begin, end = (rank * total // N, rank * total // N + max(1, total // N))
    return begin * E, end * E
