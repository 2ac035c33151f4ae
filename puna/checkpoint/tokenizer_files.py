"""Which files beside the weights are a tokenizer."""

from pathlib import Path

from puna.tokenizer.interface import Tokenizer

NAMES = ("tokenizer.model", "tokenizer.json")


def find_tokenizer(folder: Path) -> Tokenizer | None:
    """Load the tokenizer of a model folder, or return None where it holds none."""
    if not has_tokenizer(folder):
        return None
    from puna.tokenizer.load import load_tokenizer_file

    return load_tokenizer_file(folder)


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder holds a tokenizer that puna reads."""
    return any((folder / name).exists() for name in NAMES) or any(folder.glob("tok*.bin"))
