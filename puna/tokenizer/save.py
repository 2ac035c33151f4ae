"""A tokenizer as files that puna, Meta's code, transformers and sentencepiece load."""

import json
from pathlib import Path
from typing import Literal

from puna.errors import RequestError
from puna.files import atomic_file, write_json, write_text
from puna.tokenizer.export import special_tokens_map, tokenizer_config, tokenizer_json
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.library import LibraryTokenizer
from puna.tokenizer.ranks import RankTokenizer, write_ranks
from puna.tokenizer.sentence import SentencePieceTokenizer

Layout = Literal["plain", "huggingface"]


def save_tokenizer(tok: Tokenizer, folder: Path, *, layout: Layout = "plain") -> None:
    """Write `tokenizer.model` and the JSON files of transformers into `folder`.

    Args:
        tok: a tokenizer of puna. One read from a foreign `tokenizer.json` has no
            `tokenizer.model`, and a unigram model no `tokenizer.json`.
        folder: made where it does not exist; each file is written atomically.
        layout: in a "huggingface" folder a rank file goes to `original/`, as in Meta's own
            repositories: llama.cpp's converter takes any `tokenizer.model` beside the weights for
            a SentencePiece model and fails on ranks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    match tok:
        case RankTokenizer():
            home = folder / "original" if layout == "huggingface" else folder
            home.mkdir(exist_ok=True)
            write_ranks(tok.ranks, home / "tokenizer.model")
        case SentencePieceTokenizer():
            with atomic_file(folder / "tokenizer.model") as partial:
                partial.write_bytes(tok.proto)
        case LibraryTokenizer():
            pass
        case _:
            raise RequestError(
                f"save_tokenizer: got a {type(tok).__name__}; a tokenizer that puna loaded or "
                "trained is expected."
            )
    spec = tokenizer_json(tok)
    if spec is None:
        return
    write_text(folder / "tokenizer.json", json.dumps(spec, ensure_ascii=False) + "\n")
    write_json(folder / "tokenizer_config.json", tokenizer_config(tok))
    write_json(folder / "special_tokens_map.json", special_tokens_map(tok))
