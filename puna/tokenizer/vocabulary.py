"""A tokenizer as the lists inside a GGUF file, both ways.

Pure data: the checkpoint room reads and writes the file. The keys are GGUF's own, so that its
metadata goes in and comes out as it is.
Source: ggml-org/llama.cpp, `gguf-py/gguf/constants.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from puna.errors import FormatError
from puna.tokenizer.alphabet import from_letters, to_letters
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.merges import merges_follow_ids, merges_of, split_merges
from puna.tokenizer.pieces import Kind, Piece, PieceModel, guess_kinds
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.sentence import SentencePieceTokenizer

_PREFIX = "tokenizer.ggml."
# Names under which llama.cpp knows Llama 3's way of splitting text; old files name none.
_LLAMA_3_SPLITS = (None, "llama-bpe", "llama3", "llama-v3")


def from_gguf_vocabulary(metadata: Mapping[str, Any], *, where: str = "GGUF") -> Tokenizer:
    """Build the tokenizer that GGUF metadata (`tokenizer.ggml.*`) describes.

    Other keys are ignored, so the whole metadata of a file may be given.

    Raises:
        FormatError: the lists are missing, contradict one another, or describe a tokenizer that
            is neither Llama 3's kind nor Llama 1 and 2's.
    """
    fields = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
    tokens = [_text(token, where) for token in fields.get("tokens", ())]
    if not tokens:
        raise FormatError(
            f"{where}: it holds no tokenizer.ggml.tokens; a vocabulary is expected. "
            "Give a tokenizer file beside the model."
        )
    model = fields.get("model")
    kinds = _kinds(fields.get("token_type"), str(model), tokens, where)
    match model:
        case "gpt2":
            return _from_ranks(fields, tokens, kinds, where)
        case "llama":
            return _from_pieces(fields, tokens, kinds, where)
        case _:
            raise FormatError(
                f"{where}: its tokenizer is of the kind {model!r}; 'gpt2' (Llama 3) or 'llama' "
                "(Llama 1 and 2) is expected. Give a tokenizer file beside the model."
            )


def to_gguf_vocabulary(tok: Tokenizer) -> dict[str, Any]:
    """Return the GGUF metadata (`tokenizer.ggml.*`) of a tokenizer.

    Lists of strings, floats and integers are arrays of string, f32 and i32; single integers are
    u32. Raises `FormatError` for a tokenizer that GGUF's two kinds cannot hold.
    """
    if isinstance(tok, RankTokenizer):
        fields = _ranks_fields(tok)
    elif isinstance(tok, SentencePieceTokenizer) and tok.model.is_llama:
        fields = _pieces_fields(tok)
    else:
        raise FormatError(
            f"to_gguf_vocabulary: got a {type(tok).__name__}; ranks of Llama 3 or byte-pair pieces "
            "of Llama 1 and 2 are expected. GGUF cannot hold this tokenizer."
        )
    fields |= {"bos_token_id": tok.bos_id, "eos_token_id": tok.eos_id}
    if tok.pad_id is not None:
        fields["padding_token_id"] = tok.pad_id
    return {_PREFIX + key: value for key, value in fields.items()}


def _from_ranks(
    fields: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[Kind], where: str
) -> RankTokenizer:
    if fields.get("pre") not in _LLAMA_3_SPLITS:
        raise FormatError(
            f"{where}: it splits text as {fields['pre']!r}; 'llama-bpe' is expected. "
            "This is no tokenizer of Llama 3."
        )
    count = sum(kind is Kind.NORMAL for kind in kinds)
    if any(kind is not Kind.NORMAL for kind in kinds[:count]):
        raise FormatError(
            f"{where}: special tokens stand between the ordinary ones; Llama 3's stand after them. "
            "This is no tokenizer of Llama 3."
        )
    ids = {token: n for n, token in enumerate(tokens[:count])}
    merges = split_merges(fields.get("merges", ()), where=where)
    if not merges_follow_ids(ids, merges):
        raise FormatError(
            f"{where}: its merges do not come in the order of the ids they make; Llama 3's do. "
            "This is no tokenizer of Llama 3, or its lists are damaged."
        )
    ranks = [from_letters(token, where=where) for token in tokens[:count]]
    return RankTokenizer(ranks, tokens[count:], where=where)


def _ranks_fields(tok: RankTokenizer) -> dict[str, Any]:
    letters = [to_letters(piece) for piece in tok.ranks]
    ids = {token: n for n, token in enumerate(letters)}
    return {
        "model": "gpt2",
        "pre": "llama-bpe",
        "tokens": [*letters, *tok.specials],
        "token_type": [int(Kind.NORMAL)] * len(letters) + [int(Kind.CONTROL)] * len(tok.specials),
        "merges": [f"{left} {right}" for left, right in merges_of(ids, letters)],
    }


def _from_pieces(
    fields: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[Kind], where: str
) -> SentencePieceTokenizer:
    scores = fields.get("scores", ())
    if len(scores) != len(tokens):
        raise FormatError(
            f"{where}: it holds {len(scores)} scores for {len(tokens)} tokens; one each is "
            "expected. The file is damaged: copy it again."
        )
    pieces = tuple(
        Piece(text=token, score=float(score), kind=_guarded(kind, token))
        for token, score, kind in zip(tokens, scores, kinds, strict=True)
    )
    pad = fields.get("padding_token_id")
    model = PieceModel(
        pieces=pieces,
        unknown_id=int(fields.get("unknown_token_id", 0)),
        bos_id=int(fields.get("bos_token_id", 1)),
        eos_id=int(fields.get("eos_token_id", 2)),
        pad_id=None if pad is None else int(pad),
        adds_space=bool(fields.get("add_space_prefix", True)),
    )
    return SentencePieceTokenizer.from_model(model, where=where)


def _pieces_fields(tok: SentencePieceTokenizer) -> dict[str, Any]:
    pieces = tok.model.pieces
    return {
        "model": "llama",
        "pre": "default",
        "tokens": [piece.text for piece in pieces],
        "scores": [piece.score for piece in pieces],
        "token_type": [int(piece.kind) for piece in pieces],
        "unknown_token_id": tok.model.unknown_id,
        "add_space_prefix": tok.adds_space,
    }


def _guarded(kind: Kind, token: str) -> Kind:
    """Make a tag that was added to the vocabulary a control token: text must not become one."""
    is_tag = token.startswith("<") and token.endswith(">")
    return Kind.CONTROL if kind is Kind.USER and is_tag else kind


def _kinds(
    codes: Sequence[int] | None, model: str, tokens: Sequence[str], where: str
) -> list[Kind]:
    if codes is None and model == "llama":
        return guess_kinds(tokens)
    codes = () if codes is None else codes
    if len(codes) != len(tokens):
        raise FormatError(
            f"{where}: it holds {len(codes)} token types for {len(tokens)} tokens; one each is "
            "expected. The file is damaged: copy it again."
        )
    known = set(Kind)
    if unknown := [int(code) for code in codes if int(code) not in known]:
        raise FormatError(
            f"{where}: it holds the token type {unknown[0]}; 1 to 6 are known. "
            "The file is damaged: copy it again."
        )
    return [Kind(int(code)) for code in codes]


def _text(token: str | bytes, where: str) -> str:
    if isinstance(token, str):
        return token
    try:
        return token.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{where}: the token {token!r} is no UTF-8; text is expected. The file is damaged."
        ) from error
