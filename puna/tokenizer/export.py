"""The three JSON files by which transformers and its kin load a tokenizer of puna.

`tokenizer.json` holds vocabulary and merges, `tokenizer_config.json` the class and the roles of the
special tokens, `special_tokens_map.json` the roles alone. Equal ids are proved against the library.
"""

from collections.abc import Mapping
from typing import Any

from puna.tokenizer.alphabet import to_letters
from puna.tokenizer.huggingface import BYTE_LETTERS, SPLIT
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.library import LibraryTokenizer
from puna.tokenizer.merges import merges_of
from puna.tokenizer.pieces import SPACE, Kind
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.sentence import SentencePieceTokenizer

Table = dict[str, Any]


def tokenizer_json(tok: Tokenizer) -> Table | None:
    """Return the content of `tokenizer.json`, or None where its model cannot be written as one."""
    match tok:
        case RankTokenizer():
            return _ranks(tok)
        case SentencePieceTokenizer() if tok.model.is_llama:
            return _pieces(tok)
        case LibraryTokenizer():
            return dict(tok.spec)
        case _:
            return None


def special_tokens_map(tok: Tokenizer) -> dict[str, str]:
    """Return which token plays which role."""
    roles = {"bos_token": tok.bos_id, "eos_token": tok.eos_id}
    if tok.pad_id is not None:
        roles["pad_token"] = tok.pad_id
    if isinstance(tok, SentencePieceTokenizer):
        return {"unk_token": tok.model.pieces[tok.model.unknown_id].text} | _named(tok, roles)
    return _named(tok, roles)


def tokenizer_config(tok: Tokenizer) -> Table:
    """Return the content of `tokenizer_config.json`."""
    return {
        "added_tokens_decoder": {
            str(token_id): {key: value for key, value in token.items() if key != "id"}
            for name, token_id in _control_tokens(tok).items()
            for token in [_added(name, token_id)]
        },
        "clean_up_tokenization_spaces": False,  # decoding must give back the exact text
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special_tokens_map(tok),
    }


def _ranks(tok: RankTokenizer) -> Table:
    letters = [to_letters(piece) for piece in tok.ranks]
    ids = {token: n for n, token in enumerate(letters)}
    model = {
        "type": "BPE",
        "byte_fallback": False,
        "fuse_unk": False,
        "ignore_merges": True,  # a whole word that is a token is taken before any merge
        "vocab": ids,
        "merges": [f"{left} {right}" for left, right in merges_of(ids, letters)],
    }
    return _table(
        tok,
        model,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [SPLIT, BYTE_LETTERS]},
        decoder=BYTE_LETTERS | {"add_prefix_space": True, "use_regex": True},
    )


def _pieces(tok: SentencePieceTokenizer) -> Table:
    pieces = tok.model.pieces
    text = {p.text: n for n, p in enumerate(pieces) if p.kind in (Kind.NORMAL, Kind.USER)}
    by_score = sorted(text, key=lambda piece: (-pieces[text[piece]].score, text[piece]))
    model = {
        "type": "BPE",
        "unk_token": pieces[tok.model.unknown_id].text,
        "byte_fallback": any(piece.kind is Kind.BYTE for piece in pieces),
        "fuse_unk": True,
        "ignore_merges": False,
        "vocab": {piece.text: n for n, piece in enumerate(pieces)},
        "merges": [f"{left} {right}" for left, right in merges_of(text, by_score)],
    }
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    unspaced = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    first = [{"type": "Prepend", "prepend": SPACE}] if tok.adds_space else []
    last = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if tok.adds_space else []
    return _table(
        tok,
        model,
        normalizer={"type": "Sequence", "normalizers": [*first, spaces]},
        decoder={
            "type": "Sequence",
            "decoders": [unspaced, {"type": "ByteFallback"}, {"type": "Fuse"}, *last],
        },
    )


def _table(tok: Tokenizer, model: Table, **steps: Table) -> Table:
    """Put a model and its steps into the frame of a `tokenizer.json`."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(name, n) for name, n in _control_tokens(tok).items()],
        "normalizer": steps.get("normalizer"),
        "pre_tokenizer": steps.get("pre_tokenizer"),
        "post_processor": _begin_of_text(tok),
        "decoder": steps["decoder"],
        "model": model,
    }


def _begin_of_text(tok: Tokenizer) -> Table:
    """Return the step by which the library puts begin-of-text before a text."""
    name = _named(tok, {"bos": tok.bos_id})["bos"]
    begin = {"SpecialToken": {"id": name, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            begin,
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": name, "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {name: {"id": name, "ids": [tok.bos_id], "tokens": [name]}},
    }


def _control_tokens(tok: Tokenizer) -> dict[str, int]:
    if isinstance(tok, SentencePieceTokenizer):
        unknown = tok.model.unknown_id
        return {tok.model.pieces[unknown].text: unknown, **tok.specials}
    return dict(tok.specials)


def _added(name: str, token_id: int) -> Table:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": name, **flags, "special": True}


def _named(tok: Tokenizer, roles: Mapping[str, int]) -> dict[str, str]:
    return {role: tok.piece(token_id).decode() for role, token_id in roles.items()}
