"""Files that mix formats: matrices that read the same inputs get groups of the same length.

The decoder rounds a row once for the queries, keys and values, and once for gate and up, in groups
that the scales of the weights set. llama.cpp's mixtures (Q4_K_M) keep the values of some layers in
Q6_K, 16 weights to a scale, beside queries and keys in Q4_K, 32 to a scale. Writing each scale of
the coarser ones twice changes no weight, and the native decoder runs such a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from puna.checkpoint.gguf_codes import FORMS
from puna.checkpoint.stored import StoredTensor
from puna.ops.lowbit import Packed

# Matrices of a layer that read the same rows.
_TOGETHER = (("attn.wq", "attn.wk", "attn.wv"), ("mlp.gate", "mlp.up"))


def share_inputs(tensors: Mapping[str, StoredTensor], layers: int) -> dict[str, StoredTensor]:
    """Return the tensors of a model, those that read the same inputs in the finest of their groups.

    Args:
        tensors: under puna's names.
    """
    found = dict(tensors)
    for layer in range(layers):
        for part in _TOGETHER:
            names = [f"blocks.{layer}.{name}.weight" for name in part]
            groups = {FORMS[found[name].dtype][1] for name in names if found[name].dtype in FORMS}
            for name in names:
                stored = found[name]
                if stored.packed is not None and FORMS[stored.dtype][1] > min(groups):
                    finer = partial(_in_groups, stored.packed, min(groups))
                    found[name] = replace(stored, packed=finer)
    return found


def _in_groups(packed: Callable[..., Packed | None], group: int) -> Packed | None:
    given = packed()
    if given is None:
        return None
    parts = [
        None if part is None else part.repeat_interleave(given.group // group, dim=1)
        for part in (given.scales, given.zeros)
    ]
    return replace(given, group=group, scales=parts[0], zeros=parts[1])
