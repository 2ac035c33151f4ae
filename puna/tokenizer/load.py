"""Any tokenizer file, told apart by its content: a name such as `tokenizer.model` says too little.

Llama 3's `tokenizer.model` holds ranks, Llama 2's a SentencePiece model; `tokenizer.json` and
llama2.c's `tok*.bin` are the other two kinds. Each kind's library is imported for its own files.
"""

import re
from pathlib import Path

from puna.errors import FormatError, NotFoundError
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.specials import special_names

# The first line of a rank file, and the first field of a SentencePiece model (a piece, that is
# field 1 of bytes, whose own first field is its text).
_RANK_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+(\r?\n|$)")
_PIECE = re.compile(rb"\x0a.{1,2}\x0a", re.DOTALL)


def load_tokenizer_file(path: Path | str) -> Tokenizer:
    """Load a tokenizer from its file, or from a folder that holds one.

    In a folder `tokenizer.model` is read first (with the names of its special tokens from
    `tokenizer_config.json`), then `tokenizer.json`, then llama2.c's `tok*.bin`.

    Raises:
        NotFoundError: there is no such file, or the folder holds none.
        FormatError: the file is damaged or no tokenizer.
        ExtraError: a foreign `tokenizer.json` needs a library that is not installed.
    """
    path = Path(path)
    return _from_folder(path) if path.is_dir() else _from_file(path)


def _from_folder(folder: Path) -> Tokenizer:
    model, spec = folder / "tokenizer.model", folder / "tokenizer.json"
    if model.is_file():
        tok = _from_file(model)
        return _read_json(spec) if spec.is_file() and _adds_tokens(spec, tok) else tok
    if spec.is_file():
        return _read_json(spec)
    found = sorted(folder.glob("tok*.bin"))
    if len(found) == 1:
        return _from_file(found[0])
    raise NotFoundError(
        f"{folder}: it holds {len(found)} llama2.c vocabularies and neither tokenizer.model nor "
        "tokenizer.json; one tokenizer is expected. Give the path of the tokenizer file."
    )


def _from_file(path: Path) -> Tokenizer:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path}: no such file; give a tokenizer file or a folder that holds one."
        ) from error
    if head.lstrip().startswith(b"{"):
        return _read_json(path)
    if _RANK_LINE.match(head):
        from puna.tokenizer.ranks import RankTokenizer, read_ranks

        return RankTokenizer(ranks := read_ranks(path), _names(path, len(ranks)), where=str(path))
    if _PIECE.match(head):
        from puna.tokenizer.sentence import read_sentencepiece

        return read_sentencepiece(path)
    from puna.tokenizer.llama2c import looks_like_llama2c, read_llama2c

    if looks_like_llama2c(head):
        return read_llama2c(path)
    what = "an empty file" if not head else f"a file that begins with {head[:8]!r}"
    raise FormatError(
        f"{path}: got {what}; a rank file, a SentencePiece model, a tokenizer.json or a llama2.c "
        "vocabulary is expected. Give the tokenizer's own file, not the weights."
    )


def _names(path: Path, count: int) -> tuple[str, ...]:
    """Return the special tokens of a rank file: as the folder names them, else Meta's."""
    config = path.parent / "tokenizer_config.json"
    if not config.is_file():
        return special_names()
    from puna.tokenizer.huggingface import read_json

    listed = read_json(config).get("added_tokens_decoder") or {}
    named = {int(n): str(token["content"]) for n, token in listed.items()}
    in_order = sorted(named)
    if not in_order or in_order != list(range(count, count + len(in_order))):
        return special_names()
    return tuple(named[n] for n in in_order)


def _read_json(path: Path) -> Tokenizer:
    from puna.tokenizer.huggingface import read_tokenizer_json

    return read_tokenizer_json(path)


def _adds_tokens(spec: Path, tok: Tokenizer) -> bool:
    """Tell whether a tokenizer.json knows more ids than a SentencePiece model beside it."""
    from puna.tokenizer.ranks import RankTokenizer

    if isinstance(tok, RankTokenizer):
        return False
    from puna.tokenizer.huggingface import added_tokens, read_json
    from puna.tokenizer.sentence import SentencePieceTokenizer

    if not isinstance(tok, SentencePieceTokenizer):
        return False
    return any(n >= tok.vocab for n in added_tokens(read_json(spec), where=str(spec)).values())
