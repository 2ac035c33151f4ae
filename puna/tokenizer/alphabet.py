"""Bytes as printable letters: the alphabet that `tokenizer.json` and GGUF write byte strings in.

Bytes that are printable in Latin-1 stand for themselves; the other 68 become the letters from
U+0100 on. Llama 3 also numbers its single bytes in this order.
Source: openai/gpt-2, `encoder.py`, `bytes_to_unicode`; spec of the Llama 3 rank file.
"""

import codecs

from puna.errors import FormatError

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

BYTE_ORDER = _PRINTABLE + _OTHERS  # ranks 0 to 255 of Llama 3
_LETTERS = {byte: 0x100 + n for n, byte in enumerate(_OTHERS)}
_BYTES = codecs.charmap_build("".join(chr(_LETTERS.get(byte, byte)) for byte in range(256)))


def to_letters(data: bytes) -> str:
    """Write bytes in the alphabet, one letter a byte."""
    return data.decode("latin-1").translate(_LETTERS)


def from_letters(text: str, *, where: str) -> bytes:
    """Read bytes from the alphabet.

    Raises:
        FormatError: a character is not of the alphabet.
    """
    try:
        return codecs.charmap_encode(text, "strict", _BYTES)[0]
    except UnicodeEncodeError as error:
        raise FormatError(
            f"{where}: the token {text!r} holds a character that stands for no byte; tokens in the "
            "GPT-2 byte alphabet are expected. This vocabulary is of another kind."
        ) from error
