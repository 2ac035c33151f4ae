"""The GGUF container: a header of typed metadata and a table of tensors, then their bytes.

Nothing here knows what a Llama is. Every length that a file states is checked against the bytes
that are left before anything is allocated, so that a damaged or hostile file costs an error and
not the machine's memory. Source: ggml's GGUF specification, version 3 (version 2 reads the same).
"""

import mmap
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from puna.checkpoint.gguf_blocks import TYPES, UNREAD, BlockType
from puna.errors import FormatError, NotFoundError

MAGIC, ALIGNMENT = b"GGUF", 32

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_BY_CODE: Mapping[int, tuple[str, BlockType]] = {
    kind.code: (name, kind) for name, kind in TYPES.items()
}
_MAX_DIMS = 4  # of ggml's tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One row of the tensor table; the shape is [out, in], as torch writes it."""

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int  # from the file's start
    stored_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """All that stands before the tensors' bytes."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A metadata value with the type code it is written as."""

    code: int
    value: Any
    item_code: int = 0  # of an array's items


def read_header(path: Path) -> Header:
    """Read the metadata and the tensor table.

    Raises:
        NotFoundError: the file does not exist.
        FormatError: it is not GGUF, truncated, or states impossible lengths.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < 24:
                raise FormatError(f"{path}: {size} bytes are no GGUF file. Download it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return _parse(_Cursor(view, size, str(path)))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file.") from error


class _Cursor:
    """A position in the file that never passes its end."""

    def __init__(self, view: mmap.mmap, size: int, where: str) -> None:
        self.view, self.size, self.where, self.at = view, size, where, 0

    def take(self, count: int) -> bytes:
        self.need(count)
        self.at += count
        return self.view[self.at - count : self.at]

    def need(self, count: int) -> None:
        if count > self.size - self.at:
            raise self.wrong(f"{count:,} bytes are stated where {self.size - self.at:,} are left")

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        raw = self.take(self.scalar("<Q"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(f"a string is no UTF-8 ({error.reason})") from error

    def texts(self, count: int) -> list[str]:
        """Read many strings: a vocabulary and its merges are hundreds of thousands."""
        view, size, at = self.view, self.size, self.at
        length = struct.Struct("<Q").unpack_from
        raws = []
        for _ in range(count):
            stop = at + 8
            if stop <= size:
                stop += length(view, at)[0]
            if stop > size:
                self.at = at
                raise self.wrong(f"a string of an array ends at {stop:,} of {size:,}")
            raws.append(view[at + 8 : stop])
            at = stop
        self.at = at
        try:
            return [raw.decode() for raw in raws]
        except UnicodeDecodeError as error:
            raise self.wrong(f"a string is no UTF-8 ({error.reason})") from error

    def wrong(self, what: str) -> FormatError:
        return FormatError(
            f"{self.where}: at byte {self.at:,}, {what}; a whole GGUF file is expected. It is "
            "truncated or damaged: download it again."
        )


def _parse(cursor: _Cursor) -> Header:
    if cursor.take(4) != MAGIC:
        raise cursor.wrong("the file does not begin with GGUF")
    version = cursor.scalar("<I")
    if version not in (2, 3):
        raise cursor.wrong(f"the version is {version}, not 2 or 3")
    tensor_count, value_count = cursor.scalar("<Q"), cursor.scalar("<Q")
    metadata: dict[str, Any] = {}
    cursor.need(value_count * 13)  # a key's length, a type and a byte
    for _ in range(value_count):
        key = cursor.text()
        if key in metadata:
            raise cursor.wrong(f"the key '{key}' appears twice")
        metadata[key] = _value(cursor)
    cursor.need(tensor_count * 32)  # a name's length, one dimension, type and offset
    rows = [_tensor_row(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 2**20:
        raise cursor.wrong(f"the alignment is {alignment!r}")
    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, TensorEntry] = {}
    for name, shape, code, offset in rows:
        if name in tensors:
            raise cursor.wrong(f"the tensor '{name}' appears twice")
        tensors[name] = _entry(cursor, name, shape, code, start + offset)
    return Header(metadata=metadata, tensors=tensors)


def _value(cursor: _Cursor) -> Any:
    code = cursor.scalar("<I")
    if code != _ARRAY:
        return _single(cursor, code)
    item_code, count = cursor.scalar("<I"), cursor.scalar("<Q")
    if item_code == _STRING:
        cursor.need(count * 8)
        return cursor.texts(count)
    if item_code not in _SCALARS:
        raise cursor.wrong(f"an array holds items of type {item_code}")
    form = _SCALARS[item_code]
    raw = cursor.take(count * struct.calcsize(form))
    return [item for (item,) in struct.iter_unpack(form, raw)]


def _single(cursor: _Cursor, code: int) -> Any:
    if code == _STRING:
        return cursor.text()
    if code not in _SCALARS:
        raise cursor.wrong(f"a value has the unknown type {code}")
    return cursor.scalar(_SCALARS[code])


def _tensor_row(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name, dims = cursor.text(), cursor.scalar("<I")
    if not 1 <= dims <= _MAX_DIMS:
        raise cursor.wrong(f"the tensor '{name}' has {dims} dimensions")
    shape = tuple(cursor.scalar("<Q") for _ in range(dims))[::-1]
    return name, shape, cursor.scalar("<I"), cursor.scalar("<Q")


def _entry(
    cursor: _Cursor, name: str, shape: tuple[int, ...], code: int, offset: int
) -> TensorEntry:
    if code not in _BY_CODE:
        raise FormatError(
            f"{cursor.where}: the tensor '{name}' is stored as {UNREAD.get(code, f'type {code}')}; "
            f"{', '.join(TYPES)} are read. Choose another quantization of the model."
        )
    kind, blocks = _BY_CODE[code]
    count = 1
    for size in shape:
        count *= size
    if count == 0 or shape[-1] % blocks.values:
        raise cursor.wrong(f"the tensor '{name}' of shape {list(shape)} is no {kind}")
    stored = count // blocks.values * blocks.bytes
    if offset + stored > cursor.size:
        raise cursor.wrong(f"the tensor '{name}' ends at {offset + stored:,} of {cursor.size:,}")
    return TensorEntry(name=name, shape=shape, kind=kind, offset=offset, stored_bytes=stored)


def write_file(
    file: BinaryIO,
    metadata: Mapping[str, Typed],
    tensors: Sequence[tuple[str, tuple[int, ...], str, Callable[[], bytes]]],
) -> None:
    """Write a whole file, asking for each tensor's bytes when its turn comes.

    Args:
        tensors: name, shape [out, in], type, and a function that returns the bytes.
    """
    head = bytearray(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, typed in metadata.items():
        head += _text(key) + struct.pack("<I", typed.code) + _encoded(typed)
    offset = 0
    sizes = []
    for name, shape, kind, _ in tensors:
        dims = shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        head += struct.pack("<IQ", TYPES[kind].code, offset)
        rows = 1
        for size in shape[:-1]:
            rows *= size
        sizes.append(rows * TYPES[kind].row_bytes(shape[-1]))
        offset += _aligned(sizes[-1])
    file.write(head + bytes(_aligned(len(head)) - len(head)))
    for (name, _, _, data), size in zip(tensors, sizes, strict=True):
        raw = data()
        assert len(raw) == size, f"{name}: {len(raw)} bytes for {size}"
        file.write(raw)
        file.write(bytes(_aligned(size) - size))


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _encoded(typed: Typed) -> bytes:
    if typed.code == _STRING:
        return _text(typed.value)
    if typed.code != _ARRAY:
        return struct.pack(_SCALARS[typed.code], typed.value)
    head = struct.pack("<IQ", typed.item_code, len(typed.value))
    if typed.item_code == _STRING:
        return head + b"".join(map(_text, typed.value))
    return head + struct.pack(f"<{len(typed.value)}{_SCALARS[typed.item_code][1]}", *typed.value)
