"""Hugging Face folders: written for transformers, read from it, refused with reasons."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from puna.checkpoint.huggingface import INDEX, save_huggingface
from puna.checkpoint.huggingface_config import config_from_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError, FormatError, NotFoundError, PunaError
from puna.model.config import RopeScaling
from tests.checkpoint.models import GENERATIONS, assert_same_state, random_state, tiny_tokenizer

SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def table(**changes: Any) -> dict[str, Any]:
    """A small config.json; a change to None removes the key."""
    values: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 96,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "vocab_size": 520,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    } | changes
    return {key: value for key, value in values.items() if value is not None}


def read(values: dict[str, Any], *, has_head: bool = True) -> Any:
    return config_from_huggingface(values, where="config.json", has_head=has_head)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_transformers_computes_the_same_logits_from_a_folder_of_puna(
    generation: str, tmp_path: Path
) -> None:
    config = GENERATIONS[generation]
    if config.rope_scaling is not None:  # so that the scaled frequencies matter within 60 tokens
        rule = replace(config.rope_scaling, original_context=32)
        config = replace(config, rope_scaling=rule)
    save_huggingface(random_state(config), config, tmp_path / "model")
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    ours = load_model(tmp_path / "model")
    ids = torch.randint(config.vocab, (2, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
    torch.testing.assert_close(ours(ids), expected, rtol=1e-5, atol=1e-5 * expected.abs().max())


@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_transformers_gives_the_same_logits(tied: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=2,
            vocab_size=300,
            max_position_embeddings=128,
            tie_word_embeddings=tied,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 20_000.0,
                **(SCALING | {"original_max_position_embeddings": 16}),
            },
        )
    ).eval()
    theirs.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    assert (tmp_path / "model" / INDEX).exists()
    ours = load_model(tmp_path / "model")
    assert ours.config.tied is tied
    assert ours.config.rope_scaling == RopeScaling(factor=8.0, original_context=16)
    ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-5, atol=1e-6)


def test_shards_and_their_index_hold_every_tensor_once(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    state = random_state(config)
    save_huggingface(state, config, tmp_path / "model", shard_bytes=100_000)
    index = json.loads((tmp_path / "model" / INDEX).read_text())
    files = sorted(path.name for path in (tmp_path / "model").glob("*.safetensors"))
    assert len(files) > 2 and files == sorted(set(index["weight_map"].values()))
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert index["metadata"]["total_size"] == 4 * config.parameters
    assert all((tmp_path / "model" / file).stat().st_size < 250_000 for file in files)
    assert_same_state(dict(open_checkpoint(tmp_path / "model").weights()), state)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(theirs.lm_head.weight, state["head.weight"])


def test_transformers_reads_the_tokenizer_the_template_and_the_stop_ids(tmp_path: Path) -> None:
    config, tok = GENERATIONS["3"], tiny_tokenizer()
    save_huggingface(
        random_state(config),
        config,
        tmp_path / "model",
        tokenizer=tok,
        chat_template="{{ messages[0]['content'] }}!",
        stop_ids=(265, 272, 273),
    )
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "the hat sat"
    assert theirs.encode(text, add_special_tokens=False) == tok.encode(text)
    assert theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi!"
    assert GenerationConfig.from_pretrained(tmp_path / "model").eos_token_id == [265, 272, 273]


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_both_spellings_of_the_scaling_rule_are_read(key: str) -> None:
    config = read(table(rope_scaling={key: "llama3", **SCALING}))
    assert config.rope_scaling == RopeScaling(factor=8.0)


def test_the_factor_is_read_and_never_assumed() -> None:
    config = read(table(rope_scaling={"rope_type": "llama3", **(SCALING | {"factor": 32.0})}))
    assert config.rope_scaling == RopeScaling(factor=32.0)


def test_rope_parameters_of_transformers_5_are_read() -> None:
    rule = {"rope_type": "llama3", "rope_theta": 7000.0, **SCALING}
    config = read(table(rope_theta=None, rope_parameters=rule))
    assert (config.rope_theta, config.rope_scaling) == (7000.0, RopeScaling(factor=8.0))
    plain = read(
        table(rope_theta=None, rope_parameters={"rope_type": "default", "rope_theta": 9000.0})
    )
    assert (plain.rope_theta, plain.rope_scaling) == (9000.0, None)


def test_absent_keys_mean_what_transformers_means() -> None:
    absent = dict.fromkeys(
        ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta")
    )
    config, theirs = read(table(**absent)), LlamaConfig()
    assert config.kv_heads == config.heads
    assert config.context == theirs.max_position_embeddings
    assert config.norm_eps == theirs.rms_norm_eps
    assert config.rope_theta == theirs.rope_parameters["rope_theta"]


REFUSED = {
    "attention_bias": (True, "attention_bias=True"),
    "mlp_bias": (True, "mlp_bias=True"),
    "hidden_act": ("gelu", "hidden_act='gelu'"),
    "model_type": ("mistral", "model_type='mistral'"),
    "architectures": (["LlamaForSequenceClassification"], "LlamaForSequenceClassification"),
    "quantization_config": ({"quant_method": "fbgemm_fp8"}, "unknown key 'quantization_config'"),
    "sliding_window": (4096, "unknown key 'sliding_window'"),
    "hidden_sise": (96, "Did you mean 'hidden_size'"),
    "num_attention_heads": (0, "num_attention_heads=0"),
    "num_hidden_layers": ("3", "num_hidden_layers='3'"),
    "vocab_size": (True, "vocab_size=True"),
    "rms_norm_eps": (float("nan"), "rms_norm_eps=nan"),
    "num_key_value_heads": (5, "multiple of kv_heads=5"),
    "tie_word_embeddings": ("yes", "tie_word_embeddings='yes'"),
    "intermediate_size": (None, "'intermediate_size' is missing"),
    "rope_scaling": ({"rope_type": "yarn", **SCALING}, "the kind is yarn"),
    "rope_parameters": (
        {"rope_type": "default", "rope_theta": 1.0},
        "contradict each other",
    ),
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_changes_the_computation_is_refused(key: str) -> None:
    value, message = REFUSED[key]
    with pytest.raises(ConfigError, match=message):
        read(table(**{key: value}))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rope_type": "linear", "factor": 2.0}, "linear"),
        ({"type": "dynamic", "factor": 2.0}, "dynamic"),
        ({"rope_type": "llama3", "type": "linear", **SCALING}, "linear and llama3"),
        ({"rope_type": "llama3", "factor": 8.0}, "'low_freq_factor' is missing"),
        ({"rope_type": "llama3", **SCALING, "attention_factor": 1.0}, "attention_factor"),
        ({"rope_type": "llama3", **(SCALING | {"low_freq_factor": 5.0})}, "low_freq_factor=5.0"),
        ({**SCALING}, "unknown key"),
        ("llama3", "an object is expected"),
    ],
)
def test_a_scaling_rule_that_is_not_understood_is_refused(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(table(rope_scaling=rule))


def test_bookkeeping_keys_and_null_features_are_ignored() -> None:
    plain = read(table())
    noisy = table(transformers_version="4.43.0", attention_dropout=0.1, use_cache=False)
    noisy |= {"quantization_config": None, "sliding_window": None, "rope_scaling": None}
    assert read(noisy) == plain


def folder_of(tmp_path: Path, generation: str = "3") -> Path:
    config = GENERATIONS[generation]
    save_huggingface(random_state(config), config, tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace, add or (None) remove tensors; `__` stands for the dots of a name."""
    path = folder / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    for name, tensor in changes.items():
        state.pop(name.replace("__", "."), None)
        if tensor is not None:
            state[name.replace("__", ".")] = tensor
    save_file(state, path)


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__norm__weight": None}, "'model.norm.weight' is missing"),
        ({"model__norm__weight": torch.ones(95)}, r"'model.norm.weight' has shape \[95\]"),
        ({"model__norm__bias": torch.ones(96)}, "'model.norm.bias' is not part of a Llama"),
        (
            {"model__layers__0__block_sparse_moe__gate__weight": torch.ones(8, 96)},
            "belongs to a mixture of experts",
        ),
        (
            {"model__norm__weight": torch.ones(96, dtype=torch.int8)},
            "'model.norm.weight' is stored as I8",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path)
    change_weights(folder, **changes)
    with pytest.raises(FormatError, match=message):
        open_checkpoint(folder)


def test_the_frequency_table_of_old_files_is_ignored(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    name = "model__layers__0__self_attn__rotary_emb__inv_freq"
    change_weights(folder, **{name: torch.ones(4)})
    assert len(open_checkpoint(folder).tensor_names()) == 30


def test_a_tied_model_may_carry_an_equal_head_but_no_other(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "3.2")
    embed = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
    change_weights(folder, lm_head__weight=embed)
    assert load_model(folder).head is None
    change_weights(folder, lm_head__weight=embed + 1.0)
    with pytest.raises(FormatError, match=r"lm_head\.weight differs from the embedding"):
        load_model(folder)


def test_a_missing_head_is_an_error_where_the_config_says_untied(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "3")
    change_weights(folder, lm_head__weight=None)
    with pytest.raises(ConfigError, match=r"the weights hold no lm_head\.weight"):
        open_checkpoint(folder)
    change_config(folder, tie_word_embeddings="absent")
    assert open_checkpoint(folder).config.tied


def test_stop_ids_come_from_both_files_and_the_template_from_either(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    change_config(folder, eos_token_id=7)
    (folder / "generation_config.json").write_text('{"eos_token_id": [9, 8, 7]}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "from the config"}')
    checkpoint = open_checkpoint(folder)
    assert checkpoint.stop_ids == (9, 8, 7)
    assert checkpoint.chat_template == "from the config"
    named = [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "a"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert open_checkpoint(folder).chat_template == "a"
    (folder / "chat_template.jinja").write_text("its own file")
    assert open_checkpoint(folder).chat_template == "its own file"


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    folder = tmp_path / "model"
    save_huggingface(random_state(config), config, folder, shard_bytes=100_000)
    index = json.loads((folder / INDEX).read_text())
    whole = dict(index["weight_map"])
    removed = {k: v for k, v in whole.items() if k != "model.norm.weight"}
    (folder / INDEX).write_text(json.dumps({"weight_map": removed}))
    with pytest.raises(FormatError, match=r"does not list the tensor 'model\.norm\.weight'"):
        open_checkpoint(folder)
    outside = whole | {"model.norm.weight": "../model.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": outside}))
    with pytest.raises(FormatError, match="is no file name of this folder"):
        open_checkpoint(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": whole}))
    (folder / whole["model.norm.weight"]).unlink()
    with pytest.raises(NotFoundError, match="no such file"):
        open_checkpoint(folder)


def test_saving_refuses_weights_that_do_not_belong_to_the_config(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    state = random_state(config)
    with pytest.raises(FormatError, match=r"'head\.weight' has no place .*its head is tied"):
        save_huggingface(state, replace(config, tied=True), tmp_path / "model")
    with pytest.raises(FormatError, match=r"'embed\.weight' has shape \[520, 96\]"):
        save_huggingface(state, replace(config, vocab=521), tmp_path / "model")
    del state["norm.weight"]
    with pytest.raises(FormatError, match=r"'norm\.weight' is missing"):
        save_huggingface(state, config, tmp_path / "model")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00", '{"model_type": "llama"}'])
def test_a_damaged_config_is_a_clear_error(content: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(PunaError, match=r"config\.json"):
        open_checkpoint(folder)
