"""What an answer must look like: a JSON Schema, a regular expression, a grammar or one of a few.

A constraint says before every token which tokens may come next; llguidance (extra `serve`) finds
them from the bytes of puna's own vocabulary. Control tokens are never part of a text, except where
a grammar names them; a stop id may be drawn as soon as the text is complete.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from puna.errors import ExtraError, RequestError
from puna.tokenizer.interface import AddsSpace, Tokenizer

Kind = Literal["json_schema", "regex", "lark", "gbnf", "choice"]
COMPILED = 64  # grammars that are remembered
# Between the parts of JSON stands what Llama 3.1 writes there itself, in calls of tools: what
# Python's json writes. White space where it pleases would let a weak model write it without end.
SPACING: Mapping[str, Any] = {
    "whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One rule for a whole answer."""

    kind: Kind
    text: str  # the schema or the choices as JSON, the expression, the grammar

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> "Constraint":
        """Return the rule that the answer is JSON of this schema; {} allows any JSON."""
        return cls(kind="json_schema", text=json.dumps(spaced(schema)))

    @classmethod
    def choice(cls, texts: Sequence[str]) -> "Constraint":
        """Return the rule that the answer is one of these texts."""
        return cls(kind="choice", text=json.dumps(list(texts)))


def spaced(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with the one way to space JSON of it."""
    return {"x-guidance": SPACING, **schema}


class Matcher:
    """The state of one answer under its constraint."""

    def __init__(self, matcher: Any, stop_ids: frozenset[int], vocab: int) -> None:
        self._matcher, self._stop_ids, self._vocab = matcher, sorted(stop_ids), vocab

    def fork(self) -> "Matcher":
        """Return the same state for another sample."""
        return Matcher(self._matcher.deep_copy(), frozenset(self._stop_ids), self._vocab)

    @property
    def is_done(self) -> bool:
        """Whether the text is complete and nothing may follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> Tensor:
        """Return which ids may come next, [V] of booleans on the CPU."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, count=self._vocab, bitorder="little").astype(np.bool_)
        mask[self._stop_ids] = self._matcher.is_accepting()
        self._require_sound()
        return torch.from_numpy(mask)

    def advance(self, token: int) -> None:
        """Take the id that was drawn."""
        if token not in self._stop_ids:
            self._matcher.consume_token(token)
            self._require_sound()

    def forced(self) -> list[int]:
        """Return the ids that must come next, as the tokenizer would write them."""
        return list(self._matcher.compute_ff_tokens())

    def possible(self, ids: Sequence[int]) -> int:
        """Return how many of these ids could come next, one after the other."""
        return int(self._matcher.validate_tokens(list(ids)))

    def _require_sound(self) -> None:
        if self._matcher.is_error():
            raise RequestError(
                f"constraint: the grammar cannot go on ({_first_line(self._matcher.get_error())}); "
                "a grammar that always allows some token is expected. Simplify it."
            )


class Constraints:
    """The constraints of one vocabulary: compiles them, and remembers the last ones."""

    def __init__(self, tokenizer: Tokenizer, *, vocab: int, stop_ids: frozenset[int]) -> None:
        self._tokenizer, self._vocab, self._stop_ids = tokenizer, vocab, stop_ids
        self._lock = Lock()
        self._library: Any = None
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()

    def matcher(self, constraint: Constraint) -> Matcher:
        """Return a fresh matcher.

        Raises:
            RequestError: the schema, expression or grammar is not one.
            ExtraError: llguidance is not installed.
        """
        with self._lock:
            found = self._compiled.pop(constraint, None)
            if found is None:
                found = self._compile(constraint)
            self._compiled[constraint] = found
            if len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        return Matcher(found.deep_copy(), self._stop_ids, self._vocab)

    def _compile(self, constraint: Constraint) -> Any:
        try:
            import llguidance
        except ImportError as error:
            raise ExtraError(
                "constraint: llguidance is not installed; constrained answers need it. "
                "Install puna[serve]."
            ) from error
        if self._library is None:
            self._library = _library_tokenizer(self._tokenizer, self._vocab)
        try:
            grammar = llguidance.grammar_from(constraint.kind, constraint.text)
        except (ValueError, TypeError) as error:  # TypeError: choices that are no list
            raise _wrong(constraint, str(error)) from None
        matcher = llguidance.LLMatcher(self._library, grammar, log_level=0)
        if matcher.is_error():
            raise _wrong(constraint, matcher.get_error())
        return matcher


class _Bytes:
    """The vocabulary as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer, vocab: int) -> None:
        known = min(tokenizer.vocab, vocab)
        special = set(tokenizer.specials.values())
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id
        self.tokens = [tokenizer.piece(i) for i in range(known)]
        self.tokens += [f"<|unused {i}|>".encode() for i in range(known, vocab)]
        self.special_token_ids = sorted(special | set(range(known, vocab)))
        self._tokenizer = tokenizer
        self._adds_space = isinstance(tokenizer, AddsSpace) and tokenizer.adds_space
        # Of two ids with the same bytes the higher one is a word, the lower a single byte.
        self._of_bytes = {piece: i for i, piece in enumerate(self.tokens[:known])}

    def __call__(self, text: bytes | str) -> list[int]:
        """Return the ids of text in the middle of an answer, without the space before a text."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        ids = self._tokenizer.encode(text)
        if not self._adds_space or not ids:
            return ids
        rest = self.tokens[ids[0]].removeprefix(b" ")
        whole = self._of_bytes.get(rest)
        first = [self._of_bytes[bytes([byte])] for byte in rest] if whole is None else [whole]
        return [*(first if rest else ()), *ids[1:]]


def _library_tokenizer(tokenizer: Tokenizer, vocab: int) -> Any:
    from llguidance import LLTokenizer, TokenizerWrapper

    wrapped = TokenizerWrapper(_Bytes(tokenizer, vocab))
    return LLTokenizer(wrapped, n_vocab=vocab, eos_token=tokenizer.eos_id)


def _wrong(constraint: Constraint, why: str) -> RequestError:
    return RequestError(
        f"constraint: this {constraint.kind} is not understood ({_first_line(why)}); one that "
        "llguidance reads is expected. Correct it or simplify it."
    )


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")
