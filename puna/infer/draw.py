"""One draw from one row of scores, by one given number: filters on the few tokens that matter.

`puna.infer.filters` filters whole vocabularies and says what is right; the native kernels choose
the same token (`puna.ops.choose`). Without them a row in which a few tokens hold nearly everything
is filtered here among those alone, which costs a sixth: tokens and their order are the same, so the
same number draws the same token.
"""

import math

import torch
from torch import Tensor

from puna.infer.filters import CANDIDATES, keep_likely
from puna.infer.sampling import SamplingConfig, as_array
from puna.ops.choose import choose

REACH = 12.0  # nats below the likeliest token that are looked at first: a share of 6e-6 each
MOST = 4 * CANDIDATES  # beyond so many tokens, putting them in order is no gain


def draw_one(scores: Tensor, config: SamplingConfig, uniform: float) -> int:
    """Draw an id from scores [V] by a number from 0 to 1.

    Returns:
        The id; one whose score is no number where there is such a score, or where all are -inf:
        the caller must look for it.
    """
    readable = as_array(scores[None])
    chosen = None if readable is None else choose(readable, [config.choice(uniform)])
    if chosen is not None and chosen[0] >= 0:
        return int(chosen[0])
    if not bool(scores.max().isfinite()):
        return int(scores.argmax())
    scaled = scores / config.temperature
    found = _nucleus(scaled, config)
    if found is not None:
        ids, values = found
        return int(ids[_place(values, uniform)])
    return _place(keep_likely(scaled[None], config)[0], uniform)


def _place(scores: Tensor, uniform: float) -> int:
    """Return the first place whose height lies strictly above the number's share of the total."""
    heights = scores.double().softmax(-1).cumsum(-1)
    total = heights[-1:]
    target = (uniform * total).minimum(total.nextafter(torch.zeros_like(total)))
    place = torch.searchsorted(heights, target, right=True)
    return int(place) if bool(total.isfinite()) else 0


def _nucleus(scaled: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor] | None:
    """Return ids in order and scores of what top-p and min-p keep, where few tokens decide it."""
    p = config.top_p
    if config.top_k is not None or p is None or p >= 1:
        return None
    top = scaled.max()
    ids = (scaled >= top - REACH).nonzero()[:, 0]
    if not 0 < len(ids) <= MOST:
        return None
    ordered, order = scaled[ids].sort(descending=True, stable=True)
    upto = (ordered - scaled.logsumexp(-1)).exp().cumsum(-1)
    if not upto[-1] > p:
        return None
    kept = 1 + int((upto[:-1] <= p).sum())
    if config.min_p:
        kept = min(kept, int((ordered >= top + math.log(config.min_p)).sum()))
    places = order[:kept].sort().values
    ids = ids[places]
    return ids, scaled[ids]
