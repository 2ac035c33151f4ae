"""What every tokenizer of puna can do, whatever file it came from.

The rooms above know only this protocol. Two rules hold for all of them: text that looks like a
special token stays text (only the chat format and the data packer insert control ids), and
`decode(encode(text))` gives the text back.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from puna.errors import RequestError


class Tokenizer(Protocol):
    """Text to ids and ids to text."""

    @property
    def vocab(self) -> int:
        """Number of ids, special tokens included."""

    @property
    def bos_id(self) -> int:
        """The id that begins every text the model sees."""

    @property
    def eos_id(self) -> int:
        """The id that ends a document."""

    @property
    def pad_id(self) -> int | None:
        """The id that fills the rows of a batch, where the vocabulary has one."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end a generation."""

    @property
    def specials(self) -> Mapping[str, int]:
        """Names and ids of the control tokens."""

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Return the ids of ordinary text; special-looking text never becomes a control id."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""

    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes:
        """Return the bytes of ids, with special tokens as their names unless they are skipped."""

    def piece(self, token_id: int) -> bytes:
        """Return the bytes of one id; a special token's are its name."""


@runtime_checkable
class AddsSpace(Protocol):
    """A tokenizer that may put a space before every text, and takes it away when decoding."""

    @property
    def adds_space(self) -> bool:
        """Whether texts are encoded with a space before them."""


def require_known(ids: Sequence[int], vocab: int) -> None:
    """Stop on an id that the vocabulary does not have."""
    if ids and not (min(ids) >= 0 and max(ids) < vocab):
        wrong = next(i for i in ids if not 0 <= i < vocab)
        raise RequestError(
            f"decode: got id {wrong}; the vocabulary has ids 0 to {vocab - 1}. "
            "Use the tokenizer that belongs to the model."
        )


def require_unicode(text: str) -> None:
    """Stop on text without a UTF-8 form: a lone surrogate would silently become U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"encode: the text holds half of a surrogate pair at character {error.start}; "
            "text that has a UTF-8 form is expected. Replace that character."
        ) from error
