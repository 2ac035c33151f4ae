"""GGUF files: one file with the weights, the configuration, the tokenizer and the chat template.

Quantized tensors are turned into float32 when they are read, a run of rows at a time, or handed on
as their codes. Query and key rows are interleaved, as llama.cpp expects. Sources: ggml's GGUF
specification; llama.cpp for the names of keys.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from puna.checkpoint import gguf_rope
from puna.checkpoint.facts import Facts
from puna.checkpoint.gguf_blocks import TYPES, encode_q8_0
from puna.checkpoint.gguf_codes import CODED, codes_of, encode_q4_0
from puna.checkpoint.gguf_file import TensorEntry, Typed, read_header, write_file
from puna.checkpoint.gguf_mixed import share_inputs
from puna.checkpoint.gguf_panels import panels_of
from puna.checkpoint.layout import to_interleaved
from puna.checkpoint.mapped import map_bytes, map_tensor
from puna.checkpoint.names import EMBED, HEAD, Place, places, rope_heads
from puna.checkpoint.stored import Checkpoint, StoredTensor, adopt
from puna.checkpoint.weights import checked_weight, dtype_of, refuse_extra_weights
from puna.errors import ConfigError, FormatError, RequestError
from puna.files import atomic_file
from puna.model.config import ModelConfig
from puna.ops.lowbit import Packed
from puna.quant.codes import Codes
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import END_OF_MESSAGE, END_OF_TURN
from puna.tokenizer.vocabulary import from_gguf_vocabulary, to_gguf_vocabulary

_ROWS_BYTES = 1 << 20  # of quantized rows that are decoded at once
_TEMPLATE = "tokenizer.chat_template"
_NO_VOCABULARY = "no_vocab"  # llama.cpp's name of a file without one
_STOPS = ("eos_token_id", "eot_token_id", "eom_token_id")

# Source: llama.cpp's llama_ftype.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
ENCODE = {"Q8_0": encode_q8_0, "Q4_0": encode_q4_0}
WRITTEN = tuple(_FILE_TYPES)

# Keys of the architecture that do not reach the logits.
_HARMLESS = frozenset({"llama.tensor_data_layout", "llama.rope.scaling.original_context_length"})


def open_gguf(path: Path) -> Checkpoint:
    """Open a .gguf file; only its header is read.

    Raises:
        FormatError: the file is corrupt or truncated, or a tensor does not fit its metadata.
        ConfigError: the metadata asks for something puna does not compute.
    """
    header = read_header(path)
    metadata, entries = header.metadata, dict(header.tensors)
    divisors = entries.pop(gguf_rope.NAME, None)
    found = {name: _stored(path, entry) for name, entry in entries.items()}
    rope_freqs = None if divisors is None else _stored(path, divisors).read(None)
    config = _config(metadata, found, rope_freqs, where=str(path))
    stop_ids = _stop_ids(metadata, path)
    template = metadata.get(_TEMPLATE)
    if not isinstance(template, str | None):
        raise ConfigError(f"{path}: {_TEMPLATE}={template!r}; text is expected.")
    sources = {"config": "metadata", "weights": "tensors of the file"}
    if rope_freqs is not None:
        sources["rope_scaling"] = gguf_rope.NAME
    has_tokenizer = metadata.get("tokenizer.ggml.model", _NO_VOCABULARY) != _NO_VOCABULARY
    if has_tokenizer:
        sources["tokenizer"] = "metadata"
    if stop_ids:
        sources["stop_ids"] = "metadata"
    if template is not None:
        sources["chat_template"] = _TEMPLATE
    tensors = adopt(found, config, "gguf", where=str(path), interleaved=True)
    return Checkpoint(
        kind="gguf",
        path=path,
        config=config,
        tensors=share_inputs(tensors, config.layers),
        find_tokenizer=lambda: (
            from_gguf_vocabulary(metadata, where=str(path)) if has_tokenizer else None
        ),
        chat_template=template,
        stop_ids=stop_ids,
        sources=sources,
    )


def save_gguf(
    model_or_state: nn.Module | Mapping[str, Tensor],
    config: ModelConfig,
    path: Path,
    *,
    tokenizer: Tokenizer | None = None,
    kind: str | None = None,
    chat_template: str | None = None,
    stop_ids: Sequence[int] = (),
    name: str = "puna",
) -> None:
    """Write a .gguf file that llama.cpp reads, tensor by tensor, whole or not at all.

    Args:
        kind: F32, F16, BF16, Q8_0 or Q4_0 for the matrices (norms stay F32); None: as the weights
            are. Rows that no block of 32 divides are stored as F16, and the embedding and the head
            of a Q4_0 file as Q8_0.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    refuse_extra_weights(state, config)
    if kind is None:
        kind = {dtype: name for name, dtype in _DTYPES.items()}.get(dtype_of(state), "F32")
    if kind not in WRITTEN:
        raise RequestError(f"save_gguf: kind={kind!r}; {', '.join(WRITTEN)} are written.")
    metadata = _metadata(config, kind, name)
    if tokenizer is not None:
        metadata |= {key: _typed(value) for key, value in to_gguf_vocabulary(tokenizer).items()}
    metadata |= _stop_metadata(stop_ids, tokenizer)
    if chat_template is not None:
        metadata[_TEMPLATE] = _typed(chat_template)
    tensors: list[tuple[str, tuple[int, ...], str, Callable[[], bytes]]] = []
    if config.rope_scaling is not None:
        rope = gguf_rope.divisors(config.head_width, config.rope_theta, config.rope_scaling)
        tensors.append((gguf_rope.NAME, tuple(rope.shape), "F32", rope.numpy().tobytes))
    for place in places(config, "gguf"):
        stored_as = _kind_of(place, kind)
        data = partial(_encoded, state, place, config, stored_as)
        tensors.append((place.name, place.shape, stored_as, data))
    with atomic_file(path) as partial_path, partial_path.open("wb") as file:
        write_file(file, metadata, tensors)


def _stored(path: Path, entry: TensorEntry) -> StoredTensor:
    is_coded = entry.kind in CODED and len(entry.shape) == 2
    return StoredTensor(
        shape=entry.shape,
        dtype=entry.kind,
        stored_bytes=entry.stored_bytes,
        read=partial(read_tensor, path, entry),
        low=partial(read_codes, path, entry) if is_coded else None,
        packed=partial(read_panels, path, entry) if is_coded else None,
    )


def read_codes(path: Path, entry: TensorEntry) -> Codes:
    """Read a quantized matrix as its codes.

    Raises:
        FormatError: a scale is no number.
    """
    raw = map_bytes(path, entry.offset, entry.stored_bytes)
    codes = codes_of(entry.kind, raw.view(-1, TYPES[entry.kind].bytes), entry.shape[0])
    _require_finite(path, entry, codes.scales, codes.zeros)
    return codes


def read_panels(
    path: Path, entry: TensorEntry, turn: Callable[[Tensor], Tensor] | None = None
) -> Packed | None:
    """Read a quantized matrix as the kernels take it; None: they do not know such codes.

    Args:
        turn: reorders the rows.
    Raises:
        FormatError: a scale is no number.
    """
    rows, columns = entry.shape
    width = TYPES[entry.kind].row_bytes(columns)
    turned = None
    if turn is not None:
        turned = turn(map_bytes(path, entry.offset, entry.stored_bytes).view(rows, width))

    def rows_of(start: int, stop: int) -> Tensor:
        if turned is not None:
            return turned[start:stop]
        return map_bytes(path, entry.offset + start * width, (stop - start) * width)

    check = partial(_require_finite, path, entry)
    return panels_of(entry.kind, rows_of, (rows, columns), check)


def _require_finite(path: Path, entry: TensorEntry, *parts: Tensor | None) -> None:
    if not all(part is None or bool(part.isfinite().all()) for part in parts):
        raise FormatError(
            f"{path}: a scale of the tensor '{entry.name}' is no finite number. The file is "
            "damaged: download it again."
        )


def read_tensor(path: Path, entry: TensorEntry, dtype: torch.dtype | None = None) -> Tensor:
    """Map a plain tensor, or decode a quantized one in runs of rows."""
    if entry.kind in _DTYPES:
        plain = map_tensor(path, entry.offset, entry.shape, _DTYPES[entry.kind])
        return plain if dtype is None else plain.to(dtype)
    rows = 1
    for size in entry.shape[:-1]:
        rows *= size
    out = torch.empty(rows, entry.shape[-1], dtype=dtype or torch.float32)
    step = max(1, _ROWS_BYTES // TYPES[entry.kind].row_bytes(entry.shape[-1]))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        out[start:stop] = read_rows(path, entry, start, stop)
    return out.view(entry.shape)


def read_rows(path: Path, entry: TensorEntry, start: int, stop: int) -> Tensor:
    """Decode the rows from `start` to `stop` of a tensor to [rows, in]."""
    blocks = TYPES[entry.kind]
    row_bytes = blocks.row_bytes(entry.shape[-1])
    raw = map_bytes(path, entry.offset + start * row_bytes, (stop - start) * row_bytes)
    return blocks.decode(raw.view(-1, blocks.bytes)).reshape(stop - start, -1)


def _config(
    metadata: Mapping[str, Any],
    found: Mapping[str, StoredTensor],
    rope_freqs: Tensor | None,
    *,
    where: str,
) -> ModelConfig:
    """Read the model's shape from `llama.*`; other namespaces are about other things."""
    if metadata.get("general.architecture") != "llama":
        raise ConfigError(
            f"{where}: general.architecture is {metadata.get('general.architecture')!r}; 'llama' "
            "is expected. Choose a Llama model."
        )
    own = ("llama.", gguf_rope.PREFIX)
    table = {key: _one(value) for key, value in metadata.items() if key.startswith(own)}
    facts = Facts(table, where=where)
    heads, width = facts.integer("llama.attention.head_count"), facts.integer(_key("embedding"))
    head_width = facts.integer("llama.attention.key_length", max(1, width // heads))
    facts.must_be("llama.attention.value_length", head_width)
    facts.must_be("llama.rope.dimension_count", head_width)
    facts.must_be("llama.rope.scaling.type", "none")
    for experts in ("llama.expert_count", "llama.expert_used_count"):
        facts.must_be(experts, 0)
    theta = _decimal(facts.number("llama.rope.freq_base", 10_000.0))
    embed = found.get(EMBED.gguf)
    if embed is None:
        raise FormatError(f"{where}: the tensor '{EMBED.gguf}' is missing. Download it again.")
    scaling = None
    if rope_freqs is not None:
        scaling = gguf_rope.rule_of(rope_freqs, head_width, theta, facts, where=where)
    for key in table:
        if key.startswith(gguf_rope.PREFIX):
            facts.value(key)
    facts.must_be("llama.vocab_size", embed.shape[0])
    config = facts.build(
        ModelConfig,
        width=width,
        layers=facts.integer(_key("block")),
        heads=heads,
        kv_heads=facts.integer("llama.attention.head_count_kv", heads),
        mlp_width=facts.integer(_key("mlp")),
        vocab=embed.shape[0],
        context=facts.integer(_key("context")),
        head_width=head_width,
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=_decimal(facts.number(_key("eps"))),
        tied=HEAD.gguf not in found,
    )
    facts.refuse_rest(_HARMLESS)
    return config


def _key(fact: str) -> str:
    return {
        "embedding": "llama.embedding_length",
        "block": "llama.block_count",
        "mlp": "llama.feed_forward_length",
        "context": "llama.context_length",
        "eps": "llama.attention.layer_norm_rms_epsilon",
    }[fact]


def _one(value: Any) -> Any:
    """Read a list with one number for each layer as that number, where all are equal."""
    is_uniform = isinstance(value, list) and value and all(item == value[0] for item in value)
    return value[0] if is_uniform else value


def _decimal(value: float) -> float:
    """Undo the rounding of a decimal number to float32: 9.99999975e-06 was 1e-05."""
    return float(str(np.float32(value)))


def _stop_ids(metadata: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for name in _STOPS:
        value = metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            continue
        if type(value) is not int or value < 0:
            raise ConfigError(f"{path}: tokenizer.ggml.{name}={value!r}; an id is expected.")
        found[value] = None
    return tuple(found)


def _metadata(config: ModelConfig, kind: str, name: str) -> dict[str, Typed]:
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "general.name": name,
        "general.file_type": _FILE_TYPES[kind],
        "general.quantization_version": 2,
        _key("context"): config.context,
        _key("embedding"): config.width,
        _key("block"): config.layers,
        _key("mlp"): config.mlp_width,
        "llama.attention.head_count": config.heads,
        "llama.attention.head_count_kv": config.kv_heads,
        "llama.attention.key_length": config.head_width,
        "llama.attention.value_length": config.head_width,
        _key("eps"): config.norm_eps,
        "llama.rope.dimension_count": config.head_width,
        "llama.rope.freq_base": config.rope_theta,
        "llama.vocab_size": config.vocab,
    }
    if (rule := config.rope_scaling) is not None:
        values |= {
            f"{gguf_rope.PREFIX}factor": rule.factor,
            f"{gguf_rope.PREFIX}low_freq_factor": rule.low_freq_factor,
            f"{gguf_rope.PREFIX}high_freq_factor": rule.high_freq_factor,
            f"{gguf_rope.PREFIX}original_context": rule.original_context,
        }
    typed = {key: _typed(value) for key, value in values.items()}
    # puna's own keys carry double precision: the rule must come back as it was.
    own = {key: t for key, t in typed.items() if key.startswith(gguf_rope.PREFIX) and t.code == 6}
    return typed | {key: Typed(code=12, value=t.value) for key, t in own.items()}


def _stop_metadata(stop_ids: Sequence[int], tokenizer: Tokenizer | None) -> dict[str, Typed]:
    """Spell stop ids under llama.cpp's three keys: end of text, of turn, of message.

    A tokenizer says which id is which, and keeps its own end of text; without one, the order does.
    """
    stops, keys = list(dict.fromkeys(stop_ids)), list(_STOPS)
    placed: dict[str, int] = {}
    if tokenizer is not None:
        stops = stops or sorted(tokenizer.stop_ids)
        turn, message = (tokenizer.specials.get(name) for name in (END_OF_TURN, END_OF_MESSAGE))
        named = zip(_STOPS, (tokenizer.eos_id, turn, message), strict=True)
        placed = {key: stop for key, stop in named if stop in stops}
        keys.remove(_STOPS[0])
    left = [stop for stop in stops if stop not in placed.values()]
    free = [key for key in keys if key not in placed]
    if len(left) > len(free):
        raise ConfigError(
            f"save_gguf: the stop ids {stops} were given; GGUF has places for {len(_STOPS)}, the "
            "tokenizer's end of text among them. Give fewer."
        )
    placed |= dict(zip(free, left, strict=False))
    return {f"tokenizer.ggml.{key}": _typed(placed[key]) for key in _STOPS if key in placed}


def _typed(value: Any) -> Typed:
    """Choose the type that llama.cpp expects of a value: u32, f32, bool, string, or arrays."""
    match value:
        case bool():
            return Typed(code=7, value=value)
        case int():
            return Typed(code=4, value=value)
        case float():
            return Typed(code=6, value=value)
        case str():
            return Typed(code=8, value=value)
        case _:
            items = list(value)
            codes = {str: 8, float: 6}
            item_code = codes.get(type(items[0]), 5) if items else 8
            return Typed(code=9, value=items, item_code=item_code)


def _kind_of(place: Place, kind: str) -> str:
    """Keep vectors in F32, and rows that no block divides in F16."""
    if len(place.shape) == 1:
        return "F32"
    if place.shape[-1] % TYPES[kind].values:
        return "F16"
    if kind == "Q4_0" and place.row in (EMBED, HEAD):
        return "Q8_0"  # four bits cost more here than in the blocks: their errors meet every token
    return kind


def _encoded(state: Mapping[str, Tensor], place: Place, config: ModelConfig, kind: str) -> bytes:
    weight = checked_weight(state, place)
    if heads := rope_heads(place.row, config):
        weight = to_interleaved(weight, heads, where=place.puna)
    if kind in ENCODE:
        raw = ENCODE[kind](weight)
    else:
        raw = weight.to(_DTYPES[kind]).contiguous().view(torch.uint8)
    return raw.numpy().tobytes()
