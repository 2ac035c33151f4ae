"""The mix: which documents make up a budget so that each source has its share of the tokens.

Llama 3 was trained on about 50 % general knowledge, 25 % mathematics and reasoning, 17 % code and
8 % multilingual text (The Llama 3 Herd of Models, section 3.1.2). The tokenizer is trained after
curation, so tokens are estimated from bytes. Where a source has too little, the whole mix shrinks
and keeps its shares; nothing is repeated.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from puna.data.document import SOURCES
from puna.errors import ConfigError

GENERATED = ("maths", "multilingual")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixConfig:
    """Shares of the tokens. Source: The Llama 3 Herd of Models, section 3.1.2."""

    general: float = 0.50
    maths: float = 0.25
    code: float = 0.17
    multilingual: float = 0.08
    # Measured with a vocabulary of 4,096 trained on this mix.
    bytes_per_token: Mapping[str, float] = field(
        default_factory=lambda: {"general": 3.4, "maths": 2.3, "code": 3.3, "multilingual": 2.5}
    )

    def __post_init__(self) -> None:
        shares = [getattr(self, source) for source in SOURCES]
        if min(shares) < 0 or not sum(shares):
            raise ConfigError(f"mix: shares {shares}; none may be negative and one must count.")
        missing = [source for source in SOURCES if self.bytes_per_token.get(source, 0) <= 0]
        if missing:
            raise ConfigError(f"mix: bytes_per_token lacks a positive value for {missing[0]}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes of each source, and the source that made the budget smaller than asked."""

    bytes: Mapping[str, int]
    limited_by: str | None


def plan_budget(
    config: MixConfig,
    available: Mapping[str, int],
    budget_bytes: int,
    generated: Sequence[str] = GENERATED,
) -> Budget:
    """Divide `budget_bytes` so that the estimated tokens have the configured shares.

    Args:
        available: bytes at hand of the sources that are not generated; one that is missing or
            empty gets nothing, and the others' shares grow in proportion.
        generated: the generated sources that take part.
    """
    weights = {
        source: getattr(config, source) * config.bytes_per_token[source]
        for source in SOURCES
        if getattr(config, source) > 0 and (source in generated or available.get(source, 0) > 0)
    }
    total = sum(weights.values())
    wanted = {source: budget_bytes * weight / total for source, weight in weights.items()}
    scale, limited_by = 1.0, None
    for source in sorted(set(wanted) - set(generated)):
        if available[source] / wanted[source] < scale:
            scale, limited_by = available[source] / wanted[source], source
    return Budget(
        # Rounded up, so that a source that is taken whole keeps its last document.
        bytes={source: math.ceil(size * scale) for source, size in wanted.items()},
        limited_by=limited_by,
    )


def choose(ids: Sequence[str], sizes: Sequence[int], budget: int, *, seed: int) -> list[int]:
    """Take documents in a shuffled order until the budget is full; return their indices.

    A document that does not fit is passed over if it is more than a hundredth of the budget, so
    that one long page cannot unbalance a small mix.
    """
    chosen, left = [], budget
    for index in shuffled(range(len(ids)), ids, seed=seed):
        if sizes[index] > left and sizes[index] > budget // 100:
            continue
        chosen.append(index)
        left -= sizes[index]
        if left <= 0:
            break
    return chosen


def shuffled(indices: Iterable[int], ids: Sequence[str], *, seed: int) -> list[int]:
    """Order indices by a hash of the documents' ids, so that their first order does not matter."""
    return sorted(indices, key=lambda index: order_key(ids[index], seed))


def order_key(document_id: str, seed: int) -> tuple[bytes, str]:
    """A document's place in the shuffled order of a seed."""
    return hashlib.sha256(f"{seed}/{document_id}".encode()).digest()[:8], document_id
