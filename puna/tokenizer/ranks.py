"""Llama 3's tokenizer: byte pairs merged by rank, on tiktoken.

The vocabulary is a list of byte strings whose position is both rank and id; the special tokens
follow it. The same class serves the official file of 128,000 ranks, the vocabularies that puna
trains, and those read from `tokenizer.json` and GGUF.
"""

import base64
import binascii
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import tiktoken

from puna.errors import FormatError, NotFoundError
from puna.files import atomic_file
from puna.tokenizer.interface import require_known, require_unicode
from puna.tokenizer.slices import slices
from puna.tokenizer.specials import BEGIN_OF_TEXT, END_OF_TEXT, RIGHT_PAD, STOPS, special_names

# How text is split before merging. Source: llama-models `tokenizer.py`.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class RankTokenizer:
    """Byte-pair encoding by rank with special tokens after the ranks; see `Tokenizer`."""

    def __init__(
        self,
        ranks: Sequence[bytes],
        specials: Sequence[str] = special_names(),
        *,
        where: str = "RankTokenizer",
    ) -> None:
        """Build the tokenizer.

        Args:
            ranks: the byte strings, in the order of their ids; all 256 single bytes among them.
            specials: names of the special tokens, whose ids follow the ranks.
            where: the file the ranks came from, for error messages.
        Raises:
            FormatError: a byte is missing, or a byte string or a name stands twice.
        """
        by_piece = {piece: rank for rank, piece in enumerate(ranks)}
        _require_vocabulary(by_piece, len(ranks), specials, where)
        self.ranks = tuple(ranks)
        self._encoding = tiktoken.Encoding(
            where,
            pat_str=PATTERN,
            mergeable_ranks=by_piece,
            special_tokens={},  # tiktoken never sees them, so text cannot become one
        )
        self._pieces = [*ranks, *(name.encode() for name in specials)]
        self.specials: Mapping[str, int] = MappingProxyType(
            {name: len(ranks) + slot for slot, name in enumerate(specials)}
        )
        self.vocab = len(self._pieces)
        self.bos_id = self.specials[BEGIN_OF_TEXT]
        self.eos_id = self.specials[END_OF_TEXT]
        self.pad_id = self.specials.get(RIGHT_PAD)
        self.stop_ids = frozenset(self.specials[n] for n in STOPS if n in self.specials)

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Return the ids of ordinary text; special-looking text never becomes a control id."""
        require_unicode(text)
        ids = [self.bos_id] if bos else []
        for part in slices(text):
            ids += self._encoding.encode_ordinary(part)
        if eos:
            ids.append(self.eos_id)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes:
        """Return the bytes of ids, with special tokens as their names unless they are skipped."""
        require_known(ids, self.vocab)
        if skip_special:
            ids = [i for i in ids if i < len(self.ranks)]
        return b"".join([self._pieces[i] for i in ids])

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of one id; a special token's are its name."""
        require_known([token_id], self.vocab)
        return self._pieces[token_id]


def read_ranks(path: Path) -> list[bytes]:
    """Read a rank file: on each line the base64 of a byte string, a space, and its rank.

    Raises:
        NotFoundError: there is no such file.
        FormatError: a line is not of this form, or the ranks do not count up from 0.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; give the path of a tokenizer.model.") from error
    ranks = _all_at_once(data)
    if ranks is None:
        return [_rank_line(line, n, path) for n, line in enumerate(data.splitlines())]
    return ranks


def write_ranks(ranks: Iterable[bytes], path: Path) -> None:
    """Write a rank file atomically."""
    lines = (b"%s %d\n" % (base64.b64encode(piece), rank) for rank, piece in enumerate(ranks))
    with atomic_file(path) as partial:
        partial.write_bytes(b"".join(lines))


def _all_at_once(data: bytes) -> list[bytes] | None:
    """Read a file that says what writing its ranks again says; None for any other.

    It takes three fifths of the time that its lines would take, one by one.
    """
    try:
        pieces = list(map(binascii.a2b_base64, data.split()[::2]))
    except binascii.Error:
        return None
    encoded = map(binascii.b2a_base64, pieces)  # with a line break each
    lines = map(b"%b%d\n".__mod__, zip(encoded, itertools.count(), strict=False))
    return pieces if b"".join(lines) == data.replace(b" ", b"\n") else None


def _rank_line(line: bytes, n: int, path: Path) -> bytes:
    encoded, _, rank = line.partition(b" ")
    try:
        piece = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        piece = b""
    if not piece or rank != b"%d" % n:
        raise FormatError(
            f"{path}, line {n + 1}: got {line[:60]!r}; base64 bytes, a space and the rank {n} are "
            "expected. The file is truncated or damaged: copy it again."
        )
    return piece


def _require_vocabulary(
    known: Mapping[bytes, int], count: int, specials: Sequence[str], where: str
) -> None:
    if len(known) != count or len(set(specials)) != len(specials):
        raise FormatError(
            f"{where}: a token stands twice in the vocabulary; each must stand once. "
            "Take the vocabulary from its source again."
        )
    missing = [n for n in range(256) if bytes([n]) not in known]
    if missing:
        raise FormatError(
            f"{where}: {len(missing)} of the 256 single bytes are missing, first "
            f"0x{missing[0]:02X}; without them some text has no ids. The vocabulary is incomplete."
        )
    for name in (BEGIN_OF_TEXT, END_OF_TEXT):
        if name not in specials:
            raise FormatError(
                f"{where}: the special token {name} is missing; a Llama 3 vocabulary needs it. "
                "Add it to the special tokens."
            )
