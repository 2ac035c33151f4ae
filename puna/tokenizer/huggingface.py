"""`tokenizer.json`: a `RankTokenizer` where it is of Llama 3's kind, else read by the library.

The published Llama 3 files and those that puna writes are byte-pair ranks in another spelling; they
become a `RankTokenizer`, ten times faster than the library. Any other byte-pair file (Llama 2
converted, foreign models) is encoded by Hugging Face's `tokenizers`, if that is installed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.errors import FormatError, NotFoundError
from puna.tokenizer.alphabet import from_letters
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.library import LibraryTokenizer
from puna.tokenizer.merges import merges_follow_ids, split_merges
from puna.tokenizer.ranks import PATTERN, RankTokenizer
from puna.tokenizer.specials import BEGIN_OF_TEXT, END_OF_TEXT

# How Llama 3's file splits text: its expression, then bytes as letters. The published file and
# ours say exactly this; anything else is left to the library.
SPLIT = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
BYTE_LETTERS = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


def read_tokenizer_json(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`; names of begin and end come from the files beside it.

    Raises:
        NotFoundError: there is no such file.
        FormatError: the file is damaged or of a kind that puna does not know.
        ExtraError: the file needs the `tokenizers` library, which is not installed.
    """
    spec = read_json(path)
    if not isinstance(spec.get("model"), dict) or not isinstance(spec["model"].get("vocab"), dict):
        raise FormatError(
            f"{path}: it holds no model with a vocabulary of byte pairs; a tokenizer.json is "
            "expected. Give the file that belongs to the model."
        )
    ranked = _ranks_of(spec, where=str(path))
    return ranked or LibraryTokenizer(spec, named_roles(path.parent), where=str(path))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file; give the path of a tokenizer.json.") from error
    except ValueError as error:
        raise FormatError(
            f"{path}: this is not valid JSON ({error}). The file is truncated: copy it again."
        ) from error
    if not isinstance(value, dict):
        raise FormatError(f"{path}: got a {type(value).__name__}; a JSON object is expected.")
    return value


def named_roles(folder: Path) -> dict[str, str]:
    """Return the tokens that a folder's configuration names, such as `bos_token`."""
    roles: dict[str, str] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (folder / name).is_file():
            continue
        for role, token in read_json(folder / name).items():
            text = token.get("content") if isinstance(token, dict) else token
            if role.endswith("_token") and isinstance(text, str):
                roles.setdefault(role, text)
    return roles


def added_tokens(spec: Mapping[str, Any], *, where: str) -> dict[str, int]:
    """Return names and ids of the tokens that stand beside the model's vocabulary."""
    try:
        return {str(token["content"]): int(token["id"]) for token in spec.get("added_tokens") or ()}
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{where}: an added token is damaged ({error!r}); its id and content are expected."
        ) from error


def _ranks_of(spec: Mapping[str, Any], *, where: str) -> RankTokenizer | None:
    """Return the tokenizer where ids are ranks and text is split as in Llama 3, else None."""
    model = spec["model"]
    added = added_tokens(spec, where=where)
    if not _splits_like_llama_3(spec) or BEGIN_OF_TEXT not in added or END_OF_TEXT not in added:
        return None
    ids = {token: n for token, n in model["vocab"].items() if token not in added}
    tokens = sorted(ids, key=ids.__getitem__)
    names = sorted(added, key=added.__getitem__)
    if [*map(ids.__getitem__, tokens), *map(added.__getitem__, names)] != _count(tokens, names):
        return None
    merges = split_merges(model.get("merges") or (), where=where)
    if not merges_follow_ids(ids, merges):
        return None
    return RankTokenizer([from_letters(t, where=where) for t in tokens], names, where=where)


def _count(tokens: Sequence[str], names: Sequence[str]) -> list[int]:
    return list(range(len(tokens) + len(names)))


def _splits_like_llama_3(spec: Mapping[str, Any]) -> bool:
    model = spec["model"]
    splitter = spec.get("pre_tokenizer") or {}
    steps = splitter.get("pretokenizers", [])
    plain = not any(
        model.get(key)
        for key in ("byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix")
    )
    return (
        plain
        and model.get("type", "BPE") == "BPE"
        and not spec.get("normalizer")
        and len(steps) == 2
        and steps[0] == SPLIT
        and all(steps[1].get(k) == BYTE_LETTERS[k] for k in ("type", "add_prefix_space"))
        and not steps[1].get("use_regex", True)
    )
