"""From a checkpoint to a model that runs, with no weight in memory twice.

The model is built without memory (on the meta device) and its parameters are replaced one by one;
a weight that needs no conversion stays a view of the mapped file. A conversion holds one tensor of
the old kind at a time.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from puna.checkpoint.open import open_checkpoint
from puna.checkpoint.stored import Checkpoint, Low
from puna.checkpoint.tokenizers import check_tokenizer, load_tokenizer
from puna.model.llama import Llama
from puna.ops.lowbit import Packed, pack
from puna.quant.codes import Codes
from puna.quant.linear import QuantLinear, RowEmbedding
from puna.quant.recipe import as_layer
from puna.quant.words import Words

__all__ = ["check_tokenizer", "load_model", "load_tokenizer"]

# Quantized weights become float32, which holds them exactly.
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}


def load_model(
    source: Path | str | Checkpoint,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    as_stored: bool = False,
) -> Llama:
    """Load a model to run it: in evaluation mode, without gradients.

    Args:
        dtype: of all weights in memory; None takes that of the stored embedding.
        as_stored: multiply by quantized matrices as they lie in the file; otherwise they are
            widened to `dtype`, for training and conversion.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    dtype = dtype or stored_dtype(checkpoint)
    with torch.device("meta"), Undrawn():
        model = Llama(checkpoint.config)
    for name in checkpoint.tensor_names():
        if as_stored and checkpoint.tensors[name].low is not None:
            _place_low(model, name.removesuffix(".weight"), checkpoint, dtype, device)
            continue
        if as_stored and name == "embed.weight" and keeps_embedding(checkpoint, dtype, device):
            packed = pack("bf16", checkpoint.tensor(name))
            embedding = RowEmbedding(packed, torch.empty(0, dtype=dtype))
            setattr(model, name.removesuffix(".weight"), embedding)
            continue
        weight = checkpoint.tensor(name, dtype).to(device)
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(weight.contiguous(), requires_grad=False)
        setattr(model.get_submodule(owner), leaf, parameter)
    left = [name for name, weight in model.named_parameters() if weight.is_meta]
    assert not left, f"{left} were not loaded"
    return model.eval().requires_grad_(False)


def _place_low(
    model: Llama,
    name: str,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Put a matrix into the model as its codes; an embedding and a tied head share theirs."""
    stored = checkpoint.tensors[f"{name}.weight"]
    assert stored.low is not None
    low: Low | Packed | Tensor | None = stored.packed() if stored.packed is not None else None
    if low is None:
        low = stored.low()
    if isinstance(low, Codes | Words) and not has_kernel(low):
        low = low.weight().to(dtype)
    layer = as_layer(low, device)
    if name != "embed" or not isinstance(layer, QuantLinear):
        owner, _, leaf = name.rpartition(".")
        if name == "embed":
            model.embed.weight = nn.Parameter(layer.get_parameter("weight"), requires_grad=False)
        else:
            setattr(model.get_submodule(owner), leaf, layer)
        return
    like = torch.empty(0, dtype=dtype, device=device)
    setattr(model, name, RowEmbedding(layer.packed, like))
    if checkpoint.config.tied:
        model.head = layer


def keeps_embedding(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> bool:
    """Say whether tokens are looked up in a bfloat16 file, which widening would double in memory.

    The product with the embedding, where it is the head too, wants the dtype of the model.
    """
    is_widened = dtype == torch.float32 and torch.device(device).type == "cpu"
    return checkpoint.has_narrow_embedding and is_widened


def has_kernel(codes: Codes | Words) -> bool:
    """Say whether puna.ops.lowbit can hold these codes; files of other tools may go further.

    It knows no code of -128, groups of whole words, and zeros within float16.
    """
    if codes.format == "int8":
        smallest = codes.codes if isinstance(codes, Codes) else codes.words.view(torch.uint8)
        lowest = -128 if isinstance(codes, Codes) else 0
        if bool((smallest[:, : codes.shape[1]] == lowest).any()):
            return False
    if codes.zeros is not None and float(codes.zeros.abs().max()) > 2**15:
        return False
    return codes.group % 8 == 0 or codes.group >= codes.shape[1]


class Undrawn(TorchFunctionMode):
    """Leave new parameters undrawn: they are replaced at once.

    Drawing them on the meta device would import PyTorch's symbolic shapes, 1.5 s and 80 MB.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


def stored_dtype(checkpoint: Checkpoint) -> torch.dtype:
    """Return the dtype that holds the weights: their own, or float32 for quantized ones."""
    return _DTYPES.get(checkpoint.tensors["embed.weight"].dtype, torch.float32)
