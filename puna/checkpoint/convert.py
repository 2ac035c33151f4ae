"""One converter between all formats, which can prove that the copy computes what the original does.

Tensors stream from the source to the writer, so a conversion holds little more than one file of the
target. The target stands only when it is whole, and with `verify` only when its logits agree.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from puna.checkpoint.gguf import ENCODE, save_gguf
from puna.checkpoint.gguf_blocks import TYPES
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.llama2c import save_llama2c, vocabulary_of
from puna.checkpoint.load import load_model, load_tokenizer
from puna.checkpoint.meta import save_meta
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.stored import Checkpoint, Low
from puna.errors import FormatError, PunaError, RequestError
from puna.log import note
from puna.model.llama import Llama
from puna.quant.fp8 import Fp8Weight
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.llama2c import write_llama2c
from puna.tokenizer.sentence import SentencePieceTokenizer

Format = Literal["hf", "meta", "gguf", "llama2c"]
Number = Literal["float32", "float16", "bfloat16", "q8_0", "q4_0"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_STORED = {"F16": torch.float16, "BF16": torch.bfloat16}
_SUFFIXES = {"gguf": ".gguf", "llama2c": ".bin"}  # of the formats that are one file
_GGUF_KINDS = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "q8_0": "Q8_0",
    "q4_0": "Q4_0",
}

# Half a unit in the last place of float32, in which both models are compared.
_FLOAT32_ROUNDING = 2.0**-24

_PROBE_ROWS, _PROBE_TOKENS, _PROBE_SEED = 2, 32, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How far a copy's logits are from its source's, in float32, and how much of it rounding is."""

    difference: float  # the largest |logit - logit| between source and copy
    unexplained: float  # the same after the source's weights are rounded as the copy's are
    bound: float  # of the unexplained part


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was written, with its proof where one was asked for."""

    target: Path
    to: Format
    written_bytes: int
    vocabulary: Path | None = None  # of llama2.c, which keeps it in a file of its own
    proof: Proof | None = None


def convert(
    source: Path | str,
    target: Path | str,
    to: Format,
    *,
    verify: bool = False,
    dtype: Number | None = None,
    shards: int = 1,
    tokenizer: Path | str | None = None,
) -> Conversion:
    """Write a model in another format; nothing is left at `target` unless all of it went well.

    Args:
        to: "hf" and "meta" make a folder, "gguf" and "llama2c" a file.
        verify: load both in float32 and compare their logits on fixed random ids.
        dtype: of the written matrices; None keeps each tensor's own (quantized ones become
            float32). "q8_0" and "q4_0" exist in GGUF only, and llama2.c knows float32 only.
        shards: files of a Meta folder, one a device.
        tokenizer: a tokenizer for a source that comes without one.
    Raises:
        RequestError: the target exists, or an argument does not suit the format.
        FormatError: the source is damaged, its tokenizer does not match its weights, or the logits
            differ by more than rounding to the written numbers explains.
        ConfigError: the format has no words for something the model computes.
    """
    target = Path(target)
    _check(target, to, dtype, shards)
    checkpoint = open_checkpoint(source)
    tok = checkpoint.tokenizer() if tokenizer is None else load_tokenizer(tokenizer)
    _check_tokenizer(tok, checkpoint)
    with _staged(target) as staged:
        _write(checkpoint, staged, to, tok, dtype, shards)
        proof = prove(checkpoint, open_checkpoint(staged)) if verify else None
        if proof is not None and not proof.unexplained <= proof.bound:
            raise FormatError(
                f"{target}: the largest logit difference to {source} is {proof.difference:.3g}, "
                f"and {proof.unexplained:.3g} of it is not rounding; at most {proof.bound:.3g} is "
                "expected. Nothing was written: choose a dtype that holds the weights."
            )
        written = _bytes_of(staged)
        vocabulary = _write_vocabulary(tok, target) if to == "llama2c" else None
    return Conversion(
        target=target, to=to, written_bytes=written, vocabulary=vocabulary, proof=proof
    )


def prove(original: Checkpoint, copy: Checkpoint) -> Proof:
    """Compare the logits of two models on fixed random ids, in float32.

    Writing in fewer bits changes logits by an amount that depends on the model, so the source is
    rounded in memory to the numbers that were written: what then still differs is not rounding.
    Of that, float32 arithmetic in 2L + 2 stages may cause 16 u sqrt(2L + 2) max|logit|, with
    u = 2^-24; the 16 leaves room for unlucky sums. A wrong order of rows gives thousands of times
    more.
    """
    model = load_model(original, dtype=torch.float32)
    expected = _probe(model)
    for name, weight in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        rounded = nn.Parameter(_rounded(weight, copy.tensors[name].dtype), requires_grad=False)
        setattr(model.get_submodule(owner), leaf, rounded)
    explained = _probe(model)
    del model, weight, rounded
    got = _probe(load_model(copy, dtype=torch.float32))
    stages = 2 * original.config.layers + 2
    return Proof(
        difference=float((expected - got).abs().max()),
        unexplained=float((explained - got).abs().max()),
        bound=16 * _FLOAT32_ROUNDING * stages**0.5 * float(expected.abs().max()),
    )


def _rounded(weight: Tensor, kind: str) -> Tensor:
    """Return float32 weights as they come back from a file that stores them as `kind`."""
    if kind in ENCODE:
        blocks = ENCODE[kind](weight).view(-1, TYPES[kind].bytes)
        return TYPES[kind].decode(blocks).view(weight.shape)
    return weight.to(_STORED.get(kind, torch.float32)).float()


def _probe(model: Llama) -> Float[Tensor, "B T V"]:
    """Return a model's logits on fixed random ids."""
    shape = (_PROBE_ROWS, min(_PROBE_TOKENS, model.config.context))
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    with torch.inference_mode():
        logits: Tensor = model(torch.randint(model.config.vocab, shape, generator=generator))
    return logits


def _check(target: Path, to: str, dtype: str | None, shards: int) -> None:
    if to not in get_args(Format):
        raise RequestError(f"convert: to={to!r}; one of {', '.join(get_args(Format))} is expected.")
    if dtype is not None and dtype not in get_args(Number):
        raise RequestError(
            f"convert: dtype={dtype!r}; one of {', '.join(get_args(Number))} is expected."
        )
    for path in (target, *((vocabulary_of(target),) if to == "llama2c" else ())):
        if path.exists():
            raise RequestError(
                f"{path}: something is there already; a new path is expected. Choose another "
                "target or remove it."
            )
    expected, given = _SUFFIXES.get(to), target.suffix.lower()
    if expected is not None and given != expected:
        raise RequestError(
            f"{target}: {to} is a file whose name ends in {expected}, by which programs know it. "
            "Give the target that ending."
        )
    if expected is None and given in _SUFFIXES.values():
        raise RequestError(
            f"{target}: {to} is a folder; a name that ends in {given} is expected of a file. "
            "Choose another target, or another format."
        )
    if dtype in ("q8_0", "q4_0") and to != "gguf":
        raise RequestError(f"convert: {dtype} is a number format of gguf; {to} cannot hold it.")
    if to == "llama2c" and dtype not in (None, "float32"):
        raise RequestError(f"convert: llama2.c files hold float32; dtype={dtype} was given.")
    if shards < 1:
        raise RequestError(f"convert: shards={shards} was given; 1 or more is expected.")
    if shards != 1 and to != "meta":
        raise RequestError(f"convert: shards={shards} was given; only Meta folders are cut so.")


def _check_tokenizer(tok: Tokenizer | None, checkpoint: Checkpoint) -> None:
    if tok is not None and tok.vocab != checkpoint.config.vocab:
        raise FormatError(
            f"{checkpoint.path}: the tokenizer has {tok.vocab} ids and the embedding "
            f"{checkpoint.config.vocab} rows; they must be equal. Give the tokenizer that belongs "
            "to the weights."
        )


def _write(
    checkpoint: Checkpoint,
    target: Path,
    to: Format,
    tok: Tokenizer | None,
    dtype: Number | None,
    shards: int,
) -> None:
    weights, config = checkpoint.weights(), checkpoint.config
    template, stops = checkpoint.chat_template, checkpoint.stop_ids
    lows = _kept_fp8(checkpoint) if dtype is None else {}
    torch_dtype = None if dtype is None else _DTYPES.get(dtype)
    match to:
        case "hf":
            save_huggingface(
                weights,
                config,
                target,
                tokenizer=tok,
                dtype=torch_dtype,
                chat_template=template,
                stop_ids=stops,
                lows=lows,
            )
        case "meta":
            save_meta(
                weights,
                config,
                target,
                shards=shards,
                tokenizer=tok,
                dtype=torch_dtype,
                chat_template=template,
                stop_ids=stops,
                lows=lows,
            )
        case "gguf":
            save_gguf(
                weights,
                config,
                target,
                tokenizer=tok,
                kind=None if dtype is None else _GGUF_KINDS[dtype],
                chat_template=template,
                stop_ids=stops,
                name=checkpoint.path.stem,
            )
        case "llama2c":
            save_llama2c(weights, config, target)


def _write_vocabulary(tok: Tokenizer | None, target: Path) -> Path | None:
    """Write llama2.c's tokenizer beside its model, where the format has words for it."""
    if isinstance(tok, SentencePieceTokenizer):
        write_llama2c(tok, path := vocabulary_of(target))
        return path
    what = "the source has no tokenizer" if tok is None else "its tokenizer is of another kind"
    note(f"{target}: llama2.c reads SentencePiece vocabularies; {what}, so none was written.")
    return None


def _kept_fp8(checkpoint: Checkpoint) -> dict[str, Low]:
    """Return the fp8 matrices, which folders keep as they are; other codes are widened."""
    kept: dict[str, Low] = {}
    for name, stored in checkpoint.tensors.items():
        if stored.low is not None and stored.dtype == "F8_E4M3":
            low = stored.low()
            if isinstance(low, Fp8Weight) and low.scales.shape[1] == 1:
                kept[name.removesuffix(".weight")] = low
    return kept


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """Yield a path beside the target that becomes the target when the block ends well."""
    staged = target.with_name(f".converting-{os.getpid()}-{target.name}")
    try:
        yield staged
        staged.replace(target)
    except PunaError as error:  # a person knows the target, not where it is prepared
        raise type(error)(str(error).replace(str(staged), str(target))) from error
    finally:
        if staged.is_dir():
            shutil.rmtree(staged)
        else:
            staged.unlink(missing_ok=True)


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
