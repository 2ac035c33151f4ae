"""The vocabulary file of llama2.c: a score, a length and the bytes of each token.

The file begins with the length of its longest token; all numbers are little-endian. Its tokens are
SentencePiece's with `▁` written as a space and line breaks around the names of begin and end, so
it becomes a SentencePiece vocabulary here and encodes as llama2.c does: a space before the text,
then merging by the highest score, the leftmost first; bytes for unknown characters.
Source: karpathy/llama2.c, `tokenizer.py` and `run.c`.
"""

import struct
from pathlib import Path

from puna.errors import FormatError, NotFoundError
from puna.files import atomic_file
from puna.tokenizer.pieces import SPACE, Kind, Piece, PieceModel, guess_kinds
from puna.tokenizer.sentence import SentencePieceTokenizer

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<fI")


def looks_like_llama2c(data: bytes) -> bool:
    """Tell whether bytes begin as a llama2.c vocabulary does: a length, then a fitting token."""
    if len(data) < _HEADER.size + _ENTRY.size:
        return False
    longest: int = _HEADER.unpack_from(data)[0]
    length: int = _ENTRY.unpack_from(data, _HEADER.size)[1]
    first = data[_HEADER.size + _ENTRY.size :][:length]  # of Llama's vocabularies: <unk>
    return 0 < length <= longest < 1 << 16 and first.isascii() and first.decode().isprintable()


def read_llama2c(path: Path) -> SentencePieceTokenizer:
    """Read a llama2.c vocabulary.

    Raises:
        NotFoundError: there is no such file.
        FormatError: the file ends inside a token, or a token is longer than the file says.
    """
    try:
        entries = _read_entries(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; give a llama2.c vocabulary.") from error
    texts = [_text(token, n, str(path)) for n, (token, _) in enumerate(entries)]
    pieces = tuple(
        Piece(text=text, score=score, kind=kind)
        for text, (_, score), kind in zip(texts, entries, guess_kinds(texts), strict=True)
    )
    return SentencePieceTokenizer.from_model(PieceModel(pieces=pieces), where=str(path))


def write_llama2c(tok: SentencePieceTokenizer, path: Path) -> None:
    """Write the vocabulary of a Llama 1 or 2 tokenizer for llama2.c, atomically."""
    tokens = [_token(piece) for piece in tok.model.pieces]
    parts = [_HEADER.pack(max(map(len, tokens)))]
    for token, piece in zip(tokens, tok.model.pieces, strict=True):
        parts += [_ENTRY.pack(piece.score, len(token)), token]
    with atomic_file(path) as partial:
        partial.write_bytes(b"".join(parts))


def _read_entries(data: bytes, where: str) -> list[tuple[bytes, float]]:
    if not looks_like_llama2c(data):
        raise FormatError(
            f"{where}: {len(data)} bytes that do not begin with a token; a llama2.c vocabulary is "
            "expected. Give the `tok*.bin` that belongs to the model."
        )
    (longest,) = _HEADER.unpack_from(data)
    entries: list[tuple[bytes, float]] = []
    at = _HEADER.size
    while at < len(data):
        start = at + _ENTRY.size
        score, length = _ENTRY.unpack_from(data, at) if start <= len(data) else (0.0, 0)
        if not 0 < length <= longest or start + length > len(data):
            raise FormatError(
                f"{where}: token {len(entries)} at byte {at} has length {length}, with "
                f"{len(data) - at} bytes left; 1 to {longest} bytes are expected. "
                "The file is truncated or damaged: copy it again."
            )
        entries.append((data[start : start + length], score))
        at = start + length
    return entries


def _text(token: bytes, n: int, where: str) -> str:
    try:
        text = token.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{where}: token {n} is {token!r}, which is no UTF-8; text is expected. "
            "The file is damaged: copy it again."
        ) from error
    return text.strip("\n") if n in (1, 2) else text.replace(" ", SPACE)


def _token(piece: Piece) -> bytes:
    if piece.kind is Kind.CONTROL:
        return f"\n{piece.text}\n".encode()
    return piece.text.replace(SPACE, " ").encode()
