"""Foreign `tokenizer.json` files, encoded by Hugging Face's `tokenizers`.

The library turns special-looking text into control ids unless told otherwise; here it is told. What
an id decodes to is worked out by puna, so that streams and byte strings behave as everywhere else.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from puna.errors import ExtraError, FormatError
from puna.tokenizer.alphabet import from_letters
from puna.tokenizer.interface import require_known, require_unicode
from puna.tokenizer.pieces import SPACE, is_byte_piece
from puna.tokenizer.specials import BEGIN_OF_TEXT, END_OF_TEXT, RIGHT_PAD, STOPS
from puna.tokenizer.stream import decode_bytes_with_space

# Where no file names the roles, the tokens of Llama 3, then of Llama 1 and 2.
_USUAL = {
    "bos_token": (BEGIN_OF_TEXT, "<s>"),
    "eos_token": (END_OF_TEXT, "</s>"),
    "pad_token": (RIGHT_PAD, "<pad>"),
}


class LibraryTokenizer:
    """A `tokenizer.json` of byte pairs as a `Tokenizer`."""

    def __init__(self, spec: Mapping[str, Any], roles: Mapping[str, str], *, where: str) -> None:
        """Build the tokenizer.

        Args:
            spec: the content of the file.
            roles: the tokens named as `bos_token`, `eos_token` and `pad_token`.
            where: the file, for error messages.
        """
        self.spec = {**spec, "added_tokens": [_guarded(t) for t in spec.get("added_tokens") or ()]}
        self._encoder = _encoder(self.spec, where)
        added = {t["content"]: t["id"] for t in self.spec["added_tokens"] if t.get("special")}
        self.specials: Mapping[str, int] = MappingProxyType(added)
        kinds = set(_types(spec.get("decoder")))
        self.adds_space = _takes_space_away(spec.get("decoder"))
        ids: dict[str, int] = self._encoder.get_vocab(with_added_tokens=True)
        self.vocab = max(ids.values()) + 1
        self._pieces = [b""] * self.vocab
        plain = {t["content"] for t in self.spec["added_tokens"]}
        for text, token_id in ids.items():
            self._pieces[token_id] = text.encode() if text in plain else _bytes(text, kinds, where)
        self.bos_id = _role("bos_token", roles, ids, where)
        self.eos_id = _role("eos_token", roles, ids, where)
        self.pad_id = next((ids[t] for t in _candidates("pad_token", roles) if t in ids), None)
        self.stop_ids = frozenset([self.eos_id, *(added[name] for name in STOPS if name in added)])

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Return the ids of ordinary text; special-looking text never becomes a control id."""
        require_unicode(text)
        ids = [self.bos_id] if bos else []
        ids += self._encoder.encode(text, add_special_tokens=False).ids
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


def _encoder(spec: Mapping[str, Any], where: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ExtraError(
            f"{where}: this tokenizer.json is not Llama 3's kind and needs the library "
            "'tokenizers': pip install tokenizers."
        ) from error
    try:
        encoder = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library raises nothing more precise
        raise FormatError(
            f"{where}: the library 'tokenizers' refuses it ({error}). "
            "The file is damaged or newer than the library."
        ) from error
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True  # special-looking text is text
    return encoder


def _guarded(token: Mapping[str, Any]) -> dict[str, Any]:
    """Make an added tag special, whatever its flag: text must not become one."""
    text = str(token.get("content", ""))
    is_tag = text.startswith("<") and text.endswith(">")
    return {**token, "special": bool(token.get("special")) or is_tag}


def _types(step: Mapping[str, Any] | None) -> list[str]:
    if not step:
        return []
    inner = step.get("decoders", [])
    return [str(step.get("type")), *(name for part in inner for name in _types(part))]


def _takes_space_away(step: Mapping[str, Any] | None) -> bool:
    """Tell whether a decoder removes the first space of a text."""
    match step:
        case {"type": "Sequence", "decoders": parts}:
            return any(map(_takes_space_away, parts))
        case {"type": "Strip", "content": " ", "start": start}:
            return bool(start)
        case {"type": "Metaspace", **rest}:
            return rest.get("prepend_scheme", "always") != "never"
        case _:
            return False


def _bytes(text: str, kinds: set[str], where: str) -> bytes:
    if "ByteLevel" in kinds:
        return from_letters(text, where=where)
    if "Metaspace" in kinds or "ByteFallback" in kinds:
        return bytes([int(text[3:5], 16)]) if is_byte_piece(text) else _spaced(text)
    raise FormatError(
        f"{where}: its decoder is {', '.join(sorted(kinds)) or 'absent'}; ByteLevel, ByteFallback "
        "or Metaspace is expected. This is no byte-pair tokenizer that puna can decode."
    )


def _spaced(text: str) -> bytes:
    return text.replace(SPACE, " ").encode()


def _candidates(role: str, roles: Mapping[str, str]) -> tuple[str, ...]:
    return (roles[role],) if role in roles else _USUAL[role]


def _role(role: str, roles: Mapping[str, str], ids: Mapping[str, int], where: str) -> int:
    names = _candidates(role, roles)
    for name in names:
        if name in ids:
            return ids[name]
    raise FormatError(
        f"{where}: it holds no {role} ({' or '.join(names)}); one is expected. "
        "Name it in tokenizer_config.json beside it."
    )
