"""Every released Llama text model: one row each. Adding a size is adding a row.

`puna inspect` names a checkpoint by it, tests hold its exact parameter counts, recipes start from
it. Sources: The Llama 3 Herd of Models, table 3; the model cards and stored configurations of each
release.
"""

from dataclasses import dataclass, replace
from typing import Any

from puna.model.config import ModelConfig, RopeScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model of the family and facts that its weights do not hold."""

    config: ModelConfig
    title: str  # as its card names it
    generation: str  # "1", "2", "3", "3.1", "3.2", "3.3"
    meta_files: int  # consolidated.*.pth files of the release


_LLAMA1: dict[str, Any] = {
    "vocab": 32_000,
    "context": 2048,
    "rope_theta": 10_000.0,
    "norm_eps": 1e-6,
}
_LLAMA1_65B = _LLAMA1 | {"norm_eps": 1e-5}
_LLAMA2: dict[str, Any] = {
    "vocab": 32_000,
    "context": 4096,
    "rope_theta": 10_000.0,
    "norm_eps": 1e-5,
}
_LLAMA3: dict[str, Any] = {
    "vocab": 128_256,
    "context": 8192,
    "rope_theta": 500_000.0,
    "norm_eps": 1e-5,
}
_LLAMA31 = _LLAMA3 | {"context": 131_072, "rope_scaling": RopeScaling(factor=8.0)}
_LLAMA32 = _LLAMA3 | {"context": 131_072, "rope_scaling": RopeScaling(factor=32.0), "tied": True}

# name: (title, generation, width, layers, heads, kv_heads, mlp_width, rest, Meta's files)
_ROWS: dict[str, tuple[str, str, int, int, int, int, int, dict[str, Any], int]] = {
    "llama-1-7b": ("LLaMA 7B", "1", 4096, 32, 32, 32, 11008, _LLAMA1, 1),
    "llama-1-13b": ("LLaMA 13B", "1", 5120, 40, 40, 40, 13824, _LLAMA1, 2),
    "llama-1-33b": ("LLaMA 33B", "1", 6656, 60, 52, 52, 17920, _LLAMA1, 4),
    "llama-1-65b": ("LLaMA 65B", "1", 8192, 80, 64, 64, 22016, _LLAMA1_65B, 8),
    "llama-2-7b": ("Llama 2 7B", "2", 4096, 32, 32, 32, 11008, _LLAMA2, 1),
    "llama-2-13b": ("Llama 2 13B", "2", 5120, 40, 40, 40, 13824, _LLAMA2, 2),
    "llama-2-70b": ("Llama 2 70B", "2", 8192, 80, 64, 8, 28672, _LLAMA2, 8),
    "llama-3-8b": ("Llama 3 8B", "3", 4096, 32, 32, 8, 14336, _LLAMA3, 1),
    "llama-3-70b": ("Llama 3 70B", "3", 8192, 80, 64, 8, 28672, _LLAMA3, 8),
    "llama-3.1-8b": ("Llama 3.1 8B", "3.1", 4096, 32, 32, 8, 14336, _LLAMA31, 1),
    "llama-3.1-70b": ("Llama 3.1 70B", "3.1", 8192, 80, 64, 8, 28672, _LLAMA31, 8),
    "llama-3.1-405b": ("Llama 3.1 405B", "3.1", 16384, 126, 128, 8, 53248, _LLAMA31, 8),
    "llama-3.2-1b": ("Llama 3.2 1B", "3.2", 2048, 16, 32, 8, 8192, _LLAMA32, 1),
    "llama-3.2-3b": ("Llama 3.2 3B", "3.2", 3072, 28, 24, 8, 8192, _LLAMA32, 1),
    "llama-3.3-70b": ("Llama 3.3 70B", "3.3", 8192, 80, 64, 8, 28672, _LLAMA31, 8),
    "llama-guard-3-8b": ("Llama Guard 3 8B", "3.1", 4096, 32, 32, 8, 14336, _LLAMA31, 1),
    "llama-guard-3-1b": ("Llama Guard 3 1B", "3.2", 2048, 16, 32, 8, 8192, _LLAMA32, 1),
}

FAMILY: dict[str, Member] = {
    name: Member(
        config=ModelConfig(
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            mlp_width=mlp_width,
            **rest,
        ),
        title=title,
        generation=generation,
        meta_files=files,
    )
    for name, (
        title,
        generation,
        width,
        layers,
        heads,
        kv_heads,
        mlp_width,
        rest,
        files,
    ) in _ROWS.items()
}


def members_of(config: ModelConfig) -> list[str]:
    """Name the members with this shape; several share one, as 3.1 70B and 3.3 70B do."""
    return [name for name, member in FAMILY.items() if _same_shape(member.config, config)]


def _same_shape(one: ModelConfig, other: ModelConfig) -> bool:
    """Compare all but the context, which users shorten, and the epsilon, which copies round."""
    return replace(one, context=1, norm_eps=1.0) == replace(other, context=1, norm_eps=1.0)
