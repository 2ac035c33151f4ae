"""Every generation through every format: bits, configuration, tokenizer, template and stop ids."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puna.checkpoint.gguf import save_gguf
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.llama2c import save_llama2c
from puna.checkpoint.load import load_model
from puna.checkpoint.meta import save_meta
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError
from puna.model.config import ModelConfig, RopeScaling
from tests.checkpoint.models import (
    GENERATIONS,
    assert_same_state,
    random_state,
    tiny_tokenizer,
)

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"


def meta_scaling(config: ModelConfig) -> ModelConfig:
    """Meta's format can say the factor 32 for the shapes of Llama 3.2 only."""
    if config.rope_scaling is None:
        return config
    return replace(config, rope_scaling=RopeScaling(factor=8.0))


@pytest.mark.parametrize("to", ["hf", "meta", "gguf"])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_weights_and_config_come_back_bit_for_bit(generation: str, to: str, tmp_path: Path) -> None:
    config = GENERATIONS[generation]
    config = meta_scaling(config) if to == "meta" else config
    state = random_state(config)
    save: dict[str, Callable[..., None]] = {
        "hf": save_huggingface,
        "meta": save_meta,
        "gguf": save_gguf,
    }
    path = tmp_path / f"model.{to}"
    save[to](state, config, path, chat_template=TEMPLATE, stop_ids=(264, 272, 273))
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == config
    assert checkpoint.chat_template == TEMPLATE
    assert checkpoint.stop_ids == (264, 272, 273)
    assert_same_state(dict(checkpoint.weights()), state)


@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_comes_back_bit_for_bit(tied: bool, tmp_path: Path) -> None:
    config = replace(GENERATIONS["2"], tied=tied)
    state = random_state(config)
    save_llama2c(state, config, tmp_path / "model.bin")
    checkpoint = open_checkpoint(tmp_path / "model.bin")
    assert checkpoint.config == config
    assert_same_state(dict(checkpoint.weights()), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("to", ["hf", "meta", "gguf"])
def test_half_precision_comes_back_bit_for_bit(dtype: torch.dtype, to: str, tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    state = random_state(config, dtype=dtype)
    save: dict[str, Callable[..., None]] = {
        "hf": save_huggingface,
        "meta": save_meta,
        "gguf": save_gguf,
    }
    save[to](state, config, tmp_path / f"model.{to}")
    model = load_model(tmp_path / f"model.{to}")
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert_same_state(dict(model.state_dict()), state)


@pytest.mark.parametrize("to", ["hf", "meta", "gguf"])
def test_the_tokenizer_travels_with_the_weights(to: str, tmp_path: Path) -> None:
    config, tok = GENERATIONS["3"], tiny_tokenizer()
    save: dict[str, Callable[..., None]] = {
        "hf": save_huggingface,
        "meta": save_meta,
        "gguf": save_gguf,
    }
    save[to](random_state(config), config, tmp_path / f"model.{to}", tokenizer=tok)
    checkpoint = open_checkpoint(tmp_path / f"model.{to}")
    found = checkpoint.tokenizer()
    assert found is not None and found.vocab == tok.vocab == config.vocab
    assert dict(found.specials) == dict(tok.specials)
    text = "the hat sat on the bat <|eot_id|>"
    assert found.encode(text, bos=True) == tok.encode(text, bos=True)


@pytest.mark.parametrize(
    "rule",
    [
        RopeScaling(factor=8.0),
        RopeScaling(factor=32.0),
        RopeScaling(factor=10.0, low_freq_factor=1.5, high_freq_factor=6.0, original_context=2048),
    ],
)
def test_rope_scaling_survives_or_is_refused(rule: RopeScaling, tmp_path: Path) -> None:
    config = replace(GENERATIONS["3"], rope_scaling=rule)
    state = random_state(config)
    save_huggingface(state, config, tmp_path / "hf")
    assert open_checkpoint(tmp_path / "hf").config.rope_scaling == rule
    save_gguf(state, config, tmp_path / "model.gguf")
    assert open_checkpoint(tmp_path / "model.gguf").config.rope_scaling == rule
    with pytest.raises(ConfigError, match="rope_theta is 500000"):
        save_llama2c(state, config, tmp_path / "model.bin")
    if rule.factor == 8.0:
        save_meta(state, config, tmp_path / "meta")
        assert open_checkpoint(tmp_path / "meta").config.rope_scaling == rule
    else:
        with pytest.raises(ConfigError, match="Meta's format can only say"):
            save_meta(state, config, tmp_path / "meta")
        assert not (tmp_path / "meta").exists()


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_a_head_width_of_its_own_survives(to: str, tmp_path: Path) -> None:
    config = replace(GENERATIONS["3"], head_width=16)  # 12 x 16 is twice the width
    state = random_state(config)
    save: dict[str, Callable[..., None]] = {"hf": save_huggingface, "gguf": save_gguf}
    save[to](state, config, tmp_path / f"model.{to}")
    checkpoint = open_checkpoint(tmp_path / f"model.{to}")
    assert checkpoint.config == config
    assert_same_state(dict(checkpoint.weights()), state)
    with pytest.raises(ConfigError, match="head_width=16 with 12 heads"):
        save_meta(state, config, tmp_path / "meta")


def test_a_tied_head_stays_tied_through_saving_and_loading(tmp_path: Path) -> None:
    config = GENERATIONS["3.2"]
    model = load_checkpointed(config, tmp_path / "one")
    save_huggingface(model, config, tmp_path / "two")
    again = load_model(tmp_path / "two")
    assert again.head is None
    assert_same_state(dict(again.state_dict()), dict(model.state_dict()))


def load_checkpointed(config: ModelConfig, folder: Path) -> torch.nn.Module:
    save_huggingface(random_state(config), config, folder)
    return load_model(folder)
