"""Hugging Face's `config.json`, read into a ModelConfig and written for others to read.

A key that changes the computation and is not understood is refused; keys known to have no effect on
the logits are listed here. Source: transformers' LlamaConfig, versions 4 and 5, for the keys and
for the defaults of absent ones.
"""

from collections.abc import Mapping
from typing import Any

from puna.checkpoint.facts import Facts
from puna.errors import ConfigError
from puna.model.config import ModelConfig, RopeScaling

# Bookkeeping, training-only settings and generation defaults: none of them reaches the logits.
_HARMLESS = """
    _attn_implementation _attn_implementation_autoset _commit_hash _name_or_path attention_dropout
    auto_map bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id id2label initializer_range
    is_decoder is_encoder_decoder label2id length_penalty max_length max_sequence_length min_length
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores pad_token_id prefix pretraining_tp problem_type
    remove_invalid_values repetition_penalty return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tokenizer_class top_k top_p
    torch_dtype torchscript transformers_version typical_p unsloth_fixed unsloth_version
    use_bfloat16 use_cache
"""


def config_from_huggingface(table: Mapping[str, Any], *, where: str, has_head: bool) -> ModelConfig:
    """Read the model's shape from `config.json`.

    Args:
        table: the file's object.
        where: the file's name, for messages.
        has_head: the weights hold `lm_head.weight`.
    Raises:
        ConfigError: a key is missing, wrong, contradictory, or not understood.
    """
    facts = Facts(table, where=where)
    facts.must_be("model_type", "llama")
    facts.must_be("architectures", ["LlamaForCausalLM"])
    facts.must_be("hidden_act", "silu")
    for off in ("attention_bias", "mlp_bias", "add_cross_attention", "tie_encoder_decoder"):
        facts.must_be(off, False)
    facts.must_be("pruned_heads", {})
    heads = facts.integer("num_attention_heads")
    width = facts.integer("hidden_size")
    theta, scaling = _rope(facts)
    config = facts.build(
        ModelConfig,
        width=width,
        layers=facts.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=facts.integer("num_key_value_heads", heads),
        mlp_width=facts.integer("intermediate_size"),
        vocab=facts.integer("vocab_size"),
        context=facts.integer("max_position_embeddings", 2048),
        head_width=facts.integer("head_dim", max(1, width // heads)),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=facts.number("rms_norm_eps", 1e-6),
        tied=_tied(facts, has_head),
    )
    facts.refuse_rest(_HARMLESS.split())
    return config


def config_to_huggingface(
    config: ModelConfig,
    *,
    dtype: str,
    bos: int | None,
    eos: tuple[int, ...],
    pad: int | None = None,
) -> dict[str, Any]:
    """Write `config.json` so that transformers 4 and 5, vLLM and llama.cpp's converter read it."""
    table: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
        "bos_token_id": bos,
        "eos_token_id": eos_value(eos),
        "pad_token_id": pad,
        "torch_dtype": dtype,
        "use_cache": True,
    }
    if config.rope_scaling is not None:
        table["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": config.rope_scaling.factor,
            "low_freq_factor": config.rope_scaling.low_freq_factor,
            "high_freq_factor": config.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": config.rope_scaling.original_context,
        }
    return table


def eos_value(eos: tuple[int, ...]) -> int | list[int] | None:
    """Spell stop ids as Hugging Face does: one number, or a list."""
    return list(eos) if len(eos) > 1 else eos[0] if eos else None


def _tied(facts: Facts, has_head: bool) -> bool:
    """Decide whether the head is the embedding, from the key and from what the file holds."""
    if facts.value("tie_word_embeddings") is None:
        return not has_head
    tied = facts.flag("tie_word_embeddings")
    if not tied and not has_head:
        raise ConfigError(
            f"{facts.where}: tie_word_embeddings is false but the weights hold no lm_head.weight; "
            "a head of its own is expected. Download the weights again, or set the key to true."
        )
    return tied


def _rope(facts: Facts) -> tuple[float, RopeScaling | None]:
    """Read theta and scaling from the keys of transformers 4, of transformers 5, or of both."""
    old, new = facts.value("rope_scaling"), facts.value("rope_parameters")
    theta = facts.number("rope_theta", 0.0) if facts.value("rope_theta") is not None else None
    rules = [_rule(rule, key, facts.where) for key, rule in _named(old, new)]
    scalings = [scaling for _, scaling in rules]
    thetas = [value for value in (theta, *(value for value, _ in rules)) if value is not None]
    if len(set(thetas)) > 1 or any(scaling != scalings[0] for scaling in scalings):
        raise ConfigError(
            f"{facts.where}: rope_theta, rope_scaling and rope_parameters contradict each other "
            f"({theta}, {old}, {new}); one rule is expected. Remove the wrong one."
        )
    return (thetas[0] if thetas else 10_000.0), (scalings[0] if scalings else None)


def _named(old: Any, new: Any) -> list[tuple[str, Any]]:
    pairs = [("rope_scaling", old), ("rope_parameters", new)]
    return [(key, rule) for key, rule in pairs if rule is not None]


def _rule(rule: Any, key: str, where: str) -> tuple[float | None, RopeScaling | None]:
    """Read one scaling rule, whose kind stands under `rope_type` (new) or `type` (old)."""
    where = f"{where} {key}"
    if not isinstance(rule, Mapping):
        raise ConfigError(f"{where}: {rule!r} was given; an object is expected.")
    facts = Facts(rule, where=where)
    kinds = {k for k in (facts.value("rope_type"), facts.value("type")) if k is not None}
    if not kinds <= {"llama3", "default"} or len(kinds) > 1:
        raise ConfigError(
            f"{where}: the kind is {' and '.join(sorted(map(str, kinds)))}; llama3 or default is "
            "expected. puna computes no other scaling of RoPE."
        )
    theta = facts.number("rope_theta") if facts.value("rope_theta") is not None else None
    if facts.value("partial_rotary_factor") is not None:
        facts.must_be("partial_rotary_factor", 1.0, 1)
    if kinds != {"llama3"}:
        facts.refuse_rest()
        return theta, None
    scaling = facts.build(
        RopeScaling,
        factor=facts.number("factor"),
        low_freq_factor=facts.number("low_freq_factor"),
        high_freq_factor=facts.number("high_freq_factor"),
        original_context=facts.integer("original_max_position_embeddings"),
    )
    facts.refuse_rest()
    return theta, scaling
