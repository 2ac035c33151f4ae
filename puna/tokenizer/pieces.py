"""A SentencePiece vocabulary: pieces with scores and kinds, and the model file that holds them.

`sentence.py` encodes with it. GGUF files and llama2.c vocabularies carry the same lists, so they
become a model file here and share the one encoder. Field numbers are those of
`sentencepiece_model.proto`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from puna.errors import FormatError
from puna.tokenizer.protobuf import read_fields, signed, write_field

SPACE = "\u2581"  # stands for a space inside pieces


class Kind(IntEnum):
    """What a piece is. GGUF's token types are these numbers too."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One entry of the vocabulary; of all neighbours, the pair with the best score merges first."""

    text: str
    score: float
    kind: Kind = Kind.NORMAL

    def to_bytes(self) -> bytes:
        """Return what the piece stands for in decoded text."""
        match self.kind:
            case Kind.BYTE:
                return bytes([int(self.text[3:5], 16)])
            case Kind.UNKNOWN:
                return " \u2047 ".encode()  # SentencePiece's own sign for it
            case Kind.CONTROL:
                return self.text.encode()
            case _:
                return self.text.replace(SPACE, " ").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceModel:
    """What a model file says: the pieces, the ids with a role, and how text is prepared."""

    pieces: tuple[Piece, ...]
    unknown_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    pad_id: int | None = None
    adds_space: bool = True
    merges: bool = True  # byte-pair encoding as in Llama; False for a unigram model
    exact: bool = True  # text is encoded as it is, without Unicode normalization

    @property
    def is_llama(self) -> bool:
        """Whether the vocabulary encodes as Llama 1 and 2 do, so that other formats can hold it."""
        return self.merges and self.exact


_BPE = 2  # TrainerSpec.ModelType


def read_model(data: bytes, *, where: str) -> PieceModel:
    """Read the bytes of a SentencePiece model file.

    Raises:
        FormatError: the bytes are damaged, end too early, or lack a token that Llama needs.
    """
    pieces, trainer, normalizer = [], None, b""
    for number, value in read_fields(data, where=where):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            pieces.append(_read_piece(value, where=where))
        elif number == 2:
            trainer = dict(read_fields(value, where=where))
        elif number == 3:
            normalizer = value
    if trainer is None or not pieces:
        raise FormatError(
            f"{where}: it ends after {len(pieces)} pieces; a SentencePiece model has pieces and a "
            "trainer specification. The file is truncated: copy it again."
        )
    rules = dict(read_fields(normalizer, where=where))
    pad = _id(trainer, 43, -1)
    return PieceModel(
        pieces=tuple(pieces),
        unknown_id=_id(trainer, 40, 0),
        bos_id=_id(trainer, 41, 1),
        eos_id=_id(trainer, 42, 2),
        pad_id=None if pad < 0 else pad,
        adds_space=bool(rules.get(3, 1)),
        merges=trainer.get(3, 1) == _BPE,
        exact=not rules.get(2) and not rules.get(4, 1),
    )


def write_model(model: PieceModel) -> bytes:
    """Return the bytes of a SentencePiece model file that encodes as Llama 1 and 2 do."""
    has_bytes = any(piece.kind is Kind.BYTE for piece in model.pieces)
    trainer = {
        3: _BPE,
        4: len(model.pieces),
        35: int(has_bytes),
        40: model.unknown_id,
        41: model.bos_id,
        42: model.eos_id,
        43: -1 if model.pad_id is None else model.pad_id,
    }
    normalizer: dict[int, int | str] = {1: "identity", 3: int(model.adds_space), 4: 0, 5: 1}
    parts = [write_field(1, _write_piece(piece)) for piece in model.pieces]
    parts.append(write_field(2, b"".join(write_field(n, v) for n, v in trainer.items())))
    parts.append(write_field(3, b"".join(write_field(n, v) for n, v in normalizer.items())))
    return b"".join(parts)


def guess_kinds(texts: Sequence[str]) -> list[Kind]:
    """Name the kind of each piece by Llama's layout: unknown, begin, end, bytes, then text."""
    roles = {0: Kind.UNKNOWN, 1: Kind.CONTROL, 2: Kind.CONTROL}
    return [
        roles.get(n) or (Kind.BYTE if is_byte_piece(text) else Kind.NORMAL)
        for n, text in enumerate(texts)
    ]


def is_byte_piece(text: str) -> bool:
    """Tell whether a piece is written as a byte: `<0x0A>`."""
    if len(text) != 6 or not text.startswith("<0x") or not text.endswith(">"):
        return False
    return all(c in "0123456789ABCDEF" for c in text[3:5])


def _id(trainer: dict[int, int | bytes], number: int, default: int) -> int:
    value = trainer.get(number, default)
    return signed(value) if isinstance(value, int) else default


def _read_piece(data: bytes, *, where: str) -> Piece:
    fields = dict(read_fields(data, where=where))
    try:
        match fields.get(1), fields.get(2, bytes(4)), fields.get(3, 1):
            case bytes(text), bytes(score), int(kind):
                return Piece(
                    text=text.decode(), score=struct.unpack("<f", score)[0], kind=Kind(kind)
                )
            case other:
                raise ValueError(f"its fields are {other!r:.60}")
    except (ValueError, struct.error) as error:
        raise FormatError(
            f"{where}: a piece is damaged ({error}); text, score and kind are expected. "
            "Copy the file again."
        ) from error


def _write_piece(piece: Piece) -> bytes:
    return (
        write_field(1, piece.text) + write_field(2, float(piece.score)) + write_field(3, piece.kind)
    )
