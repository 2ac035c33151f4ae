"""A prompt is put together from control tokens and text, and only the renderer places the former.

Every dialect writes into a `PromptBuilder`. Control tokens enter by name; text enters through the
tokenizer's `encode`, which has no way to produce a control token, so whatever a user or a tool
writes stays text. The loss mask grows with the ids: there is nothing to align afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from puna.chat.contents import Image
from puna.chat.encodings import encodings_of
from puna.errors import ConfigError, RequestError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What the model reads, and which of it the assistant must learn to say."""

    ids: list[int]
    loss_mask: list[int]  # 1 on assistant bodies and their terminators, 0 elsewhere


class PromptBuilder:
    """Ids and loss mask of one prompt, in the order they are read."""

    def __init__(self, tok: Tokenizer) -> None:
        self._tok = tok
        self._encodings = encodings_of(tok)
        self._controls = tok.specials
        self.ids: list[int] = []
        self.loss_mask: list[int] = []

    def start(self) -> None:
        """Append the token that begins every text."""
        self.ids.append(self._tok.bos_id)
        self.loss_mask.append(0)

    def control(self, name: str, *, trained: bool = False) -> None:
        """Append one control token."""
        self.ids.append(self._controls[name])
        self.loss_mask.append(int(trained))

    def text(self, text: str, *, trained: bool = False) -> None:
        """Append text that is encoded by itself: no token reaches across its borders."""
        if text:
            ids = self._encodings.encode(text)
            self.ids += ids
            self.loss_mask += [int(trained)] * len(ids)

    def parts(self, parts: Sequence[str | Image], *, trained: bool = False) -> None:
        """Append texts and images; an image is one control token."""
        for part in parts:
            if isinstance(part, str):
                self.text(part, trained=trained)
            elif IMAGE in self._controls:
                self.control(IMAGE, trained=trained)
            else:
                raise RequestError(
                    f"chat: a message holds an image; the tokenizer has no {IMAGE} to stand for "
                    "it. Use the tokenizer of a model that sees, or send text alone."
                )

    def run(self, parts: Sequence[tuple[str, bool]]) -> None:
        """Append texts that are encoded as one; a token is trained where any byte of it is."""
        if len(parts) == 1:
            self.text(parts[0][0], trained=parts[0][1])
            return
        ids, mask = self._encodings.encode_parts(tuple(parts))
        self.ids += ids
        self.loss_mask += mask

    def prompt(self) -> Prompt:
        """Return what was appended."""
        return Prompt(ids=self.ids, loss_mask=self.loss_mask)


def require_specials(tok: Tokenizer, names: Sequence[str], *, dialect: str) -> None:
    """Stop early where a tokenizer lacks a control token of the dialect."""
    missing = [name for name in names if name not in tok.specials]
    if missing:
        raise ConfigError(
            f"chat dialect {dialect!r}: the tokenizer has no {', '.join(missing)}; "
            "the dialect is made of these control tokens. "
            "Choose the dialect that the model was trained with, or another tokenizer."
        )
