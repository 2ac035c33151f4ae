"""The decoder of every Llama: embed, L blocks of attention and gated MLP, norm, head.

The model knows nothing of devices, checkpoints or training: weights come from puna.checkpoint,
losses from puna.train, requests from puna.infer. Attention metadata is an argument of `forward`.
Source: The Llama 3 Herd of Models, section 3.2; Meta's llama-models for the order of casts.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from puna.errors import ContextError
from puna.model.cache import KVCache
from puna.model.config import ModelConfig
from puna.ops.attention import (
    attend,
    attend_documents,
    cache_mask,
    document_mask,
    document_spans,
)
from puna.ops.norm import rms_norm
from puna.ops.rope import inverse_frequencies, rotate, rotation, scale_frequencies


class View:
    """What one forward pass needs besides the tokens: rotations, who sees whom, the cache."""

    __slots__ = ("cache", "causal", "cos", "mask", "positions", "sin", "spans")

    def __init__(
        self,
        positions: Int[Tensor, "B T"],
        freqs: Float[Tensor, "E_half"],
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        spans: list[tuple[int, int]] | None = None,
        cache: KVCache | None = None,
    ) -> None:
        self.positions, self.cache = positions, cache
        self.mask, self.causal, self.spans = mask, causal, spans
        self.cos, self.sin = rotation(positions, freqs)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Normalise each position."""
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, E = config.width, config.head_width
        self.head_width = E
        self.wq = nn.Linear(D, config.heads * E, bias=False)
        self.wk = nn.Linear(D, config.kv_heads * E, bias=False)
        self.wv = nn.Linear(D, config.kv_heads * E, bias=False)
        self.wo = nn.Linear(config.heads * E, D, bias=False)

    def forward(self, x: Float[Tensor, "B T D"], view: View, layer: int) -> Tensor:
        """Let each position read those that `view` lets it see."""
        B, T, _ = x.shape
        q = rotate(self.wq(x).view(B, T, -1, self.head_width), view.cos, view.sin)
        k = rotate(self.wk(x).view(B, T, -1, self.head_width), view.cos, view.sin)
        v = self.wv(x).view(B, T, -1, self.head_width)
        if view.cache is not None:
            k, v = view.cache.write(layer, view.positions, k, v)
        if view.spans is not None:
            out = attend_documents(q, k, v, view.spans)
        else:
            out = attend(q, k, v, mask=view.mask, causal=view.causal)
        return self.wo(out.reshape(B, T, -1))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """The gated feed-forward layer: down(silu(gate x) * up x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.mlp_width, bias=False)
        self.up = nn.Linear(config.width, config.mlp_width, bias=False)
        self.down = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Transform each position by itself."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and MLP, each reading a normalised copy and adding to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.width, config.norm_eps)
        self.attn = Attention(config)
        self.mlp_norm = RMSNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Float[Tensor, "B T D"], view: View, layer: int) -> Tensor:
        """Return the residual stream after this block."""
        x = x + self.attn(self.attn_norm(x), view, layer)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """A Llama decoder: token ids to logits."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        # A tied model has no head, or one of its own in fewer bits (puna.quant).
        self.head: nn.Module | None = None
        if not config.tied:
            self.head = nn.Linear(config.width, config.vocab, bias=False)
        # A plain attribute, so that `model.to(bfloat16)` leaves the frequencies in float32.
        self.freqs = inverse_frequencies(config.head_width, config.rope_theta)
        if config.rope_scaling is not None:
            self.freqs = scale_frequencies(self.freqs, config.rope_scaling)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        *,
        documents: Int[Tensor, "B T"] | None = None,
        cache: KVCache | None = None,
        counts: Int[Tensor, "B"] | None = None,
        last: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, "B V"]:
        """Return the logits of the token after each position, in float32.

        Args:
            ids: tokens; rows shorter than T are padded on the right with any id.
            documents: document of each token, for rows packed from several; positions keep running.
            cache: keys and values of earlier tokens; the new ones are added to it.
            counts: with a cache, the real tokens of each row; None when no row is padded.
            last: return only the logits of this index in each row, [B, V].
        Raises:
            ContextError: the sequence is longer than the model's context or the cache's capacity.
        """
        x = self.hidden(ids, documents=documents, cache=cache, counts=counts)
        if last is not None:
            x = x[torch.arange(x.shape[0], device=x.device), last.to(x.device)]
        return self.logits(x)

    def hidden(
        self,
        ids: Int[Tensor, "B T"],
        *,
        documents: Int[Tensor, "B T"] | None = None,
        cache: KVCache | None = None,
        counts: Int[Tensor, "B"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Return the normalised residual stream that the head reads; arguments as in `forward`."""
        view = self._view(ids, documents, cache)
        x = self.embed(ids)
        for layer, block in enumerate(self.blocks):
            x = block(x, view, layer)
        if cache is not None:
            cache.lengths += ids.shape[1] if counts is None else counts.cpu()
        return self.norm(x)  # type: ignore[no-any-return]

    def logits(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Apply the head to normalised states, in float32."""
        scores = F.linear(x, self.embed.weight) if self.head is None else self.head(x)
        return scores.float()

    def _view(
        self, ids: Int[Tensor, "B T"], documents: Tensor | None, cache: KVCache | None
    ) -> View:
        B, T = ids.shape
        start = 0 if cache is None else int(cache.lengths.max())
        if start + T > self.config.context:
            raise ContextError(
                f"model: {start + T} tokens were given; its context is {self.config.context}. "
                "Shorten the prompt or load a model with a longer context."
            )
        freqs = self.freqs.to(ids.device)
        steps = torch.arange(T, device=ids.device)
        if cache is None:
            positions = steps.expand(B, T)
            if documents is None:
                return View(positions, freqs, causal=True)
            if ids.device.type == "cpu":
                return View(positions, freqs, spans=document_spans(documents))
            return View(positions, freqs, mask=document_mask(documents))
        cache.require(T)
        positions = cache.lengths.to(ids.device)[:, None] + steps
        fresh = start == 0
        uniform = bool((cache.lengths == start).all())
        alone = T == 1 and uniform  # each row's one query sees every key there is
        mask = None if fresh or alone else cache_mask(positions, start + T)
        return View(positions, freqs, mask=mask, causal=fresh and not alone, cache=cache)
