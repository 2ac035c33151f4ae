"""A checkpoint in, a folder of few bits out: whole, or not there at all.

Every kind of checkpoint that puna opens can be the source; the target is a Hugging Face folder
whose matrices are mapped and multiplied as they lie. puna.quant decides the codes.
"""

import shutil
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.quantization import Layout
from puna.checkpoint.stored import Checkpoint, Low
from puna.errors import RequestError
from puna.quant.calibrate import Calibration
from puna.quant.recipe import Recipe, quantized
from puna.tokenizer.interface import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much room a model takes on disk."""

    source_bytes: int
    target_bytes: int
    source_bits: float  # per weight, over all tensors
    target_bits: float
    matrix_bits: float  # per weight, of the matrices that were rounded
    rounded_share: float  # of all weights


def check_target(checkpoint: Checkpoint, target: Path) -> None:
    """Stop before hours of work: something at the target, no room, a source that was rounded.

    Raises:
        RequestError: it is so.
    """
    if target.exists():
        raise RequestError(
            f"{target}: something is there already; a new path is expected. Choose another target "
            "or remove it."
        )
    if target.suffix == ".gguf":
        raise RequestError(
            f"{target}: a folder is written; a name that ends in .gguf is expected of a file. For "
            "GGUF use `puna convert --to gguf --dtype q4_0`."
        )
    least = checkpoint.config.parameters // 2  # four bits a weight and no scales
    free = shutil.disk_usage(_standing(target)).free
    if free < least:
        raise RequestError(
            f"{target}: {free:,} bytes are free there; at least {least:,} are needed. Make room or "
            "choose another disk."
        )
    if any(stored.low is not None for stored in checkpoint.tensors.values()):
        raise RequestError(
            f"{checkpoint.path}: the weights are stored in few bits already; rounding them again "
            "would lose more. Give the original."
        )


def _standing(path: Path) -> Path:
    """Return the nearest folder above a path that is there already."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def quantize_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    tokenizer: Tokenizer | None = None,
    layout: Layout | None = None,
) -> Sizes:
    """Write the quantized folder.

    Args:
        calibration: text to round on; None rounds to the nearest.
        tokenizer: to lie beside the weights; None takes the source's.
    Raises:
        RequestError: something stands at `target`, or the source was rounded before.
        FormatError: a weight is NaN or infinite.
    """
    check_target(checkpoint, target)
    model = load_model(checkpoint)
    lows: dict[str, Low] = {}
    norms: dict[str, Tensor] = {}
    for name, made in quantized(model, recipe, calibration):
        if isinstance(made, Tensor):
            norms[f"{name}.weight"] = made
        else:
            lows[name] = made
    del model
    save_huggingface(
        ChainMap(norms, checkpoint.weights()),  # type: ignore[arg-type]
        checkpoint.config,
        target,
        tokenizer=tokenizer or checkpoint.tokenizer(),
        chat_template=checkpoint.chat_template,
        stop_ids=checkpoint.stop_ids,
        lows=lows,
        layout=layout,
    )
    return _sizes(checkpoint, open_checkpoint(target), lows)


def _sizes(source: Checkpoint, target: Checkpoint, lows: dict[str, Low]) -> Sizes:
    """Count bytes; a head that a tied model got for itself adds its bits, not its weights."""
    weights = source.config.parameters
    before = sum(stored.stored_bytes for stored in source.tensors.values())
    after = sum(stored.stored_bytes for stored in target.tensors.values())
    counts = {name: low.shape[0] * low.shape[1] for name, low in lows.items()}
    bits = sum(low.bits_per_weight * counts[name] for name, low in lows.items())
    return Sizes(
        source_bytes=before,
        target_bytes=after,
        source_bits=8 * before / weights,
        target_bits=8 * after / weights,
        matrix_bits=bits / sum(counts.values()),
        rounded_share=sum(counts.values()) / weights,
    )
