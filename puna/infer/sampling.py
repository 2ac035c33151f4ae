"""From logits to the next token: penalty, temperature, top-k, top-p, min-p, one draw a row.

The filters apply in that order, which is the order of transformers' logits processors. A row's
token depends on its own logits, config and generator alone: whom it shares a batch with changes
nothing. `puna.infer.generate` calls `sample` once a step. The native kernels choose the same tokens
sooner (`puna.ops.choose`); the functions here say which those are, and compute where they are not.
"""

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from puna.errors import RequestError, StateError
from puna.ops.choose import Choice, choose

CANDIDATES = 1024  # tokens that top-p puts in order before it tries the whole vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """How the next token is drawn; `None` switches a filter off.

    Source of the defaults: `generation_config.json` of Llama 3.1 Instruct.
    """

    temperature: float = 0.6  # 0 takes the most likely token
    top_k: int | None = None  # keep the k most likely tokens and those tied with the last
    top_p: float | None = 0.9  # keep the likeliest tokens until they hold this mass; 0 keeps one
    min_p: float | None = None  # keep tokens at least this share as likely as the likeliest
    repetition_penalty: float | None = None  # above 1, tokens already in the row become less likely
    seed: int | None = None  # None draws a fresh one

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, "0 or more", lambda x: x >= 0)
        _require("top_k", self.top_k, "1 or more", lambda x: x >= 1 and x == int(x))
        _require("top_p", self.top_p, "between 0 and 1", lambda x: 0 <= x <= 1)
        _require("min_p", self.min_p, "between 0 and 1", lambda x: 0 <= x <= 1)
        _require("repetition_penalty", self.repetition_penalty, "above 0", lambda x: x > 0)
        _require(
            "seed", self.seed, "between 0 and 2^63 - 1, without a fraction,",
            lambda x: isinstance(x, int) and 0 <= x < 2**63,
        )  # fmt: skip

    def generator(self) -> torch.Generator:
        """Return a fresh generator for one row; it lives on the CPU whatever the model's device."""
        seed = secrets.randbits(63) if self.seed is None else self.seed
        return torch.Generator().manual_seed(seed)

    def choice(self, uniform: float) -> Choice:
        """Return this config and the number to draw by, as the native kernels take them."""
        return Choice(
            temperature=self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            uniform=uniform,
        )


def _require(name: str, value: float | None, expected: str, holds: Callable[[float], bool]) -> None:
    if value is None and name != "temperature":
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):  # type: ignore[arg-type]
        raise RequestError(
            f"sampling: {name}={value!r} was given; a number {expected} is expected."
        )


def sample(
    logits: Float[Tensor, "B V"],
    configs: Sequence[SamplingConfig],
    generators: Sequence[torch.Generator],
    seen: Bool[Tensor, "B V"] | None = None,
) -> Int[Tensor, "B"]:
    """Draw the next token of each row.

    Args:
        logits: scores of the next token.
        configs: one a row.
        generators: one a row; a row that samples takes exactly one number from its own.
        seen: which tokens the row holds already; needed only where a row has a penalty.
    Returns:
        Token ids on the CPU.
    Raises:
        StateError: a row holds NaN, or no token that may be drawn.
    """
    scores = _penalized(logits, configs, seen)
    uniforms = [
        float(torch.rand(1, generator=generator, dtype=torch.float64)) if c.temperature > 0 else 0.0
        for c, generator in zip(configs, generators, strict=True)
    ]
    chosen = choose(scores, [c.choice(u) for c, u in zip(configs, uniforms, strict=True)])
    is_sound = logits.amax(-1).isfinite() if chosen is None else chosen >= 0
    if not is_sound.all():
        raise StateError(
            "sampling: the model's logits are not numbers; finite logits are expected. Check the "
            "weights with `puna inspect`, or load them with dtype='float32'."
        )
    return chosen_by_torch(scores, configs, uniforms) if chosen is None else chosen


def _penalized(
    logits: Float[Tensor, "B V"],
    configs: Sequence[SamplingConfig],
    seen: Bool[Tensor, "B V"] | None,
) -> Float[Tensor, "B V"]:
    penalties = [config.repetition_penalty or 1.0 for config in configs]
    if seen is None or set(penalties) == {1.0}:
        return logits
    return penalize(logits, seen, torch.tensor(penalties, device=logits.device)[:, None])


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
