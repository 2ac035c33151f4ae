"""Meta's `params.json`, read into a ModelConfig and written for Meta's own code to read.

The file leaves much unsaid: the vocabulary may be -1, the MLP's width follows from a rule, the
context and RoPE's scaling factor from the generation. What it cannot say is refused when writing;
the context, which does not change what is computed, is kept beside it in `puna.json`.
"""

from collections.abc import Mapping
from typing import Any

from puna.checkpoint.facts import Facts
from puna.errors import ConfigError
from puna.model.config import ModelConfig, RopeScaling, mlp_width_of
from puna.model.family import FAMILY

# (ffn_dim_multiplier, multiple_of) of the releases: 3.2 1B; 70B; 405B; 3 8B; Llama 1 and 2. Where
# several rules give one width, the first counts. Source: Meta's llama-models, sku_list.
_MLP_RULES = ((1.5, 256), (1.3, 4096), (1.2, 4096), (1.3, 1024), (None, 256))

_LLAMA12_VOCAB = 32_000  # SentencePiece models; Llama 3 and later have 128,256 tokens
_HARMLESS = ("max_batch_size", "use_kernels", "model_parallel_size")


def config_from_meta(
    params: Mapping[str, Any], *, where: str, vocab: int, tied: bool, context: int | None
) -> ModelConfig:
    """Read the model's shape from `params.json`.

    Args:
        params: the file's object.
        vocab: rows of the embedding, which count where the file says -1.
        tied: the head is the embedding, as the weights show.
        context: what `puna.json` says of it; None: it follows from the generation.
    Raises:
        ConfigError: a key is missing, wrong, or not understood.
    """
    facts = Facts(params, where=where)
    stated = facts.value("vocab_size")
    if stated not in (None, -1, vocab):
        raise ConfigError(
            f"{where}: vocab_size={stated!r}, but the embedding has {vocab} rows; "
            "they must be equal. The two do not belong together."
        )
    width, heads = facts.integer("dim"), facts.integer("n_heads")
    layers, kv_heads = facts.integer("n_layers"), facts.integer("n_kv_heads", heads)
    theta = facts.number("rope_theta", 10_000.0)
    eps = facts.number("norm_eps", 1e-5)
    scaled = facts.flag("use_scaled_rope", False)
    mlp_width = _mlp_width(facts, width)
    stated_context = facts.value("max_seq_len")
    if stated_context is not None:
        context = facts.integer("max_seq_len")
    facts.refuse_rest(_HARMLESS)
    shape = (width, layers, heads, kv_heads)
    scaling = RopeScaling(factor=_scaling_factor(shape)) if scaled else None
    return facts.build(
        ModelConfig,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        mlp_width=mlp_width,
        vocab=vocab,
        context=context or _context(shape, vocab=vocab, scaled=scaled, eps=eps),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=eps,
        tied=tied,
    )


def config_to_meta(config: ModelConfig, *, where: str) -> dict[str, Any]:
    """Write `params.json`, or refuse what it has no words for.

    Raises:
        ConfigError: the head width or the RoPE scaling cannot be said in this format.
    """
    if config.head_width * config.heads != config.width:
        raise ConfigError(
            f"{where}: head_width={config.head_width} with {config.heads} heads of a "
            f"{config.width}-wide model; Meta's format knows width / heads only. Write another "
            "format."
        )
    shape = (config.width, config.layers, config.heads, config.kv_heads)
    implied = RopeScaling(factor=_scaling_factor(shape))
    if config.rope_scaling not in (None, implied):
        raise ConfigError(
            f"{where}: {config.rope_scaling}; Meta's format can only say {implied} for this shape. "
            "Write another format."
        )
    multiplier, multiple_of = _mlp_rule(config)
    params: dict[str, Any] = {
        "dim": config.width,
        "n_layers": config.layers,
        "n_heads": config.heads,
        "n_kv_heads": config.kv_heads,
        "vocab_size": config.vocab,
        "multiple_of": multiple_of,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "use_scaled_rope": config.rope_scaling is not None,
    }
    if multiplier is not None:
        params["ffn_dim_multiplier"] = multiplier
    return params


def _mlp_width(facts: Facts, width: int) -> int:
    """Apply the width rule; an explicit `hidden_dim` wins."""
    multiple_of = facts.integer("multiple_of", 256)
    given = facts.value("ffn_dim_multiplier")
    multiplier = None if given is None else facts.number("ffn_dim_multiplier")
    if facts.value("hidden_dim") is not None:
        return facts.integer("hidden_dim")
    return mlp_width_of(width, multiplier=multiplier, multiple_of=multiple_of)


def _mlp_rule(config: ModelConfig) -> tuple[float | None, int]:
    """Find the rule that gives the MLP's width: a release's, a rounding, or an exact multiplier."""
    roundings = tuple((None, 2**power) for power in range(7, -1, -1))
    for multiplier, multiple_of in (*_MLP_RULES, *roundings):
        width = mlp_width_of(config.width, multiplier=multiplier, multiple_of=multiple_of)
        if width == config.mlp_width:
            return multiplier, multiple_of
    # Half a unit more, so that the rule's rounding down lands on the width itself.
    exact = (config.mlp_width + 0.5) / mlp_width_of(config.width, multiplier=None, multiple_of=1)
    return exact, 1


def _scaling_factor(shape: tuple[int, int, int, int]) -> float:
    """Return RoPE's factor, which `use_scaled_rope` leaves open: 32 for Llama 3.2, else 8.

    Meta's reference code says 8 for every model; the published configurations of 3.2 say 32, and
    that is what those weights were trained for.
    """
    small = ("llama-3.2-1b", "llama-3.2-3b")
    return 32.0 if shape in {_shape(FAMILY[name].config) for name in small} else 8.0


def _context(shape: tuple[int, int, int, int], *, vocab: int, scaled: bool, eps: float) -> int:
    """Return the positions a generation was trained for, which `params.json` does not say."""
    if scaled:
        return FAMILY["llama-3.1-8b"].config.context
    if vocab > _LLAMA12_VOCAB:
        return FAMILY["llama-3-8b"].config.context
    llama1 = FAMILY["llama-1-65b"].config
    if eps < llama1.norm_eps or shape == _shape(llama1):
        return llama1.context
    return FAMILY["llama-2-7b"].config.context


def _shape(config: ModelConfig) -> tuple[int, int, int, int]:
    return config.width, config.layers, config.heads, config.kv_heads
