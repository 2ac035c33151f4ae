"""Files of several formats, as llama.cpp's mixtures are: they run, natively and alike."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from puna.checkpoint.gguf_blocks import TYPES
from puna.checkpoint.load import load_model
from puna.checkpoint.names import places
from puna.checkpoint.open import open_checkpoint
from puna.errors import FormatError, PunaError
from puna.infer.runner import Runner
from puna.model.config import ModelConfig
from puna.ops import native
from tests.checkpoint.test_gguf_codes import random_blocks

WIDE = ModelConfig(width=512, layers=2, heads=8, kv_heads=2, mlp_width=256, vocab=96, context=64)


def q4_k_m(name: str) -> str:
    """Values of one layer and the head in Q6_K, all else in Q4_K."""
    return "Q6_K" if name in ("blk.1.attn_v.weight", "output.weight") else "Q4_K"


def fallback(name: str) -> str:
    """What llama.cpp takes where 256 does not divide a row."""
    wide = {"attn_v": "Q8_0", "ffn_down": "Q5_1", "ffn_up": "IQ4_NL", "ffn_gate": "Q4_1"}
    return next((kind for part, kind in wide.items() if part in name), "Q5_0")


def write_mixture(path: Path, kind_of: Callable[[str], str]) -> None:
    """Write a model of random blocks, each matrix in the type that its name gives."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(WIDE.context)
    writer.add_embedding_length(WIDE.width)
    writer.add_block_count(WIDE.layers)
    writer.add_feed_forward_length(WIDE.mlp_width)
    writer.add_head_count(WIDE.heads)
    writer.add_head_count_kv(WIDE.kv_heads)
    writer.add_layer_norm_rms_eps(WIDE.norm_eps)
    writer.add_rope_freq_base(WIDE.rope_theta)
    writer.add_vocab_size(WIDE.vocab)
    writer.add_tokenizer_model("no_vocab")
    for seed, place in enumerate(places(WIDE, "gguf")):
        if len(place.shape) == 1:
            writer.add_tensor(place.name, np.ones(place.shape, np.float32))
            continue
        kind, (rows, columns) = kind_of(place.name), place.shape
        blocks = random_blocks(kind, rows * columns // TYPES[kind].values, seed).numpy()
        writer.add_tensor(place.name, blocks.reshape(rows, -1), raw_dtype=Kind[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("kind_of", [q4_k_m, fallback])
def test_a_mixture_of_formats_runs_as_its_weights_do(
    tmp_path: Path, kind_of: Callable[[str], str]
) -> None:
    write_mixture(tmp_path / "m.gguf", kind_of)
    low, wide = load_model(tmp_path / "m.gguf", as_stored=True), load_model(tmp_path / "m.gguf")
    ids = torch.randint(96, (2, 9), generator=torch.Generator().manual_seed(0))
    close = torch.cosine_similarity(low(ids).flatten(), wide(ids).flatten(), dim=0)
    assert float(close) > 0.99
    if native.level() is not None:
        assert Runner.of(low) is not None, "the native decoder runs no such file"


def test_scales_written_twice_change_no_weight(tmp_path: Path) -> None:
    write_mixture(tmp_path / "m.gguf", q4_k_m)
    model = load_model(tmp_path / "m.gguf", as_stored=True)
    groups = [
        [model.get_submodule(f"blocks.{i}.attn.{name}").packed.group for name in ("wq", "wk", "wv")]
        for i in range(2)
    ]
    assert groups == [[32, 32, 32], [16, 16, 16]]
    wide = load_model(tmp_path / "m.gguf")
    for name in ("blocks.1.attn.wq", "blocks.0.attn.wq"):
        kept = model.get_submodule(name).packed.dequantize()
        weight = wide.get_parameter(f"{name}.weight")
        torch.testing.assert_close(kept, weight, rtol=0.0, atol=2.0**-9 * float(weight.abs().max()))


@pytest.mark.parametrize("kind_of", [q4_k_m, fallback])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.999])
def test_a_truncated_mixture_is_refused(
    tmp_path: Path, kind_of: Callable[[str], str], share: float
) -> None:
    write_mixture(tmp_path / "m.gguf", kind_of)
    raw = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(FormatError, match=r"truncated or damaged: download it again"):
        open_checkpoint(tmp_path / "m.gguf")


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q4_K", "Q6_K", "Q5_K", "Q5_0", "IQ4_XS"])
def test_a_scale_that_is_no_number_names_its_tensor(tmp_path: Path, kind: str) -> None:
    write_mixture(tmp_path / "m.gguf", lambda _: kind)
    stored = open_checkpoint(tmp_path / "m.gguf").tensors["blocks.1.mlp.up.weight"]
    raw = bytearray((tmp_path / "m.gguf").read_bytes())
    at = len(raw) - 96 * stored.stored_bytes // WIDE.mlp_width  # near the head, the last tensor
    size = TYPES[kind].bytes
    raw[at : at + 2 * size] = b"\x00\x7e" * size  # NaN wherever a block's scale lies
    (tmp_path / "m.gguf").write_bytes(raw)
    with pytest.raises(PunaError, match=r"'output\.weight' is no finite number"):
        load_model(tmp_path / "m.gguf", as_stored=True)


def test_a_file_that_says_it_has_no_vocabulary_has_none(tmp_path: Path) -> None:
    write_mixture(tmp_path / "m.gguf", q4_k_m)
    checkpoint = open_checkpoint(tmp_path / "m.gguf")
    assert checkpoint.tokenizer() is None
    assert "tokenizer" not in checkpoint.sources
