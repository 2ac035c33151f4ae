"""Llama 1 and 2's tokenizer: SentencePiece pieces, with bytes for what they do not cover.

A text is encoded with a space before it, as the vocabulary asks. That space is taken away again
where a text starts: at the first id, and after each begin-of-text. So decoding gives back what was
encoded, and a continuation keeps its words apart (see `stream.StreamDecoder`'s `after`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import sentencepiece

from puna.errors import FormatError, NotFoundError
from puna.tokenizer.interface import require_known, require_unicode
from puna.tokenizer.pieces import Kind, PieceModel, read_model, write_model
from puna.tokenizer.stream import decode_bytes_with_space


class SentencePieceTokenizer:
    """A SentencePiece model as a `Tokenizer`.

    `model` holds the pieces, `proto` the bytes of the model file.
    """

    def __init__(self, proto: bytes, *, where: str = "SentencePieceTokenizer") -> None:
        self.model = read_model(proto, where=where)
        self.proto = proto
        _require_vocabulary(self.model, where)
        try:
            self._encoder = sentencepiece.SentencePieceProcessor(model_proto=proto)
        except RuntimeError as error:
            raise FormatError(
                f"{where}: SentencePiece refuses the vocabulary ({error}); a model of Llama 1 or 2 "
                "is expected. Copy the file again."
            ) from error
        self._pieces = [piece.to_bytes() for piece in self.model.pieces]
        self.specials: Mapping[str, int] = MappingProxyType(
            {p.text: n for n, p in enumerate(self.model.pieces) if p.kind is Kind.CONTROL}
        )
        self.vocab = len(self._pieces)
        self.bos_id = self.model.bos_id
        self.eos_id = self.model.eos_id
        self.pad_id = self.model.pad_id
        self.stop_ids = frozenset([self.eos_id])
        self.adds_space = self.model.adds_space

    @classmethod
    def from_model(cls, model: PieceModel, *, where: str) -> "SentencePieceTokenizer":
        """Build the tokenizer from pieces that came from another format."""
        _require_vocabulary(model, where)
        return cls(write_model(model), where=where)

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Return the ids of ordinary text; special-looking text never becomes a control id."""
        require_unicode(text)
        ids = [self.bos_id] if bos else []
        ids += self._encoder.encode(text)
        if eos:
            ids.append(self.eos_id)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes:
        """Return the bytes of ids, with special tokens as their names unless they are skipped."""
        require_known(ids, self.vocab)
        return decode_bytes_with_space(self, ids, skip_special=skip_special)

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of one id; a special token's are its name."""
        require_known([token_id], self.vocab)
        return self._pieces[token_id]


def read_sentencepiece(path: Path) -> SentencePieceTokenizer:
    """Read a SentencePiece `.model` file."""
    try:
        return SentencePieceTokenizer(path.read_bytes(), where=str(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; give the path of a tokenizer.model.") from error


def _require_vocabulary(model: PieceModel, where: str) -> None:
    for role, token_id in (("begin", model.bos_id), ("end", model.eos_id)):
        if not 0 <= token_id < len(model.pieces):
            raise FormatError(
                f"{where}: the {role}-of-text id is {token_id}, but there are {len(model.pieces)} "
                "pieces; it must be one of them. Take the vocabulary from its source again."
            )
    covered = sum(piece.kind is Kind.BYTE for piece in model.pieces)
    if covered not in (0, 256):
        raise FormatError(
            f"{where}: it has {covered} byte pieces; 256, or none, are expected. "
            "Take the vocabulary from its source again."
        )
    if len({piece.text for piece in model.pieces}) != len(model.pieces):
        raise FormatError(
            f"{where}: a piece stands twice in the vocabulary; each must stand once. "
            "Take the vocabulary from its source again."
        )
