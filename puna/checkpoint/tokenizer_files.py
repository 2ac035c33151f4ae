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


def tokenizer_source(folder: Path) -> dict[str, str]:
    """Name the file that `find_tokenizer` reads, as an entry of a checkpoint's sources."""
    names = [name for name in NAMES if (folder / name).exists()]
    names += sorted(file.name for file in folder.glob("tok*.bin"))
    return {"tokenizer": names[0]} if names else {}


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder holds a tokenizer that puna reads."""
    return bool(tokenizer_source(folder))
