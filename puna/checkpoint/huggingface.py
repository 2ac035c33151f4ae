"""Hugging Face folders: `config.json`, safetensors in one file or in shards, tokenizer, template.

This is also the form in which puna keeps its own models (`model/` of a run folder). Opening needs
no torch: a folder that the native decoder reads from where it lies runs without it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from puna.checkpoint.facts import Facts, read_object
from puna.checkpoint.huggingface_config import (
    config_from_huggingface,
    config_to_huggingface,
    eos_value,
)
from puna.checkpoint.names import EMBED, HEAD, Place
from puna.checkpoint.names import places as places_of
from puna.checkpoint.panels import join_panels, panel_parts
from puna.checkpoint.quantization import Layout, read_quantization
from puna.checkpoint.safetensors_file import FLOATS, LOW_BITS, NO_WEIGHTS, read_shard
from puna.checkpoint.stored import Checkpoint, Low, StoredTensor, adopt
from puna.checkpoint.tokenizer_files import find_tokenizer, tokenizer_source
from puna.errors import ConfigError, FormatError, NotFoundError
from puna.files import atomic_folder, write_json, write_text
from puna.model.config import ModelConfig
from puna.tokenizer.interface import Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

_HEAD = HEAD.huggingface.removesuffix("weight")


def open_huggingface(folder: Path) -> Checkpoint:
    """Open a folder of `config.json` and safetensors; only headers are read.

    Raises:
        NotFoundError: a file of the folder is missing.
        FormatError: a file is corrupt, or a tensor does not fit the configuration.
        ConfigError: the configuration asks for something puna does not compute.
    """
    table, where = read_object(folder / CONFIG), str(folder / CONFIG)
    rules = table.pop("quantization_config", None)
    dtypes = FLOATS if rules is None else FLOATS | LOW_BITS
    listed = _stored_tensors(folder, dtypes)
    found = {name: part for name, part in listed.items() if not NO_WEIGHTS.fullmatch(name)}
    has_head = any(name.startswith(_HEAD) for name in found)
    config = config_from_huggingface(table, where=where, has_head=has_head)
    if rules is not None:
        quantization = read_quantization(rules, where=f"{where} quantization_config")
        for place in places_of(config, "huggingface"):
            if quantization.in_panels:
                join_panels(found, place, where=str(folder))
            else:
                from puna.checkpoint.compressed import join

                join(found, place, quantization, where=str(folder))
    if config.tied and HEAD.huggingface in found:
        head = found.pop(HEAD.huggingface)
        if (embed := found.get(EMBED.huggingface)) is not None:
            read = partial(_read_tied, embed, head, str(folder))
            found[EMBED.huggingface] = replace(embed, read=read, array=None)
    tensors = adopt(found, config, "huggingface", where=str(folder), interleaved=False)
    template, template_file = _chat_template(folder)
    stop_ids, stop_file = _stop_ids(folder, table)
    sources = {"config": CONFIG, "weights": INDEX if (folder / INDEX).exists() else WEIGHTS}
    sources |= tokenizer_source(folder)
    if template is not None:
        sources["chat_template"] = template_file
    if stop_ids:
        sources["stop_ids"] = stop_file
    return Checkpoint(
        kind="huggingface",
        path=folder,
        config=config,
        tensors=tensors,
        find_tokenizer=partial(find_tokenizer, folder),
        chat_template=template,
        stop_ids=stop_ids,
        sources=sources,
    )


def save_huggingface(
    model_or_state: "nn.Module | Mapping[str, Tensor]",
    config: ModelConfig,
    folder: Path,
    *,
    tokenizer: Tokenizer | None = None,
    dtype: "torch.dtype | None" = None,
    shard_bytes: int = 5_000_000_000,
    chat_template: str | None = None,
    stop_ids: Sequence[int] = (),
    lows: Mapping[str, Low] | None = None,
    layout: Layout | None = None,
) -> None:
    """Write a folder that transformers, vLLM and llama.cpp's converter load unchanged.

    The folder appears whole or not at all; one that stands there is replaced at the end.

    Args:
        dtype: what the weights are stored as; None keeps each tensor's own.
        shard_bytes: a new file begins where one would grow beyond this.
        stop_ids: ids that end an answer; without them the tokenizer's own.
        lows: matrices that are stored in few bits, by the names of their modules. A head among them
            is the head of its own that a tied model then has; in panels, its embedding too.
        layout: of what is in few bits; None takes the one of other programs that says all there is
            to say, "panels" is puna's own and runs from where it lies.
    """
    from torch import nn

    from puna.checkpoint.compressed import packed_parts
    from puna.checkpoint.quantization_rules import write_quantization
    from puna.checkpoint.weights import refuse_extra_weights

    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    lows = dict(lows or {})
    if "head" in lows and config.tied and layout == "panels":
        lows["embed"] = lows.pop("head")
    elif "head" in lows:
        config = replace(config, tied=False)
    refuse_extra_weights(state, config)
    with atomic_folder(folder) as target:
        spell = panel_parts if layout == "panels" else packed_parts
        stored_as = _write_weights(state, config, target, dtype, shard_bytes, lows, spell)
        stops = tuple(stop_ids) or _tokenizer_stops(tokenizer)
        bos = None if tokenizer is None else tokenizer.bos_id
        pad = None if tokenizer is None else tokenizer.pad_id
        table = config_to_huggingface(config, dtype=stored_as, bos=bos, eos=stops, pad=pad)
        if lows:
            table["quantization_config"] = write_quantization(lows, config.layers, layout)
        write_json(target / CONFIG, table)
        generation = {"bos_token_id": bos, "eos_token_id": eos_value(stops), "pad_token_id": pad}
        given = {key: value for key, value in generation.items() if value is not None}
        write_json(target / "generation_config.json", given)
        if tokenizer is not None:
            from puna.tokenizer.save import save_tokenizer

            # No other program reads panels: a rank file is ready in half of a JSON file's time.
            own = layout == "panels"
            save_tokenizer(tokenizer, target, layout="plain" if own else "huggingface")
        if chat_template is not None:
            write_text(target / "chat_template.jinja", chat_template)


def _read_tied(
    embed: StoredTensor, head: StoredTensor, where: str, dtype: "torch.dtype | None"
) -> "Tensor":
    """Return the embedding of a tied model whose file also holds the head; both must agree."""
    import torch

    weight = embed.read(dtype)
    if head.shape != embed.shape or not torch.equal(weight, head.read(dtype)):
        raise FormatError(
            f"{where}: tie_word_embeddings is true, but lm_head.weight differs from the embedding; "
            "they must be equal. Set tie_word_embeddings to false to keep the head."
        )
    return weight


def _stored_tensors(folder: Path, dtypes: Mapping[str, int]) -> dict[str, StoredTensor]:
    """List all tensors, from the index where there is one."""
    if not (folder / INDEX).exists():
        if not (folder / WEIGHTS).exists():
            raise NotFoundError(
                f"{folder}: neither {WEIGHTS} nor {INDEX} is there; safetensors are expected "
                "(pickled pytorch_model.bin files are not read). Download the safetensors."
            )
        return read_shard(folder / WEIGHTS, dtypes)
    weight_map = read_object(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{folder / INDEX}: it has no weight_map. Download it again.")
    files = sorted({_file_name(name, folder) for name in weight_map.values()})
    shards = {file: read_shard(folder / file, dtypes) for file in files}
    inside = {(name, file) for file, shard in shards.items() for name in shard}
    listed = set(weight_map.items())
    for name, file in sorted(listed ^ inside):
        problem = "lists" if (name, file) in listed else "does not list"
        raise FormatError(
            f"{folder / INDEX}: it {problem} the tensor '{name}' in {file}, against what the file "
            "holds; index and shards must agree. Download the folder again."
        )
    return {name: shards[file][name] for name, file in weight_map.items()}


def _file_name(value: Any, folder: Path) -> str:
    """Accept plain file names only: an index may not point outside its folder."""
    if not isinstance(value, str) or value != Path(value).name or not value:
        raise FormatError(f"{folder / INDEX}: {value!r} is no file name of this folder.")
    return value


def _chat_template(folder: Path) -> tuple[str | None, str]:
    """Find the chat template: its own file first, then `tokenizer_config.json`."""
    own = folder / "chat_template.jinja"
    if own.exists():
        try:
            return own.read_text(encoding="utf-8"), own.name
        except UnicodeDecodeError as error:
            raise FormatError(f"{own}: this is not UTF-8 text ({error}).") from error
    path = folder / "tokenizer_config.json"
    template = read_object(path).get("chat_template") if path.exists() else None
    if isinstance(template, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise ConfigError(f"{path}: chat_template is {template!r}; text is expected.")
    return template, path.name


def _stop_ids(folder: Path, config: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    """Join the end ids of `generation_config.json` (the full list) and `config.json`."""
    path = folder / "generation_config.json"
    found: dict[int, None] = {}
    files = []
    for file, table in ((path.name, read_object(path) if path.exists() else {}), (CONFIG, config)):
        value = Facts(table, where=str(folder / file)).value("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for stop in ids:
            if type(stop) is not int or stop < 0:
                raise ConfigError(f"{folder / file}: eos_token_id={value!r}; ids are expected.")
        files += [file] if ids else []
        found |= dict.fromkeys(ids)
    return tuple(found), " and ".join(files)


def _tokenizer_stops(tokenizer: Tokenizer | None) -> tuple[int, ...]:
    return () if tokenizer is None else tuple(sorted(tokenizer.stop_ids))


def _write_weights(
    state: "Mapping[str, Tensor]",
    config: ModelConfig,
    folder: Path,
    dtype: "torch.dtype | None",
    shard_bytes: int,
    lows: Mapping[str, Low],
    spell: "Callable[[Low], dict[str, Tensor]]",
) -> str:
    """Write the tensors in shards, each as soon as it is full, and return their dtype's name."""
    from safetensors.torch import save_file

    from puna.checkpoint.weights import dtype_of

    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    pending_bytes = total = 0

    def flush() -> None:
        shards.append(list(pending))
        try:
            save_file(pending, folder / f"part-{len(shards)}", metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder}: the weights cannot be written ({error}).") from error
        pending.clear()

    for place in places_of(config, "huggingface"):
        parts = _parts(state, place, dtype, lows, spell)
        size = sum(part.nbytes for part in parts.values())
        if pending and pending_bytes + size > shard_bytes:
            flush()
            pending_bytes = 0
        pending |= parts
        pending_bytes += size
        total += size
    flush()
    files = _shard_names(len(shards))
    for number, file in enumerate(files, start=1):
        (folder / f"part-{number}").rename(folder / file)
    if len(shards) > 1:
        weight_map = {
            name: file for file, names in zip(files, shards, strict=True) for name in names
        }
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")
    return str(dtype or dtype_of(state)).removeprefix("torch.")


def _parts(
    state: "Mapping[str, Tensor]",
    place: Place,
    dtype: "torch.dtype | None",
    lows: Mapping[str, Low],
    spell: "Callable[[Low], dict[str, Tensor]]",
) -> "dict[str, Tensor]":
    """Return the tensors that one matrix or vector is stored as."""
    from puna.checkpoint.weights import checked_weight

    low = lows.get(place.puna.removesuffix(".weight"))
    if low is None:
        return {place.name: checked_weight(state, place, dtype)}
    base = place.name.removesuffix("weight")
    return {f"{base}{end}": part for end, part in spell(low).items()}


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
