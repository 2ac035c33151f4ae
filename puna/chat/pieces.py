"""A prompt is put together from control tokens and text, and only the renderer places the former.

Every dialect writes into a `PromptBuilder`. Control tokens enter by name; text enters through the
tokenizer's `encode`, which has no way to produce a control token, so whatever a user or a tool
writes stays text. The loss mask grows with the ids: there is nothing to align afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from puna.errors import ConfigError
from puna.tokenizer.interface import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model reads, and which of it the assistant must learn to say."""

    ids: list[int]
    loss_mask: list[int]  # 1 on assistant bodies and their terminators, 0 elsewhere


class PromptBuilder:
    """Ids and loss mask of one prompt, in the order they are read."""

    def __init__(self, tok: Tokenizer) -> None:
        self._tok = tok
        self.ids: list[int] = []
        self.loss_mask: list[int] = []

    def control(self, name: str, *, trained: bool = False) -> None:
        """Append one control token."""
        self._append([self._tok.specials[name]], trained=trained)

    def text(self, text: str, *, trained: bool = False) -> None:
        """Append text that is encoded by itself: no token reaches across its borders."""
        if text:
            self._append(self._tok.encode(text), trained=trained)

    def run(self, parts: Sequence[tuple[str, bool]]) -> None:
        """Append texts that are encoded as one; a token is trained where any byte of it is."""
        whole = "".join(text for text, _ in parts)
        if not whole:
            return
        if len({trained for text, trained in parts if text}) == 1:
            self.text(whole, trained=next(trained for text, trained in parts if text))
            return
        flags = b"".join(bytes([trained]) * len(text.encode()) for text, trained in parts)
        ids = self._tok.encode(whole)
        pieces = [self._tok.piece(token) for token in ids]
        # A SentencePiece tokenizer puts one space before the text, which the flags do not have.
        start = len(flags) - sum(map(len, pieces))
        for token, piece in zip(ids, pieces, strict=True):
            end = start + len(piece)
            self._append([token], trained=any(flags[max(start, 0) : end]))
            start = end

    def prompt(self) -> Prompt:
        """Return what was appended."""
        return Prompt(ids=self.ids, loss_mask=self.loss_mask)

    def _append(self, ids: list[int], *, trained: bool) -> None:
        self.ids += ids
        self.loss_mask += [int(trained)] * len(ids)


def require_specials(tok: Tokenizer, names: Sequence[str], *, dialect: str) -> None:
    """Stop early where a tokenizer lacks a control token of the dialect."""
    missing = [name for name in names if name not in tok.specials]
    if missing:
        raise ConfigError(
            f"chat dialect {dialect!r}: the tokenizer has no {', '.join(missing)}; "
            "the dialect is made of these control tokens. "
            "Choose the dialect that the model was trained with, or another tokenizer."
        )
