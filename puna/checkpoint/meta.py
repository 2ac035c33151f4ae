"""Meta folders: `params.json`, `consolidated.NN.pth` or `.safetensors`, `tokenizer.model`.

A model of M files was cut for M devices: column-parallel matrices by rows, row-parallel ones by
columns, norms kept whole in each. Reading joins any number of files; writing cuts into any number
that divides the model. Source: Meta's llama-models, checkpoint resharding; transformers'
conversion script for the embedding's split in Llama 1 and 2.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from puna.checkpoint.facts import Facts, read_object
from puna.checkpoint.layout import to_interleaved
from puna.checkpoint.meta_fp8 import cut, read_scales, scale_key, scales_file, with_scales
from puna.checkpoint.meta_params import config_from_meta, config_to_meta
from puna.checkpoint.meta_shards import Shard, open_shard
from puna.checkpoint.names import EMBED, HEAD, TABLE, Place, places, rope_heads
from puna.checkpoint.stored import Checkpoint, Low, StoredTensor, adopt
from puna.checkpoint.tokenizer_files import find_tokenizer, tokenizer_source
from puna.checkpoint.weights import checked_weight, refuse_extra_weights
from puna.errors import ConfigError, FormatError, NotFoundError
from puna.files import atomic_folder, write_json
from puna.model.config import ModelConfig
from puna.quant.fp8 import Fp8Weight
from puna.tokenizer.interface import Tokenizer

PARAMS, BESIDE = "params.json", "puna.json"

_FILE = re.compile(r"consolidated\.(\d+)\.(pth|safetensors)")
_LAYER = re.compile(r"layers\.\d+\.")
_SPLITS = {row.meta: row.split for row in TABLE}
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I8": 1, "U8": 1}


def open_meta(folder: Path) -> Checkpoint:
    """Open a Meta folder and join its shards; only headers are read.

    Raises:
        NotFoundError: a shard or `params.json` is missing.
        FormatError: a file is corrupt, or a tensor does not fit the parameters.
        ConfigError: the parameters ask for something puna does not compute.
    """
    params = read_object(folder / PARAMS)
    files = shard_files(folder)
    scales = read_scales(folder, len(files))
    shards = [open_shard(path, is_fp8=bool(scales)) for path in files]
    beside = _beside(folder)
    _same_names(shards, folder)
    width = Facts(params, where=str(folder / PARAMS)).integer("dim")
    joined = {
        name: _join(name, shards, width, folder)
        for name in shards[0].shapes
        if name != "rope.freqs"  # a table of Llama 1 and 2, computed here
    }
    if EMBED.meta not in joined:
        raise FormatError(f"{folder}: the tensor '{EMBED.meta}' is missing. Download it again.")
    tied = _is_tied(joined, shards[0])
    if tied:
        joined.pop(HEAD.meta, None)
    config = config_from_meta(
        params,
        where=str(folder / PARAMS),
        vocab=joined[EMBED.meta].shape[0],
        tied=tied,
        context=beside["context"],
    )
    joined = {name: _single_kv_heads(name, stored, config) for name, stored in joined.items()}
    joined = {n: with_scales(n, stored, scales, folder) for n, stored in joined.items()}
    sources = {
        "config": PARAMS,
        "context": BESIDE if beside["context"] else "the generation (params.json does not say)",
        "weights": f"{len(shards)} x consolidated",
    }
    sources |= tokenizer_source(folder)
    if beside["chat_template"] is not None:
        sources["chat_template"] = BESIDE
    if beside["stop_ids"]:
        sources["stop_ids"] = BESIDE
    return Checkpoint(
        kind="meta",
        path=folder,
        config=config,
        tensors=adopt(joined, config, "meta", where=str(folder), interleaved=True),
        find_tokenizer=partial(find_tokenizer, folder),
        chat_template=beside["chat_template"],
        stop_ids=beside["stop_ids"],
        sources=sources,
    )


def shard_files(folder: Path) -> list[Path]:
    """Return the shards in order; safetensors are preferred where both forms lie there."""
    found: dict[str, dict[int, Path]] = {"safetensors": {}, "pth": {}}
    for path in folder.iterdir():
        if match := _FILE.fullmatch(path.name):
            found[match[2]][int(match[1])] = path
    files = found["safetensors"] or found["pth"]
    missing = [number for number in range(max(files, default=-1) + 1) if number not in files]
    if missing or not files:
        number = missing[0] if missing else 0
        raise NotFoundError(
            f"{folder}: consolidated.{number:02d} is missing; shards are numbered from 00 without "
            "a gap. Download it again."
        )
    return [files[number] for number in sorted(files)]


def save_meta(
    model_or_state: nn.Module | Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    shards: int = 1,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype | None = None,
    chat_template: str | None = None,
    stop_ids: Sequence[int] = (),
    lows: Mapping[str, Low] | None = None,
) -> None:
    """Write a folder as Meta publishes it: plain tensors by `torch.save`, cut for `shards` devices.

    Args:
        lows: feed-forward matrices in fp8, by the names of their modules.
    Raises:
        ConfigError: the model does not divide into that many shards, or the format cannot say its
            head width or RoPE scaling.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    refuse_extra_weights(state, config)
    params = config_to_meta(config, where=str(folder))
    split = _embedding_split(tokenizer, config)
    _check_division(config, shards, split, folder)
    with atomic_folder(folder) as target:
        for rank in range(shards):
            _write_shard(
                state,
                config,
                target,
                rank=rank,
                shards=shards,
                split=split,
                dtype=dtype,
                lows=_only_fp8(lows or {}, folder),
            )
        write_json(target / PARAMS, params)
        beside = {
            "context": config.context,
            "chat_template": chat_template,
            "stop_ids": list(stop_ids),
        }
        write_json(target / BESIDE, beside)
        if tokenizer is not None:
            from puna.tokenizer.save import save_tokenizer

            save_tokenizer(tokenizer, target)


def _beside(folder: Path) -> dict[str, Any]:
    """Read what puna wrote beside `params.json`; a folder by others has no such file."""
    path = folder / BESIDE
    facts = Facts(read_object(path) if path.exists() else {}, where=str(path))
    context = None if facts.value("context") is None else facts.integer("context")
    template, stops = facts.value("chat_template"), facts.value("stop_ids") or []
    if not isinstance(template, str | None):
        raise ConfigError(f"{path}: chat_template={template!r}; text is expected.")
    if not isinstance(stops, list) or any(type(stop) is not int for stop in stops):
        raise ConfigError(f"{path}: stop_ids={stops!r}; a list of ids is expected.")
    facts.refuse_rest()
    return {"context": context, "chat_template": template, "stop_ids": tuple(stops)}


def _same_names(shards: Sequence[Shard], folder: Path) -> None:
    for number, shard in enumerate(shards):
        for name in shards[0].shapes.keys() ^ shard.shapes.keys():
            raise FormatError(
                f"{folder}: the tensor '{name}' is not in both shard 00 and shard {number:02d}; "
                "every shard holds a part of each tensor. Download them again."
            )


def _join(name: str, shards: Sequence[Shard], width: int, folder: Path) -> StoredTensor:
    """Describe one tensor put together from its parts in all shards."""
    shapes = [shard.shapes[name] for shard in shards]
    split = _SPLITS.get(_LAYER.sub("layers.{i}.", name))
    if name == EMBED.meta and len(shapes[0]) == 2:
        # Llama 3 cuts the vocabulary; Llama 1 and 2 cut the columns, which are then too few.
        split = 0 if shapes[0][1] == width else 1
    shape = list(shapes[0])
    alike = all(other == shapes[0] for other in shapes)
    if not alike or (split is not None and split >= len(shape)):
        raise FormatError(
            f"{folder}: the parts of '{name}' have shapes {[list(s) for s in shapes]}; equal parts "
            "of a matrix are expected. The shards do not belong together."
        )
    if split is not None:
        shape[split] *= len(shards)
    dtype = shards[0].dtypes[name]
    count = _ITEM_BYTES[dtype]
    for size in shape:
        count *= size
    return StoredTensor(
        shape=tuple(shape),
        dtype=dtype,
        stored_bytes=count,
        read=partial(_read_joined, name, shards, split, folder),
    )


def _read_joined(
    name: str,
    shards: Sequence[Shard],
    split: int | None,
    folder: Path,
    dtype: torch.dtype | None,
) -> Tensor:
    parts = [shard.read(name) for shard in shards]
    dtype = dtype or parts[0].dtype
    if len(parts) == 1:
        return parts[0].to(dtype)
    if split is None:
        if any(not torch.equal(part, parts[0]) for part in parts):
            raise FormatError(
                f"{folder}: the copies of '{name}' differ between shards; they must be equal. The "
                "shards do not belong together."
            )
        return parts[0].to(dtype, copy=True)  # a small view would keep a whole file mapped
    shape = list(parts[0].shape)
    shape[split] *= len(parts)
    joined = torch.empty(shape, dtype=dtype)
    for place, part in zip(joined.chunk(len(parts), split), parts, strict=True):
        place.copy_(part)  # converted on the way
    return joined


def _is_tied(joined: Mapping[str, StoredTensor], first: Shard) -> bool:
    """Say whether the head is the embedding: absent, or equal to it (as in Llama 3.2 1B and 3B)."""
    embed, head = joined[EMBED.meta], joined.get(HEAD.meta)
    if head is None:
        return True
    if embed.shape != head.shape:
        return False
    # The corners of both, whatever the split, tell most pairs apart without reading gigabytes.
    shapes = first.shapes[EMBED.meta], first.shapes[HEAD.meta]
    rows, columns = (min(*sizes, 64) for sizes in zip(*shapes, strict=True))
    corners = [first.read(name)[:rows, :columns] for name in (EMBED.meta, HEAD.meta)]
    return torch.equal(*corners) and torch.equal(embed.read(None), head.read(None))


def _single_kv_heads(name: str, stored: StoredTensor, config: ModelConfig) -> StoredTensor:
    """Undo the repetition of key and value heads in models cut for more devices than heads.

    The 405B of 16 files holds each of its 8 heads twice, on neighbouring ranks.
    """
    if not name.endswith(("attention.wk.weight", "attention.wv.weight")) or len(stored.shape) != 2:
        return stored
    rows = config.kv_heads * config.head_width
    repeats = stored.shape[0] // rows
    if repeats < 2 or stored.shape[0] % rows:
        return stored

    def read(dtype: torch.dtype | None) -> Tensor:
        heads = stored.read(dtype).view(config.kv_heads, repeats, config.head_width, -1)
        if any(not torch.equal(heads[:, 0], heads[:, copy]) for copy in range(1, repeats)):
            raise FormatError(
                f"'{name}' holds {repeats * config.kv_heads} heads for the {config.kv_heads} of "
                f"{PARAMS}, and they are no copies of each other. The two do not belong together."
            )
        return heads[:, 0].reshape(rows, -1)

    return StoredTensor(
        shape=(rows, stored.shape[1]),
        dtype=stored.dtype,
        stored_bytes=stored.stored_bytes,
        read=read,
    )


def _embedding_split(tokenizer: Tokenizer | None, config: ModelConfig) -> int:
    """Cut the embedding as the code that will read it does: columns for Llama 1 and 2."""
    return 1 if config.vocab == 32_000 else 0


def _check_division(config: ModelConfig, shards: int, split: int, folder: Path) -> None:
    embedded = config.width if split else config.vocab
    sizes = {
        "heads": config.heads,
        "mlp_width": config.mlp_width,
        "width" if split else "vocab": embedded,
        "vocab": config.vocab,
    }
    for name, size in sizes.items():
        if shards < 1 or size % shards:
            raise ConfigError(
                f"{folder}: {name}={size} does not divide into {shards} shards; every shard holds "
                "an equal part. Choose another number of shards."
            )
    if config.kv_heads % shards and shards % config.kv_heads:
        raise ConfigError(
            f"{folder}: kv_heads={config.kv_heads} and {shards} shards; one must divide the other. "
            "Choose another number of shards."
        )


def _write_shard(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    folder: Path,
    *,
    rank: int,
    shards: int,
    split: int,
    dtype: torch.dtype | None,
    lows: Mapping[str, Fp8Weight],
) -> None:
    """Cut this rank's part of every tensor and write them as one archive."""
    parts, scales = {}, {}
    for place in places(config, "meta"):
        key = scale_key(place.name, rank)
        low = lows.get(place.puna.removesuffix(".weight"))
        if key is not None and low is not None:
            parts[place.name], scales[key] = cut(low, place.name, rank, shards)
            continue
        weight = _meta_layout(checked_weight(state, place, dtype), place, config, shards)
        dim = split if place.row is EMBED else place.row.split
        part = weight if dim is None or shards == 1 else weight.chunk(shards, dim)[rank]
        parts[place.name] = _alone(part)
    if config.tied:
        parts[HEAD.meta] = _tied_head(state, config, rank, shards, dtype)
    path = folder / f"consolidated.{rank:02d}.pth"
    with path.open("wb") as file:
        torch.save(parts, file)
    if scales:
        with scales_file(folder, rank).open("wb") as file:
            torch.save(scales, file)


def _only_fp8(lows: Mapping[str, Low], folder: Path) -> dict[str, Fp8Weight]:
    """Refuse what Meta's form has no place for: only feed-forward matrices are fp8 there."""
    kept: dict[str, Fp8Weight] = {}
    for name, low in lows.items():
        if not isinstance(low, Fp8Weight) or ".mlp." not in name or low.input_scale is not None:
            raise ConfigError(
                f"{folder}: '{name}' is quantized in a way that Meta's folders cannot say; fp8 "
                "feed-forward matrices with dynamic inputs are expected. Write another format."
            )
        kept[name] = low
    return kept


def _meta_layout(weight: Tensor, place: Place, config: ModelConfig, shards: int) -> Tensor:
    """Interleave RoPE's rows, and repeat key and value heads for more shards than there are."""
    if heads := rope_heads(place.row, config):
        weight = to_interleaved(weight, heads, where=place.puna)
    repeats = shards // config.kv_heads
    if repeats > 1 and place.row.shape[0] == "KE":
        by_head = weight.view(config.kv_heads, config.head_width, -1)
        weight = by_head.repeat_interleave(repeats, dim=0).flatten(0, 1)
    return weight


def _tied_head(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    rank: int,
    shards: int,
    dtype: torch.dtype | None,
) -> Tensor:
    """Meta's code always expects a head; that of a tied model is the embedding."""
    embed = checked_weight(state, next(places(config)), dtype)
    return _alone(embed.chunk(shards, 0)[rank])


def _alone(part: Tensor) -> Tensor:
    """Give a part its own storage: `torch.save` would write all that a view points into."""
    part = part.contiguous()
    return part if part.untyped_storage().nbytes() == part.nbytes else part.clone()
