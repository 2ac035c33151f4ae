"""GGUF files: the `gguf` package reads what puna writes, and puna what it writes."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from puna.checkpoint import gguf_rope
from puna.checkpoint.facts import Facts
from puna.checkpoint.gguf import read_rows, read_tensor, save_gguf
from puna.checkpoint.gguf_blocks import TYPES, encode_q8_0
from puna.checkpoint.gguf_file import read_header
from puna.checkpoint.layout import to_interleaved
from puna.checkpoint.load import load_model
from puna.checkpoint.names import places, rope_heads
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError, FormatError, RequestError
from puna.model.config import ModelConfig, RopeScaling
from tests.checkpoint.models import GENERATIONS, random_state, tiny_tokenizer

WIDE = ModelConfig(
    width=256, layers=2, heads=12, kv_heads=4, head_width=64, mlp_width=512, vocab=520, context=64
)


def write_with_the_oracle(
    path: Path, config: ModelConfig, state: dict[str, torch.Tensor], **changes: Any
) -> None:
    """Write a Llama with the gguf package; a change to None leaves a key out."""
    writer = gguf.GGUFWriter(path, "llama")
    keys: dict[str, Any] = {
        "llama.context_length": config.context,
        "llama.embedding_length": config.width,
        "llama.block_count": config.layers,
        "llama.feed_forward_length": config.mlp_width,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.layer_norm_rms_epsilon": config.norm_eps,
        "llama.rope.freq_base": config.rope_theta,
        "llama.attention.key_length": config.head_width,
    } | changes
    extra = keys.pop("tensors", {})
    for key, value in keys.items():
        match value:
            case float():
                writer.add_float32(key, value)
            case int():
                writer.add_uint32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    for place in places(config, "gguf"):
        weight = state[place.puna]
        if heads := rope_heads(place.row, config):
            weight = to_interleaved(weight, heads)
        writer.add_tensor(place.name, weight.numpy())
    for name, array in extra.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_blocks(kind: str, count: int) -> np.ndarray[Any, Any]:
    """Random bytes with finite half-precision scales where the block holds them."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (count, TYPES[kind].bytes), dtype=np.uint8)
    scale = rng.uniform(-0.1, 0.1, (count, 2)).astype(np.float16).view(np.uint8)
    match kind:
        case "Q4_K":
            raw[:, :4] = scale
        case "Q6_K":
            raw[:, 208:] = scale[:, :2]
        case _:
            raw[:, :2] = scale[:, :2]
    return raw


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_blocks_decode_as_the_oracle_decodes_them(kind: str) -> None:
    raw = random_blocks(kind, 96)
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    found = TYPES[kind].decode(torch.from_numpy(raw))
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-7)


def test_a_q6_k_block_made_by_hand_decodes_to_its_numbers() -> None:
    """d = 0.5, every scale 2, low nibbles 3 and high bits 01: 0.5 x 2 x (3 + 16 - 32) = -13."""
    half = np.frombuffer(np.float16(0.5).tobytes(), np.uint8)
    raw = np.concatenate(
        [np.full(128, 0x33), np.full(64, 0b01010101), np.full(16, 2), half]
    ).astype(np.uint8)
    assert TYPES["Q6_K"].decode(torch.from_numpy(raw)[None]).unique().tolist() == [-13.0]


def test_q8_0_is_written_byte_for_byte_as_the_oracle_writes_it() -> None:
    rows = torch.randn(37, 96, generator=torch.Generator().manual_seed(0))
    rows[3] = 0.0
    rows[4, :32] = torch.arange(32) * 0.5  # values that fall on halves
    expected = gguf.quants.quantize(rows.numpy(), gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(encode_q8_0(rows).numpy(), expected)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "Q6_K", "Q8_0", "BF16"])
def test_a_quantized_tensor_reads_whole_and_by_rows(kind: str, tmp_path: Path) -> None:
    blocks = TYPES[kind]
    if kind == "BF16":
        raw = torch.randn(40, 512).bfloat16().view(torch.uint8).numpy()
    else:
        raw = random_blocks(kind, 40 * 512 // blocks.values).reshape(40, -1)
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writer.add_tensor("x", raw, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    entry = read_header(tmp_path / "one.gguf").tensors["x"]
    assert entry.shape == (40, 512)
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    whole = read_tensor(tmp_path / "one.gguf", entry).float()
    torch.testing.assert_close(whole, torch.from_numpy(expected.reshape(40, 512)))
    rows = read_rows(tmp_path / "one.gguf", entry, 11, 23).float()
    assert torch.equal(rows, whole[11:23])


def test_a_file_of_the_oracle_gives_the_same_model(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    state = random_state(config)
    write_with_the_oracle(tmp_path / "m.gguf", config, state)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert checkpoint.config == config
    for name, tensor in state.items():
        assert torch.equal(checkpoint.tensor(name), tensor), name


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_the_oracle_reads_what_puna_writes(kind: str, tmp_path: Path) -> None:
    state, tok = random_state(WIDE), tiny_tokenizer()
    save_gguf(state, WIDE, tmp_path / "m.gguf", kind=kind, tokenizer=tok, stop_ids=(265, 272))
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 4
    assert fields["tokenizer.ggml.model"] == "gpt2" and fields["tokenizer.ggml.pre"] == "llama-bpe"
    assert len(fields["tokenizer.ggml.tokens"]) == 520
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 2 * 9 + 3
    for place in places(WIDE, "gguf"):
        found = tensors[place.name]
        one = len(place.shape) == 1
        assert found.tensor_type.name == ("F32" if one else kind)
        assert tuple(found.shape.tolist()) == place.shape[::-1]
        values = gguf.quants.dequantize(found.data, found.tensor_type).reshape(place.shape)
        weight = state[place.puna]
        if heads := rope_heads(place.row, WIDE):
            weight = to_interleaved(weight, heads)
        step = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8, "Q8_0": 0.5 / 127 + 2.0**-11}[kind]
        bound = 0.0 if one else step * float(weight.abs().max())
        assert float((torch.tensor(values) - weight).abs().max()) <= bound


def test_stop_ids_stand_under_the_keys_that_name_them(tmp_path: Path) -> None:
    """End of text 265, of message 272, of turn 273 in a vocabulary of 264 ranks."""
    state, tok = random_state(WIDE), tiny_tokenizer()
    names = {name: tok.specials[name] for name in ("<|eom_id|>", "<|eot_id|>")}
    assert names == {"<|eom_id|>": 272, "<|eot_id|>": 273}
    save_gguf(state, WIDE, tmp_path / "m.gguf", tokenizer=tok, stop_ids=(265, 272, 273))
    metadata = read_header(tmp_path / "m.gguf").metadata
    assert metadata["tokenizer.ggml.eos_token_id"] == 265
    assert metadata["tokenizer.ggml.eot_token_id"] == 273
    assert metadata["tokenizer.ggml.eom_token_id"] == 272
    with pytest.raises(ConfigError, match="Give fewer"):
        save_gguf(state, WIDE, tmp_path / "m.gguf", tokenizer=tok, stop_ids=(265, 1, 2, 3))


def test_a_tokenizer_keeps_its_end_of_text_whatever_stops_an_answer(tmp_path: Path) -> None:
    save_gguf(
        random_state(WIDE), WIDE, tmp_path / "m.gguf", tokenizer=tiny_tokenizer(), stop_ids=(273,)
    )
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    tok = checkpoint.tokenizer()
    assert tok is not None and tok.eos_id == 265
    assert checkpoint.stop_ids == (265, 273)


def test_rows_that_no_block_divides_are_kept_in_half_precision(tmp_path: Path) -> None:
    config = replace(WIDE, mlp_width=80)
    save_gguf(random_state(config), config, tmp_path / "m.gguf", kind="Q8_0")
    kinds = {e.name: e.kind for e in read_header(tmp_path / "m.gguf").tensors.values()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0" and kinds["output_norm.weight"] == "F32"


def test_the_divisors_of_llama_3_1_are_the_published_ones() -> None:
    """1 for pairs 0-28, these six for 29-34, then 8. Source: the ratio of the two golden tables."""
    found = gguf_rope.divisors(128, 500_000.0, RopeScaling(factor=8.0))
    blended = [1.207484, 1.553415, 2.026313, 2.694530, 3.684253, 5.257327]
    expected = torch.tensor([1.0] * 29 + blended + [8.0] * 29)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_a_published_scaling_is_found_in_a_file_of_others(factor: float, tmp_path: Path) -> None:
    config = replace(GENERATIONS["3"], rope_scaling=RopeScaling(factor=factor))
    rope = gguf_rope.divisors(config.head_width, config.rope_theta, RopeScaling(factor=factor))
    write_with_the_oracle(
        tmp_path / "m.gguf",
        config,
        random_state(config),
        tensors={"rope_freqs.weight": rope.numpy()},
    )
    assert open_checkpoint(tmp_path / "m.gguf").config.rope_scaling == RopeScaling(factor=factor)


def nothing_stated() -> Facts:
    return Facts({}, where="m.gguf")


def test_an_unpublished_scaling_is_fitted_to_the_same_frequencies() -> None:
    rule = RopeScaling(
        factor=12.0, low_freq_factor=1.0, high_freq_factor=5.0, original_context=3000
    )
    stored = gguf_rope.divisors(128, 10_000.0, rule)
    found = gguf_rope.rule_of(stored, 128, 10_000.0, nothing_stated(), where="m.gguf")
    assert found is not None and found.factor == 12.0
    torch.testing.assert_close(
        gguf_rope.divisors(128, 10_000.0, found), stored, rtol=1e-4, atol=0.0
    )


def test_divisors_of_no_known_form_are_refused_and_ones_mean_no_scaling() -> None:
    longrope = torch.linspace(1.0, 9.0, 64)
    with pytest.raises(FormatError, match="follows no rule of Llama 3's form"):
        gguf_rope.rule_of(longrope, 128, 10_000.0, nothing_stated(), where="m.gguf")
    ones = torch.ones(64)
    assert gguf_rope.rule_of(ones, 128, 10_000.0, nothing_stated(), where="m.gguf") is None
    with pytest.raises(FormatError, match="64 divisors are expected"):
        gguf_rope.rule_of(torch.ones(63), 128, 10_000.0, nothing_stated(), where="m.gguf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.expert_count": 8}, "llama.expert_count=8"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type='yarn'"),
        ({"llama.attention.sliding_window": 4096}, "unknown key 'llama.attention.sliding_window'"),
        ({"llama.rope.dimension_count": 4}, "llama.rope.dimension_count=4"),
        ({"llama.attention.head_count_kv": [4, 4, 2]}, r"head_count_kv=\[4, 4, 2\]"),
        ({"llama.context_length": None}, "'llama.context_length' is missing"),
        ({"llama.context_length": "long"}, "llama.context_length='long'"),
        ({"llama.vocab_size": 519}, "llama.vocab_size=519"),
    ],
)
def test_metadata_that_changes_the_computation_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = GENERATIONS["3"]
    write_with_the_oracle(tmp_path / "m.gguf", config, random_state(config), **changes)
    with pytest.raises(ConfigError, match=message):
        open_checkpoint(tmp_path / "m.gguf")


def test_another_architecture_and_unread_types_are_refused(tmp_path: Path) -> None:
    for arch, kind in (("qwen2", "F32"), ("llama", "IQ2_XS")):
        writer = gguf.GGUFWriter(tmp_path / "m.gguf", arch)
        data = np.zeros((4, gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]), np.uint8)
        writer.add_tensor("x", data, raw_dtype=gguf.GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        error = FormatError if kind == "IQ2_XS" else ConfigError
        with pytest.raises(error, match=kind if kind == "IQ2_XS" else arch):
            open_checkpoint(tmp_path / "m.gguf")


def test_experts_are_refused_by_name(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    experts = {"blk.0.ffn_gate_exps.weight": np.zeros((4, 8), np.float32)}
    write_with_the_oracle(tmp_path / "m.gguf", config, random_state(config), tensors=experts)
    with pytest.raises(FormatError, match="mixture of experts"):
        open_checkpoint(tmp_path / "m.gguf")


def test_an_unknown_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="kind='Q4_K'"):
        save_gguf(random_state(WIDE), WIDE, tmp_path / "m.gguf", kind="Q4_K")


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (4, "<I", 9),  # version
        (8, "<Q", 2**63),  # tensors
        (16, "<Q", 2**62),  # keys
        (24, "<Q", 2**60),  # length of the first key
        (0, "<4s", b"GGUF"[::-1]),
    ],
)
def test_hostile_counts_cost_an_error_and_no_memory(
    at: int, form: str, value: Any, tmp_path: Path
) -> None:
    import tracemalloc

    config = GENERATIONS["3"]
    save_gguf(random_state(config), config, tmp_path / "m.gguf")
    raw = bytearray((tmp_path / "m.gguf").read_bytes())
    struct.pack_into(form, raw, at, value)
    (tmp_path / "m.gguf").write_bytes(raw)
    tracemalloc.start()
    with pytest.raises(FormatError, match="a whole GGUF file is expected"):
        open_checkpoint(tmp_path / "m.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_quantized_weights_load_as_float32_unless_told_otherwise(tmp_path: Path) -> None:
    save_gguf(random_state(WIDE), WIDE, tmp_path / "m.gguf", kind="Q8_0")
    assert load_model(tmp_path / "m.gguf").embed.weight.dtype == torch.float32
    half = load_model(tmp_path / "m.gguf", dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
