"""A new vocabulary of byte pairs, learnt from text, in Llama 3's format.

`rustbpe` counts and merges; the result is a `RankTokenizer` with Llama 3's bytes first, the learnt
tokens after them and its 256 special tokens last, so everything that reads Llama 3 reads it too.
"""

from collections.abc import Iterable, Iterator

from puna.errors import ExtraError, RequestError
from puna.tokenizer.alphabet import BYTE_ORDER
from puna.tokenizer.interface import require_unicode
from puna.tokenizer.ranks import PATTERN, RankTokenizer
from puna.tokenizer.specials import SLOTS, special_names

_BYTES = 256
_DIGITS = r"\p{N}{1,3}"
_LARGE_VOCAB = 32_768  # from here on tokens of several digits pay for their ids


def train_bpe(
    texts: Iterable[str], vocab: int, *, split_digits: bool | None = None
) -> RankTokenizer:
    """Learn a vocabulary; the same texts give the same vocabulary.

    Args:
        texts: read once, one at a time; only the counts of distinct words are kept.
        vocab: number of ids, the 256 bytes and the 256 special tokens included.
        split_digits: learn no token of several digits, so that a number is its digits. Text is
            split by Llama 3's own expression all the same; there is nothing for it to join. None
            splits below 32,768 ids: up to 8,192 it costs prose and code at most 0.7 % more tokens
            (838 of 8,192 ids would go to numbers), at 32,768 it costs 1 to 2 %.
    Raises:
        RequestError: `vocab` is too small, there is no text, or it holds too few distinct pairs.
        ExtraError: the library `rustbpe` is not installed.
    """
    if vocab < _BYTES + SLOTS:
        raise RequestError(
            f"train_bpe: got vocab={vocab}; at least {_BYTES + SLOTS} are expected, for "
            f"{_BYTES} bytes and {SLOTS} special tokens. Ask for more."
        )
    try:
        import rustbpe
    except ImportError as error:
        raise ExtraError(
            "training a tokenizer needs the extra `train`: pip install 'puna[train]'."
        ) from error
    if split_digits is None:
        split_digits = vocab < _LARGE_VOCAB
    counter = _Counter()
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(
        counter.watch(texts), vocab - SLOTS, pattern=_training_pattern(split_digits)
    )
    if not counter.characters:
        raise RequestError(
            f"train_bpe: got {counter.texts} texts without a character; text is expected. "
            "Give documents to learn from."
        )
    learnt = [bytes(piece) for piece, rank in trainer.get_mergeable_ranks() if rank >= _BYTES]
    if len(learnt) != vocab - SLOTS - _BYTES:
        raise RequestError(
            f"train_bpe: {counter.characters} characters in {counter.texts} texts give "
            f"{len(learnt) + _BYTES + SLOTS} ids at most; vocab={vocab} was asked for. "
            "Give more text or ask for fewer."
        )
    return RankTokenizer([*(bytes([b]) for b in BYTE_ORDER), *learnt], special_names())


def _training_pattern(split_digits: bool) -> str:
    return PATTERN.replace(_DIGITS, r"\p{N}") if split_digits else PATTERN


class _Counter:
    """Texts on their way to the trainer, checked and counted."""

    def __init__(self) -> None:
        self.texts = self.characters = 0

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            require_unicode(text)
            self.texts += 1
            self.characters += len(text)
            yield text
