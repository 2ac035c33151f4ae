"""Meta folders: any number of shards, both splits of the embedding, pickles that run nothing."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from puna.checkpoint.load import load_model
from puna.checkpoint.meta import save_meta
from puna.checkpoint.meta_params import config_from_meta, config_to_meta
from puna.checkpoint.open import open_checkpoint
from puna.errors import ConfigError, FormatError, NotFoundError
from puna.model.config import ModelConfig
from puna.model.family import FAMILY
from tests.checkpoint.models import GENERATIONS, assert_same_state, random_state

PARAMS: dict[str, Any] = {
    "dim": 96,
    "n_layers": 3,
    "n_heads": 12,
    "n_kv_heads": 4,
    "vocab_size": 520,
    "multiple_of": 32,
    "ffn_dim_multiplier": 0.25,
    "norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "use_scaled_rope": False,
}


def write_by_hand(
    folder: Path, config: ModelConfig, state: dict[str, Tensor], shards: int, *, split: int
) -> None:
    """Cut a model as Meta's code does, with loops of our own rather than the writer's."""
    folder.mkdir()
    whole = {"tok_embeddings.weight": (state["embed.weight"], split)}
    for i in range(config.layers):
        ours, meta = f"blocks.{i}", f"layers.{i}"
        for name, heads in (("wq", config.heads), ("wk", config.kv_heads)):
            rows = []
            for head in state[f"{ours}.attn.{name}.weight"].chunk(heads):
                half = len(head) // 2
                rows += [row for r in range(half) for row in (head[r], head[half + r])]
            whole[f"{meta}.attention.{name}.weight"] = (torch.stack(rows), 0)
        whole[f"{meta}.attention.wv.weight"] = (state[f"{ours}.attn.wv.weight"], 0)
        whole[f"{meta}.attention.wo.weight"] = (state[f"{ours}.attn.wo.weight"], 1)
        whole[f"{meta}.feed_forward.w1.weight"] = (state[f"{ours}.mlp.gate.weight"], 0)
        whole[f"{meta}.feed_forward.w2.weight"] = (state[f"{ours}.mlp.down.weight"], 1)
        whole[f"{meta}.feed_forward.w3.weight"] = (state[f"{ours}.mlp.up.weight"], 0)
        whole[f"{meta}.attention_norm.weight"] = (state[f"{ours}.attn_norm.weight"], -1)
        whole[f"{meta}.ffn_norm.weight"] = (state[f"{ours}.mlp_norm.weight"], -1)
    whole["norm.weight"] = (state["norm.weight"], -1)
    whole["output.weight"] = (state["head.weight"], 0)
    for rank in range(shards):
        part = {
            name: (t if dim < 0 else t.chunk(shards, dim)[rank]).clone()
            for name, (t, dim) in whole.items()
        }
        part["rope.freqs"] = torch.ones(4)
        torch.save(part, folder / f"consolidated.{rank:02d}.pth")


@pytest.mark.parametrize("vocab_size", [520, -1])
@pytest.mark.parametrize(("shards", "split"), [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1)])
def test_shards_cut_by_rows_or_columns_join_to_the_same_model(
    shards: int, split: int, vocab_size: int, tmp_path: Path
) -> None:
    config = GENERATIONS["3"]
    state = random_state(config)
    write_by_hand(tmp_path / "m", config, state, shards, split=split)
    params = PARAMS | {"vocab_size": vocab_size}
    (tmp_path / "m" / "params.json").write_text(json.dumps(params))
    checkpoint = open_checkpoint(tmp_path / "m")
    assert checkpoint.config.vocab == 520 and not checkpoint.config.tied
    assert checkpoint.config.mlp_width == config.mlp_width
    assert_same_state(dict(checkpoint.weights()), state)


@pytest.mark.parametrize("shards", [1, 2, 4, 12])
def test_the_writer_cuts_into_any_number_that_divides_the_model(
    shards: int, tmp_path: Path
) -> None:
    """Twelve shards are more than four key heads: each is then held three times."""
    config = replace(GENERATIONS["3"], mlp_width=96, vocab=24 * 22)
    state = random_state(config)
    save_meta(state, config, tmp_path / "m", shards=shards)
    files = sorted((tmp_path / "m").glob("consolidated.*.pth"))
    assert len(files) == shards
    first = torch.load(files[0], weights_only=True)
    rows = {1: 32, 2: 16, 4: 8, 12: 8}[shards]
    assert first["layers.0.attention.wk.weight"].shape == (rows, 96)
    assert first["layers.0.attention.wo.weight"].shape == (96, 96 // shards)
    checkpoint = open_checkpoint(tmp_path / "m")
    assert checkpoint.config == config
    assert_same_state(dict(checkpoint.weights()), state)


def test_repeated_key_heads_that_differ_are_refused(tmp_path: Path) -> None:
    config = replace(GENERATIONS["3"], mlp_width=96, vocab=24 * 22)
    save_meta(random_state(config), config, tmp_path / "m", shards=12)
    path = tmp_path / "m" / "consolidated.01.pth"
    part = torch.load(path, weights_only=True)
    part["layers.1.attention.wv.weight"][0, 0] += 1.0
    torch.save(part, path)
    with pytest.raises(FormatError, match="they are no copies of each other"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("shards", [5, 8, 0])
def test_a_number_of_shards_that_does_not_divide_is_refused(shards: int, tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    with pytest.raises(ConfigError, match=f"into {shards} shards"):
        save_meta(random_state(config), config, tmp_path / "m", shards=shards)
    assert not (tmp_path / "m").exists()


def test_a_shard_that_is_missing_or_of_another_model_is_refused(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    folder = tmp_path / "m"
    save_meta(random_state(config), config, folder, shards=4)
    part = torch.load(folder / "consolidated.02.pth", weights_only=True)
    torch.save(part | {"norm.weight": part["norm.weight"] + 1}, folder / "consolidated.02.pth")
    with pytest.raises(FormatError, match=r"copies of 'norm\.weight' differ"):
        load_model(folder)
    torch.save(part | {"norm.weight": torch.ones(95)}, folder / "consolidated.02.pth")
    with pytest.raises(FormatError, match=r"the parts of 'norm\.weight' have shapes"):
        open_checkpoint(folder)
    del part["norm.weight"]
    torch.save(part, folder / "consolidated.02.pth")
    with pytest.raises(FormatError, match=r"'norm\.weight' is not in both"):
        open_checkpoint(folder)
    (folder / "consolidated.02.pth").unlink()
    with pytest.raises(NotFoundError, match=r"consolidated\.02 is missing"):
        open_checkpoint(folder)


def test_safetensors_shards_are_read_too(tmp_path: Path) -> None:
    config = GENERATIONS["3"]
    state = random_state(config)
    save_meta(state, config, tmp_path / "m", shards=2)
    for path in sorted((tmp_path / "m").glob("*.pth")):
        save_file(torch.load(path, weights_only=True), path.with_suffix(".safetensors"))
        path.unlink()
    assert_same_state(dict(open_checkpoint(tmp_path / "m").weights()), state)


def test_a_tied_model_is_written_with_a_head_and_read_as_tied(tmp_path: Path) -> None:
    config = replace(GENERATIONS["3.2"], rope_scaling=None)
    save_meta(random_state(config), config, tmp_path / "m", shards=2)
    part = torch.load(tmp_path / "m" / "consolidated.01.pth", weights_only=True)
    assert torch.equal(part["output.weight"], part["tok_embeddings.weight"])
    assert load_model(tmp_path / "m").head is None


class Malice:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, Sequence[Any]]:
        return Path.write_text, (self.path, "it ran")


@pytest.mark.parametrize("archive", ["zip", "bare"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    archive: str, tmp_path: Path
) -> None:
    folder, trace = tmp_path / "m", tmp_path / "trace"
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(PARAMS))
    path = folder / "consolidated.00.pth"
    if archive == "zip":
        torch.save({"norm.weight": torch.ones(96), "more": Malice(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"norm.weight": Malice(trace)}))
    with pytest.raises(FormatError, match=r"consolidated\.00\.pth"):
        open_checkpoint(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(3)],
        {1: torch.ones(3)},
        {"a": 3},
        {"a": torch.ones(3, dtype=torch.int8)},
        {"a": torch.eye(3).to_sparse()},
        {"a": torch.ones(3, dtype=torch.float8_e4m3fn)},
    ],
)
def test_an_archive_of_anything_but_plain_float_tensors_is_refused(
    content: Any, tmp_path: Path
) -> None:
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    torch.save(content, tmp_path / "consolidated.00.pth")
    with pytest.raises(FormatError, match=r"consolidated\.00\.pth"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", FAMILY)
def test_every_member_survives_params_json(name: str) -> None:
    config = FAMILY[name].config
    params = config_to_meta(config, where="params.json")
    again = config_from_meta(
        params, where="params.json", vocab=config.vocab, tied=config.tied, context=None
    )
    assert again == config


@pytest.mark.parametrize(
    ("name", "multiplier", "multiple_of"),
    [
        ("llama-1-7b", None, 256),
        ("llama-3.1-8b", 1.3, 1024),
        ("llama-3.1-70b", 1.3, 4096),
        ("llama-3.1-405b", 1.2, 4096),
        ("llama-3.2-1b", 1.5, 256),
    ],
)
def test_the_mlp_rule_of_a_release_is_written(
    name: str, multiplier: float | None, multiple_of: int
) -> None:
    params = config_to_meta(FAMILY[name].config, where="params.json")
    assert params.get("ffn_dim_multiplier") == multiplier
    assert params["multiple_of"] == multiple_of


@pytest.mark.parametrize("mlp_width", range(40, 140, 7))
def test_any_mlp_width_has_a_rule(mlp_width: int) -> None:
    config = replace(GENERATIONS["3"], mlp_width=mlp_width)
    params = config_to_meta(config, where="params.json")
    again = config_from_meta(params, where="params.json", vocab=520, tied=False, context=128)
    assert again.mlp_width == mlp_width


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantization_args": {"scheme": "int4_weight_int8_dynamic_activation"}}, "quantization"),
        ({"vision_chunk_size": 560}, "unknown key 'vision_chunk_size'"),
        ({"n_head": 12}, "Did you mean 'n_heads'"),
        ({"vocab_size": 521}, "the embedding has 520 rows"),
        ({"use_scaled_rope": 1}, "use_scaled_rope=1"),
        ({"n_heads": 0}, "n_heads=0"),
    ],
)
def test_parameters_that_are_not_understood_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_meta(PARAMS | change, where="params.json", vocab=520, tied=False, context=None)


def test_the_context_follows_from_the_generation_or_stands_beside_the_weights(
    tmp_path: Path,
) -> None:
    config = GENERATIONS["3"]
    save_meta(random_state(config), config, tmp_path / "m")
    assert open_checkpoint(tmp_path / "m").config.context == config.context == 128
    (tmp_path / "m" / "puna.json").unlink()
    assert open_checkpoint(tmp_path / "m").config.context == 4096
