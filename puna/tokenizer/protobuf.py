"""The few lines of protocol buffers that a SentencePiece model needs: fields in, fields out.

Only what the wire format defines, no schema; `sentence.py` knows what the fields of a model mean.
Source: protobuf.dev, "Encoding".
"""

import struct
from collections.abc import Iterator

from puna.errors import FormatError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT32_BITS = 32


def read_fields(data: bytes, *, where: str) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an integer, or the bytes of anything else.

    Raises:
        FormatError: the bytes end inside a field or are no protocol buffer.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at, where)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, where)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, where)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if number == 0 or size < 0 or at + size > len(data):
            raise _damaged(where, at)
        yield number, data[at : at + size]
        at += size


def write_field(number: int, value: int | float | bytes | str) -> bytes:
    """Return one field: varints, 32-bit floats, or text and bytes with their length."""
    match value:
        case float():
            return _write_varint(number << 3 | _FIXED32) + struct.pack("<f", value)
        case int():
            return _write_varint(number << 3 | _VARINT) + _write_varint(value)
        case _:
            data = value.encode() if isinstance(value, str) else value
            return _write_varint(number << 3 | _BYTES) + _write_varint(len(data)) + data


def signed(value: int) -> int:
    """Read a varint as the int32 it stands for; negative numbers are sign-extended to 64 bits."""
    value &= (1 << _INT32_BITS) - 1
    return value - (1 << _INT32_BITS) if value >> (_INT32_BITS - 1) else value


def _varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise _damaged(where, at)


def _write_varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _damaged(where: str, at: int) -> FormatError:
    return FormatError(
        f"{where}: damaged near byte {at}; a SentencePiece model is expected. "
        "The file is truncated or something else: copy it again."
    )
