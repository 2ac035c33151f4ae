"""Models and tokenizers small enough to reason about: a byte tokenizer, an untrained Llama."""

from collections.abc import Mapping, Sequence

from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama

SPECIALS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
)


class ByteTokenizer:
    """One id a byte, and the control tokens of Llama 3.1 after them."""

    vocab = 256 + len(SPECIALS)
    bos_id = 256
    eos_id = 257
    pad_id = None
    specials: Mapping[str, int] = {name: 256 + i for i, name in enumerate(SPECIALS)}
    stop_ids = frozenset((257, 260, 261))

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        return [256] * bos + list(text.encode()) + [257] * eos

    def piece(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else SPECIALS[token_id - 256].encode()

    def decode_bytes(self, ids: Sequence[int], *, skip_special: bool = False) -> bytes:
        return b"".join(self.piece(i) for i in ids if i < 256 or not skip_special)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return self.decode_bytes(ids, skip_special=skip_special).decode(errors="replace")


def tiny_model(*, context: int = 64, seed: int = 0) -> Llama:
    """Return an untrained Llama of about 20,000 parameters."""
    config = ModelConfig(
        width=24,
        layers=2,
        heads=6,
        kv_heads=2,
        mlp_width=40,
        vocab=ByteTokenizer.vocab,
        context=context,
    )
    model = Llama(config).requires_grad_(False).eval()
    initialise(model, seed=seed, std=0.3)
    return model
