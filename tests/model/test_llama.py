"""The decoder equals transformers' in float32, and a cache changes nothing."""

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from puna.model.cache import KVCache
from puna.model.config import ModelConfig, RopeScaling
from puna.model.init import initialise
from puna.model.llama import Llama, View
from puna.ops.rope import rotation

SHAPE = {"width": 48, "layers": 3, "heads": 6, "mlp_width": 80, "vocab": 101}
GENERATIONS = {
    "llama 1": ModelConfig(**SHAPE, kv_heads=6, context=64, rope_theta=1e4, norm_eps=1e-6),
    "llama 2, grouped": ModelConfig(**SHAPE, kv_heads=2, context=64, rope_theta=1e4),
    "llama 3": ModelConfig(**SHAPE, kv_heads=3, context=64),
    "llama 3.1": ModelConfig(
        **SHAPE, kv_heads=2, context=256, rope_scaling=RopeScaling(factor=8, original_context=32)
    ),
    "llama 3.2": ModelConfig(
        **SHAPE,
        kv_heads=1,
        context=256,
        head_width=16,
        tied=True,
        rope_scaling=RopeScaling(factor=32, original_context=32),
    ),
}


def fresh(config: ModelConfig, seed: int = 0) -> Llama:
    model = Llama(config)
    initialise(model, seed=seed, std=0.2)
    return model.eval().requires_grad_(False)


def theirs(config: ModelConfig) -> LlamaForCausalLM:
    rope = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if config.rope_scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": config.rope_scaling.factor,
            "low_freq_factor": config.rope_scaling.low_freq_factor,
            "high_freq_factor": config.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": config.rope_scaling.original_context,
        }
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_width,
            intermediate_size=config.mlp_width,
            vocab_size=config.vocab,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=config.tied,
            rope_parameters=rope,
        )
    ).eval()


SPELLINGS = {
    "model.embed_tokens.": "embed.",
    "model.layers.": "blocks.",
    "model.norm.": "norm.",
    "lm_head.": "head.",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "mlp_norm",
    "self_attn.q_proj": "attn.wq",
    "self_attn.k_proj": "attn.wk",
    "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo",
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
}


def give_weights(model: LlamaForCausalLM, ours: Llama) -> None:
    weights = ours.state_dict()
    renamed = {}
    for name in model.state_dict():
        new = name
        for foreign, own in SPELLINGS.items():
            new = new.replace(foreign, own)
        if new in weights:
            renamed[name] = weights[new]
    result = model.load_state_dict(renamed, strict=False)
    assert set(result.missing_keys) <= {"lm_head.weight"}


@pytest.mark.parametrize("name", GENERATIONS)
def test_logits_match_transformers_in_each_layer_and_beyond_the_original_context(name: str) -> None:
    config = GENERATIONS[name]
    ours, other = fresh(config), theirs(config)
    give_weights(other, ours)
    ids = torch.randint(
        config.vocab, (2, config.context), generator=torch.Generator().manual_seed(1)
    )
    states: list[torch.Tensor] = []
    for block in ours.blocks:
        block.register_forward_hook(lambda _module, _inputs, out: states.append(out))
    with torch.no_grad():
        reference = other(ids, output_hidden_states=True)
        logits = ours(ids)
    for mine, its in zip(states[:-1], reference.hidden_states[1:-1], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, reference.logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", GENERATIONS)
def test_prefill_in_pieces_equals_one_pass(name: str) -> None:
    config = GENERATIONS[name]
    model = fresh(config)
    ids = torch.randint(config.vocab, (2, 50), generator=torch.Generator().manual_seed(2))
    whole = model(ids)
    cache = KVCache(config, 2, 50)
    pieces = [model(part, cache=cache) for part in ids.split([20, 13, 1, 1, 15], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-5, atol=1e-5)


def test_padded_rows_equal_the_same_rows_alone() -> None:
    config = GENERATIONS["llama 3.1"]
    model = fresh(config)
    draw = torch.Generator().manual_seed(3)
    rows = [torch.randint(config.vocab, (n,), generator=draw) for n in (3, 40, 17)]
    counts = torch.tensor([len(r) for r in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    cache = KVCache(config, 3, 48)
    model(padded, cache=cache, counts=counts)
    step = torch.tensor([[5], [6], [7]])
    after = model(step, cache=cache)
    assert torch.isfinite(after).all()
    for row, tokens in enumerate(rows):
        alone = model(torch.cat((tokens, step[row]))[None])
        torch.testing.assert_close(after[row, -1], alone[0, -1], rtol=1e-5, atol=1e-5)


def test_documents_in_one_row_do_not_see_each_other() -> None:
    config = GENERATIONS["llama 3"]
    model = fresh(config)
    draw = torch.Generator().manual_seed(4)
    ids = torch.randint(config.vocab, (1, 40), generator=draw)
    documents = torch.tensor([[0] * 25 + [1] * 15])
    before = model(ids, documents=documents)
    changed = ids.clone()
    changed[0, :25] = torch.randint(config.vocab, (25,), generator=draw)
    after = model(changed, documents=documents)
    assert torch.equal(before[0, 25:], after[0, 25:])
    alone = model(ids[:, :25])
    torch.testing.assert_close(before[:, :25], alone, rtol=1e-5, atol=1e-5)


def test_only_the_logits_asked_for_are_returned() -> None:
    config = GENERATIONS["llama 2, grouped"]
    model = fresh(config)
    ids = torch.randint(config.vocab, (2, 9), generator=torch.Generator().manual_seed(5))
    some = model(ids, last=torch.tensor([3, 8]))
    every = model(ids)
    torch.testing.assert_close(some, torch.stack((every[0, 3], every[1, 8])))


def test_rope_frequencies_stay_in_float32_and_are_computed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import puna.model.llama as room

    calls = []
    original = room.scale_frequencies
    monkeypatch.setattr(
        room, "scale_frequencies", lambda *given: calls.append(1) or original(*given)
    )
    config = GENERATIONS["llama 3.1"]
    model = Llama(config)
    before = model.freqs.clone()
    model.to(torch.bfloat16)
    for length in (1, 5, 200):
        model(torch.zeros(1, length, dtype=torch.int64))
    assert model.freqs.dtype == torch.float32
    assert torch.equal(model.freqs, before)
    assert len(calls) == 1


def test_a_bfloat16_model_turns_by_the_float32_angles() -> None:
    """Pitfall R4: in bfloat16, positions above 256 share their neighbours' angles."""
    config = replace(GENERATIONS["llama 3.1"], context=5000)
    model, views = fresh(config), list[View]()
    model.blocks[0].register_forward_pre_hook(lambda _module, given: views.append(given[1]))
    ids = torch.zeros(1, 600, dtype=torch.int64)
    model(ids)
    cache = KVCache(config, 1, 5000, torch.bfloat16)
    cache.lengths += 4000
    model.to(torch.bfloat16)(ids, cache=cache)
    model(ids)
    exact, later, rough = views
    assert torch.equal(rough.cos, exact.cos) and torch.equal(rough.sin, exact.sin)
    expected, _ = rotation(torch.arange(4000, 4600)[None], model.freqs)
    assert torch.equal(later.cos, expected)
    assert (exact.cos[0, 257] != exact.cos[0, 258]).any()
    assert (later.cos[0, 94] != later.cos[0, 95]).any()


def test_bfloat16_logits_stay_close_to_float32() -> None:
    config = GENERATIONS["llama 3.2"]
    model = fresh(config)
    ids = torch.randint(config.vocab, (1, 60), generator=torch.Generator().manual_seed(6))
    exact = model(ids)
    rough = model.to(torch.bfloat16)(ids)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean() + 0.05


def test_a_sequence_beyond_the_context_is_refused_with_both_counts() -> None:
    model = fresh(GENERATIONS["llama 1"])
    with pytest.raises(ValueError, match=r"65 tokens were given; its context is 64"):
        model(torch.zeros(1, 65, dtype=torch.int64))
