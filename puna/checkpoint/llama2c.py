"""llama2.c's `.bin`: seven integers, then every weight as float32, tensors of a kind together.

The header says the shape and nothing else: theta is 10,000, epsilon 1e-5, and a negative vocabulary
means that the head is not tied. The tokenizer is a file of its own, which puna writes beside it.
Source: karpathy/llama2.c, export.py, version 0 ("legacy").
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from puna.checkpoint.layout import to_interleaved
from puna.checkpoint.mapped import map_tensor
from puna.checkpoint.names import HEAD, Place, places, rope_heads
from puna.checkpoint.stored import Checkpoint, StoredTensor, adopt
from puna.checkpoint.weights import checked_weight, refuse_extra_weights
from puna.errors import ConfigError, FormatError, NotFoundError
from puna.files import atomic_file
from puna.model.config import ModelConfig
from puna.ops.rope import inverse_frequencies
from puna.tokenizer.llama2c import read_llama2c

_HEADER = struct.Struct("<7i")
_THETA, _EPS = 10_000.0, 1e-5
_LATER_MAGIC = 0x616B3432  # "ak42": versions 1 and 2 of the format

# After the embedding, tensors lie by kind and not by layer.
_ORDER = (
    "embed.weight",
    "blocks.{i}.attn_norm.weight",
    "blocks.{i}.attn.wq.weight",
    "blocks.{i}.attn.wk.weight",
    "blocks.{i}.attn.wv.weight",
    "blocks.{i}.attn.wo.weight",
    "blocks.{i}.mlp_norm.weight",
    "blocks.{i}.mlp.gate.weight",
    "blocks.{i}.mlp.down.weight",
    "blocks.{i}.mlp.up.weight",
    "norm.weight",
)


def open_llama2c(path: Path) -> Checkpoint:
    """Open a llama2.c model; its size must be exactly what the header implies.

    Raises:
        FormatError: the header is no llama2.c header, or the file is truncated.
    """
    config = _read_config(path)
    size, expected = path.stat().st_size, _file_bytes(config)
    if size != expected:
        raise FormatError(
            f"{path}: it holds {size:,} bytes; a llama2.c model of this header has {expected:,}. "
            "It is truncated or no llama2.c model: download it again."
        )
    beside = vocabulary_of(path)
    found, offset = {}, _HEADER.size
    for place in _in_order(config):
        if place.row is HEAD:  # two tables of cosines and sines, computed here, lie before it
            offset += _rope_bytes(config)
        found[place.puna] = _stored(path, offset, place.shape)
        offset += found[place.puna].stored_bytes
    return Checkpoint(
        kind="llama2c",
        path=path,
        config=config,
        tensors=adopt(found, config, "puna", where=str(path), interleaved=True),
        find_tokenizer=lambda: read_llama2c(beside) if beside.is_file() else None,
        sources={
            "config": "header (theta and epsilon are the format's)",
            "weights": path.name,
            **({"tokenizer": beside.name} if beside.is_file() else {}),
        },
    )


def vocabulary_of(path: Path) -> Path:
    """Return where the vocabulary of a model lies that puna wrote: beside it, under its name."""
    return path.with_name(f"{path.stem}.tokenizer.bin")


def save_llama2c(
    model_or_state: nn.Module | Mapping[str, Tensor], config: ModelConfig, path: Path
) -> None:
    """Write the `.bin` that llama2.c's run.c reads, whole or not at all.

    Raises:
        ConfigError: the format has no words for this head width, RoPE or epsilon.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    refuse_extra_weights(state, config)
    _refuse_unsayable(config, path)
    header = _HEADER.pack(
        config.width,
        config.mlp_width,
        config.layers,
        config.heads,
        config.kv_heads,
        config.vocab if config.tied else -config.vocab,
        config.context,
    )
    with atomic_file(path) as target, target.open("wb") as file:
        file.write(header)
        for place in _in_order(config):
            if place.row is HEAD:
                _write_rope(config, file.write)
            weight = checked_weight(state, place, torch.float32)
            if heads := rope_heads(place.row, config):
                weight = to_interleaved(weight, heads, where=place.puna)
            file.write(weight.contiguous().numpy().data)
        if config.tied:
            _write_rope(config, file.write)


def _read_config(path: Path) -> ModelConfig:
    try:
        with path.open("rb") as file:
            raw = file.read(_HEADER.size)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file.") from error
    if len(raw) < _HEADER.size:
        raise FormatError(f"{path}: {len(raw)} bytes are no llama2.c model. Download it again.")
    width, mlp_width, layers, heads, kv_heads, vocab, context = _HEADER.unpack(raw)
    if width == _LATER_MAGIC:
        raise FormatError(
            f"{path}: this is version 1 or 2 of llama2.c's format; version 0 is read. Export it "
            "with --version 0."
        )
    try:
        return ModelConfig(
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            mlp_width=mlp_width,
            vocab=abs(vocab),
            context=context,
            rope_theta=_THETA,
            norm_eps=_EPS,
            tied=vocab > 0,
        )
    except ConfigError as error:
        raise FormatError(f"{path}: the header is no llama2.c header ({error})") from error


def _file_bytes(config: ModelConfig) -> int:
    return _HEADER.size + 4 * config.parameters + _rope_bytes(config)


def _rope_bytes(config: ModelConfig) -> int:
    return 2 * 4 * config.context * (config.head_width // 2)


def _in_order(config: ModelConfig) -> list[Place]:
    """Return the tensors as they lie in the file, without the tables before the head."""
    found: dict[str, list[Place]] = {}
    for place in places(config):
        found.setdefault(place.row.puna, []).append(place)
    kinds = (*_ORDER, HEAD.puna) if not config.tied else _ORDER
    return [place for kind in kinds for place in found[kind]]


def _stored(path: Path, offset: int, shape: tuple[int, ...]) -> StoredTensor:
    count = 4
    for size in shape:
        count *= size

    def read(dtype: torch.dtype | None) -> Tensor:
        plain = map_tensor(path, offset, shape, torch.float32)
        return plain if dtype is None else plain.to(dtype)

    return StoredTensor(shape=shape, dtype="F32", stored_bytes=count, read=read)


def _write_rope(config: ModelConfig, write: Callable[[bytes], object]) -> None:
    """Write the tables that run.c skips and old readers expect."""
    positions = torch.arange(config.context, dtype=torch.float32)
    angles = positions[:, None] * inverse_frequencies(config.head_width, _THETA)
    write(angles.cos().numpy().tobytes())
    write(angles.sin().numpy().tobytes())


def _refuse_unsayable(config: ModelConfig, path: Path) -> None:
    facts = {
        "rope_theta": (config.rope_theta, _THETA),
        "rope_scaling": (config.rope_scaling, None),
        "norm_eps": (config.norm_eps, _EPS),
        "heads * head_width": (config.heads * config.head_width, config.width),
    }
    for name, (given, expected) in facts.items():
        if given != expected:
            raise ConfigError(
                f"{path}: {name} is {given}; llama2.c's format means {expected}. Write another "
                "format."
            )
