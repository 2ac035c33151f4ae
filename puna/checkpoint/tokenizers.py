"""The tokenizer of a model: loaded without the weights, and checked against them.

`puna.load_tokenizer` is the one here. Nothing needs torch.
"""

from pathlib import Path

from puna.checkpoint.open import RUN_MODEL, is_gguf, open_checkpoint, resolve
from puna.checkpoint.stored import Checkpoint
from puna.checkpoint.tokenizer_files import has_tokenizer
from puna.errors import FormatError, NotFoundError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.load import load_tokenizer_file

# Trainers round the rows of an embedding up to one of these, for the speed of matrix kernels
# (transformers: resize_token_embeddings, pad_to_multiple_of); DeepSeek-Coder has 32,022 tokens in
# 32,256 rows.
_PADDED_TO = (8, 16, 32, 64, 128, 256)


def check_tokenizer(tok: Tokenizer, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer of another model: as many tokens as rows are expected, but for padding.

    Raises:
        FormatError: the numbers do not belong together.
    """
    rows = checkpoint.config.vocab
    if rows not in (tok.vocab, *(-(-tok.vocab // n) * n for n in _PADDED_TO)):
        raise FormatError(
            f"{checkpoint.path}: the tokenizer has {tok.vocab:,} ids and the embedding {rows:,} "
            "rows; they should be equal. Give the tokenizer that belongs to the weights."
        )


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Load a tokenizer: its file, or that of a model folder, a run folder or a .gguf file.

    Raises:
        NotFoundError: nothing is there, or the model comes without a tokenizer.
        FormatError: the file is no tokenizer.
    """
    place = resolve(path, tokenizer_only=True)
    if is_gguf(place):
        tokenizer = open_checkpoint(place).tokenizer()
        if tokenizer is None:
            raise NotFoundError(f"{place}: this file holds no tokenizer. Give one by itself.")
        return tokenizer
    inner = place / RUN_MODEL
    if place.is_dir() and has_tokenizer(inner) and not has_tokenizer(place):
        place = inner
    return load_tokenizer_file(place)
