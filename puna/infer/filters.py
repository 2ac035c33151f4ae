"""Which tokens may be drawn and which one a number draws, in torch: what is right, on any device.

The filters apply in the order of transformers' logits processors. The native kernels choose the
same tokens sooner (`puna.ops.choose`), in whose place `puna.infer.sampling` comes here where they
are not, or cannot read the logits.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from puna.infer.sampling import SamplingConfig

CANDIDATES = 1024  # tokens that top-p puts in order before it tries the whole vocabulary


def penalized(
    logits: Float[Tensor, "B V"],
    configs: Sequence[SamplingConfig],
    seen: Bool[Tensor, "B V"],
) -> Float[Tensor, "B V"]:
    """Apply each row's repetition penalty to the tokens that it holds already."""
    factors = [config.repetition_penalty or 1.0 for config in configs]
    return penalize(logits, seen, torch.tensor(factors, device=logits.device)[:, None])


@torch.inference_mode()
def chosen_by_torch(
    logits: Float[Tensor, "B V"],
    configs: Sequence[SamplingConfig],
    uniforms: Sequence[float],
) -> Int[Tensor, "B"]:
    """Choose the token of each row by its number, rows of equal configs together."""
    numbers = torch.tensor(uniforms, dtype=torch.float64)
    chosen = torch.empty(len(configs), dtype=torch.int64)
    for config in dict.fromkeys(configs):
        rows = [row for row, other in enumerate(configs) if other == config]
        scores = logits if len(rows) == len(configs) else logits[rows]
        if config.temperature == 0:
            chosen[rows] = most_likely(scores).cpu()
        else:
            chosen[rows] = draw(keep_likely(scores / config.temperature, config), numbers[rows])
    return chosen


def keep_likely(scores: Float[Tensor, "B V"], config: SamplingConfig) -> Float[Tensor, "B V"]:
    """Apply top-k, then top-p, then min-p; what they drop becomes -inf."""
    if config.top_k is not None:
        scores = keep_top_k(scores, config.top_k)
    if config.top_p is not None and config.top_p < 1:
        scores = keep_top_p(scores, config.top_p)
    if config.min_p is not None and config.min_p > 0:
        scores = keep_min_p(scores, config.min_p)
    return scores


def penalize(
    scores: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalty: float | Tensor
) -> Float[Tensor, "B V"]:
    """Divide the positive scores of seen tokens by the penalty, multiply the negative ones.

    Source: Keskar et al. 2019 (CTRL), arXiv:1909.05858, section 4.1.
    """
    lowered = torch.where(scores > 0, scores / penalty, scores * penalty)
    return torch.where(seen, lowered, scores)


def keep_top_k(scores: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Drop what is less likely than the k-th token; tokens tied with it stay."""
    kth = scores.topk(min(k, scores.shape[-1]), dim=-1).values[:, -1:]
    return scores.masked_fill(scores < kth, -torch.inf)


def keep_top_p(scores: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Drop a token when those likelier than it already hold more than p of the mass.

    Of equally likely tokens the lower id counts as likelier. Source: Meta's llama-models.
    """
    ordered, before = _likeliest(scores, p)
    kept = (before <= p).sum(-1, keepdim=True)
    edge = ordered.gather(-1, kept - 1)  # the last score that stays, for as many as fit
    room = kept - (scores > edge).sum(-1, keepdim=True)
    tied = scores == edge
    return scores.masked_fill((scores < edge) | (tied & (tied.cumsum(-1) > room)), -torch.inf)


def _likeliest(scores: Float[Tensor, "B V"], p: float) -> tuple[Tensor, Tensor]:
    """Return the highest scores in order, as many as hold more than p, and the mass before each.

    Nearly always `CANDIDATES` of them do, and ordering those alone costs a tenth of a full sort.
    """
    whole = scores.logsumexp(-1, keepdim=True)
    V = scores.shape[-1]
    for count in (min(CANDIDATES, V), V):
        ordered = scores.topk(count, dim=-1).values
        upto = (ordered - whole).exp().cumsum(-1)
        if count == V or bool((upto[:, -1] > p).all()):
            break
    before = upto.roll(1, dims=-1)
    before[:, 0] = 0  # the likeliest token always stays
    return ordered, before


def keep_min_p(scores: Float[Tensor, "B V"], p: float) -> Float[Tensor, "B V"]:
    """Drop a token less likely than p times the likeliest.

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    likely = scores.softmax(-1)
    return scores.masked_fill(likely < p * likely.amax(-1, keepdim=True), -torch.inf)


def most_likely(scores: Float[Tensor, "B V"]) -> Int[Tensor, "B"]:
    """Return the id with the highest score, the lowest such id on a tie, on every device."""
    V = scores.shape[-1]
    ids = torch.arange(V, device=scores.device)
    return torch.where(scores == scores.amax(-1, keepdim=True), ids, V).amin(-1)


def draw(scores: Float[Tensor, "B V"], uniforms: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Draw one id a row with probability softmax(scores), by one number from 0 to 1 each."""
    heights = scores.double().softmax(-1).cumsum(-1)
    # Kept below the row's own total, so that rounding cannot lead past the last token. The first
    # height strictly above the target is taken, so a token of probability 0 is never drawn.
    total = heights[:, -1:]
    shares = uniforms[:, None].to(scores.device) * total
    target = shares.minimum(total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(heights, target, right=True).squeeze(-1).cpu()
