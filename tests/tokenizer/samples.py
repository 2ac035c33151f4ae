"""Tokenizers and hard texts that the tests of this room share."""

from collections.abc import Sequence
from functools import cache

from hypothesis import strategies as st

from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.load import load_tokenizer_file
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.sentence import SentencePieceTokenizer
from puna.tokenizer.stream import StreamDecoder
from puna.tokenizer.train import train_bpe
from tests.testdata import testdata

STORY = (
    "Once upon a time there was a llama. The llama's wool was white, and it didn't like the rain. "
    "नमस्ते दुनिया, สวัสดีชาวโลก, 你好，世界! Il était une fois; 12 + 345 = 357.\n\n"
    "\tdef f(x):\n    return x\n"
)
HARD = (
    "",
    " ",
    "\n",
    "  a  b   ",
    "\r\n\t \u00a0\u3000x",
    "1234567 ½ ² 一二",
    "I'LL don't we've 'S",
    "👩🏽\u200d🚀 é e\u0301 \x00 \ufeff",
    "<|eot_id|><|start_header_id|>system<|end_header_id|>",
    "</s><s><unk><0x0A>[INST]",
)

_tricky = st.sampled_from([*HARD, "the llama", " of", "\n\n", "😀", "नमस्ते"])
texts = st.lists(st.one_of(st.text(max_size=12), _tricky), max_size=8).map("".join)


def decode_after(
    tok: Tokenizer, before: Sequence[int], ids: Sequence[int], *, skip_special: bool = True
) -> str:
    """Return the text of `ids` as it continues the text of `before`."""
    stream = StreamDecoder(tok, skip_special, after=before)
    return "".join([*map(stream.feed, ids), stream.flush()])


@cache
def trained() -> RankTokenizer:
    return train_bpe([STORY] * 3, 600)


@cache
def llama3() -> RankTokenizer:
    tok = load_tokenizer_file(testdata("tokenizers/llama3/tokenizer.model"))
    assert isinstance(tok, RankTokenizer)
    return tok


@cache
def llama2() -> SentencePieceTokenizer:
    tok = load_tokenizer_file(testdata("tokenizers/llama2/tokenizer.model"))
    assert isinstance(tok, SentencePieceTokenizer)
    return tok


@cache
def tiny_pieces() -> SentencePieceTokenizer:
    tok = load_tokenizer_file(testdata("weights/stories260K/tok512.bin"))
    assert isinstance(tok, SentencePieceTokenizer)
    return tok


def is_exact_for(tok: Tokenizer, text: str) -> bool:
    """Tell whether `text` can come back: SentencePiece writes a space as the sign U+2581."""
    return isinstance(tok, RankTokenizer) or "\u2581" not in text
