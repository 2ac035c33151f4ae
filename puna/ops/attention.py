"""Grouped-query attention: H query heads share K key and value heads.

`attend` picks torch's fused kernel; `attend_reference` is the formula it must equal. Masks say
which key each query may see: `causal` for one document a row, `document_mask` for packed rows,
`cache_mask` for rows that continue from a cache.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def attend(
    q: Float[Tensor, "B T H E"],
    k: Float[Tensor, "B S K E"],
    v: Float[Tensor, "B S K E"],
    *,
    mask: Bool[Tensor, "B T S"] | None,
    causal: bool = False,
) -> Float[Tensor, "B T H E"]:
    """Return softmax(q k^T / sqrt(E)) v, query head j reading kv head floor(j / (H/K)).

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: true where a query may look; None lets it look everywhere, or backwards if `causal`.
        causal: with `mask=None` and T = S, a query sees itself and what came before.
    """
    B, T, H, E = q.shape
    K = k.shape[2]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if mask is None and not causal:
        # One step of decoding: the query heads of a group act as more rows of one product.
        grouped = q.reshape(B, K, (H // K) * T, E)
        out = F.scaled_dot_product_attention(grouped, k, v).view(B, H, T, E)
        return out.transpose(1, 2)
    if K != H:
        k, v = (x.repeat_interleave(H // K, dim=1) for x in (k, v))
    heads_mask = None if mask is None else mask[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=heads_mask, is_causal=causal)
    return out.transpose(1, 2)


def attend_documents(
    q: Float[Tensor, "B T H E"],
    k: Float[Tensor, "B T K E"],
    v: Float[Tensor, "B T K E"],
    spans: Sequence[tuple[int, int]],
) -> Float[Tensor, "B T H E"]:
    """Attend causally inside each document; equal to `attend` under `document_mask`.

    One call a document costs the sum of the squared lengths, where a mask costs the square of the
    row's, and a document's result does not depend on its neighbours even in the last bit.

    Args:
        q: queries.
        k: keys.
        v: values.
        spans: first token and end of each document in the rows laid end to end, as from
            `document_spans`.
    """
    lengths = [end - start for start, end in spans]
    # split, not slices: the gradient of a slice is a whole tensor of zeros.
    rows = (torch.split(x.flatten(0, 1)[None], lengths, dim=1) for x in (q, k, v))
    parts = [attend(*part, mask=None, causal=True) for part in zip(*rows, strict=True)]
    return torch.cat(parts, dim=1).view(q.shape)


def document_spans(documents: Int[Tensor, "B T"]) -> list[tuple[int, int]]:
    """Return where each document begins and ends in the rows laid end to end."""
    flat = documents.flatten()
    begins = torch.ones(flat.shape[0], dtype=torch.bool)
    begins[1:] = (flat[1:] != flat[:-1]).cpu()
    begins[:: documents.shape[1]] = True
    starts = begins.nonzero().flatten().tolist()
    return list(zip(starts, [*starts[1:], flat.shape[0]], strict=True))


def attend_reference(
    q: Float[Tensor, "B T H E"],
    k: Float[Tensor, "B S K E"],
    v: Float[Tensor, "B S K E"],
    *,
    mask: Bool[Tensor, "B T S"],
) -> Float[Tensor, "B T H E"]:
    """Compute attention as written in the paper, softmax in float32."""
    groups = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(groups, dim=2) for x in (k, v))
    scores = torch.einsum("bthe,bshe->bhts", q, k).float() / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask[:, None], -torch.inf)
    return torch.einsum("bhts,bshe->bthe", scores.softmax(-1).to(v.dtype), v)


def causal_mask(T: int, *, device: torch.device | None = None) -> Bool[Tensor, "1 T T"]:
    """Let a position see itself and what came before."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()[None]


def document_mask(documents: Int[Tensor, "B T"]) -> Bool[Tensor, "B T T"]:
    """Let a position see itself and what came before in its own document.

    Source: The Llama 3 Herd of Models, section 3.2: no attention across documents in a sequence.
    """
    same = documents[:, :, None] == documents[:, None, :]
    return same & causal_mask(documents.shape[1], device=documents.device)


def cache_mask(positions: Int[Tensor, "B T"], S: int) -> Bool[Tensor, "B T S"]:
    """Let the query at position p see the cached keys 0 .. p of its own row."""
    return torch.arange(S, device=positions.device) <= positions[:, :, None]
