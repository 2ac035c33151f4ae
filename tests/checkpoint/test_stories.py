"""Real weights: the same 260,000 numbers in every format give the same logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from tests.testdata import testdata

FORMATS = {
    "hf": "huggingface",
    "meta": "meta",
    "stories260K-f32.gguf": "gguf",
    "stories260K-f16.gguf": "gguf",
    "stories260K.bin": "llama2c",
}


@pytest.fixture(scope="module")
def stories() -> Path:
    return testdata("weights/stories260K")


@pytest.mark.parametrize("name", FORMATS)
def test_logits_match_the_reference_in_every_format(name: str, stories: Path) -> None:
    with np.load(stories / "reference_greedy.npz") as reference:
        ids, expected = torch.tensor(reference["ids"]), torch.tensor(reference["logits_first16"])
    logits = load_model(stories / name, dtype=torch.float32)(ids[None, :16])[0]
    # Half precision rounds a weight by 2^-11; logits are about 16.
    tolerance = 0.03 if "f16" in name else 2e-5
    torch.testing.assert_close(logits, expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("name", FORMATS)
def test_greedy_decoding_continues_as_the_reference_in_every_format(
    name: str, stories: Path
) -> None:
    with np.load(stories / "reference_greedy.npz") as reference:
        ids = torch.tensor(reference["ids"])
    logits = load_model(stories / name, dtype=torch.float32)(ids[None, :-1])[0]
    assert torch.equal(logits.argmax(dim=-1), ids[1:])


@pytest.mark.parametrize(("name", "kind"), FORMATS.items())
def test_every_format_tells_the_same_shape(name: str, kind: str, stories: Path) -> None:
    checkpoint = open_checkpoint(stories / name)
    config = checkpoint.config
    assert checkpoint.kind == kind
    assert (config.width, config.layers, config.heads, config.kv_heads) == (64, 5, 8, 4)
    assert (config.mlp_width, config.vocab, config.tied) == (172, 512, True)
    assert (config.rope_theta, config.norm_eps) == (10_000.0, 1e-5)
    assert config.parameters == 260_032


def test_the_tokenizer_inside_a_gguf_file_reads_the_story(stories: Path) -> None:
    tok = open_checkpoint(stories / "stories260K-f32.gguf").tokenizer()
    assert tok is not None
    with np.load(stories / "reference_greedy.npz") as reference:
        ids = [int(i) for i in reference["ids"]]
    text = (stories / "expected_text.txt").read_text(encoding="utf-8")
    assert tok.decode(ids, skip_special=True).strip() == text.strip()
