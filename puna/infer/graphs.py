"""Decoding on a GPU: one step over the pages, recorded once for each number of rows and replayed.

Launching some three hundred kernels takes a processor longer than a GPU needs to run them, so a
step of single tokens is a CUDA graph over tensors that stay where they are. Rows are filled up to
the next recorded number. Longer parts (prompts) go through the model's own forward pass.
`GraphRunner` has the face of `puna.infer.runner.Runner`, so rows and pages drive it alike.

This was run on processors only: the step itself in torch, and its kernels in Triton's interpreter.
No recording has met a GPU yet.
"""

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import cast

import torch
from torch import Tensor, nn

from puna.infer.batch import PREFILL_TOKENS
from puna.infer.joined import Product, joined
from puna.infer.runner import PagedCache, Part, check_parts, is_watched
from puna.model.cache import KVCache
from puna.model.llama import Block, Llama, RMSNorm
from puna.ops.gpu.choice import decodes_by_graph, gpu_of
from puna.ops.gpu.step import Pages, add_and_norm, attend_pages, gated, turn_and_store
from puna.ops.matrix import Format
from puna.ops.rope import rotation
from puna.quant.fp8 import Fp8Linear
from puna.quant.linear import QuantLinear, RowEmbedding

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # that are recorded, each when it is first wanted
_KNOWN = (nn.Linear, nn.Embedding, QuantLinear, Fp8Linear, RowEmbedding, RMSNorm)

Step = Callable[[], Tensor]
Recorder = Callable[[Step], Step]


def record(step: Step) -> Step:
    """Record a step as a CUDA graph; what is returned replays it into the same tensors."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # kernels are compiled and libraries set up before
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


class GraphRunner:
    """A model on a GPU over a paged cache; weights stay where they are."""

    is_exact = False  # sums of one row and of several are taken in different orders

    def __init__(
        self, model: Llama, *, fused: bool = True, recorder: Recorder | None = record
    ) -> None:
        """Take a model in.

        Args:
            fused: by Triton kernels; False computes a step in torch.
            recorder: None runs every step as it is written.
        """
        self.config, self._model, self._fused = model.config, model, fused
        self._recorder = recorder
        self.format: Format = "f32" if model.embed.weight.dtype == torch.float32 else "bf16"
        self.device = model.embed.weight.device
        self._freqs = model.freqs.to(self.device)
        self._qkv: list[Product] = []
        self._gate_up: list[Product] = []
        for block in model.blocks:
            attn, mlp = block.get_submodule("attn"), block.get_submodule("mlp")
            names = ("wq", "wk", "wv")
            self._qkv.append(joined([attn.get_submodule(name) for name in names]))
            self._gate_up.append(joined([mlp.get_submodule(name) for name in ("gate", "up")]))
        self._leaves = _leaves(model)
        self._recorded: dict[int, _Recorded] = {}
        self._cache: PagedCache | None = None
        self._turn = Lock()  # a recorded step has one set of tensors

    @classmethod
    def of(cls, model: nn.Module) -> "GraphRunner | None":
        """Wrap a model, or answer None where the kernels do not run or do not know its layers."""
        if type(model) is not Llama or is_watched(model):
            return None
        if not decodes_by_graph(gpu_of(model.embed.weight.device)):
            return None
        if any(weight.requires_grad for weight in model.parameters()):
            return None  # joining would take the weights from under an optimizer
        known = all(type(leaf) in _KNOWN for leaf in _leaves(model))
        if not known or model.embed.weight.dtype not in (torch.float32, torch.bfloat16):
            return None
        own = vars(model).get("graph_runner")
        if not isinstance(own, cls) or not own.is_of(model):
            own = cls(model)
            vars(model)["graph_runner"] = own  # joined once, for all who generate with this model
        return own

    def is_of(self, model: Llama) -> bool:
        """Whether the model is still the one that was taken in."""
        weight = model.embed.weight
        format = "f32" if weight.dtype == torch.float32 else "bf16"
        return (
            self._leaves == _leaves(model)
            and self.device == weight.device
            and self.format == format
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Copy and store a model without what was recorded of it."""
        return type(None), ()

    @torch.inference_mode()
    def step(self, parts: Sequence[Part], cache: PagedCache) -> Tensor:
        """Read the tokens of every part and return logits; as puna.infer.runner.Runner.step."""
        check_parts(parts, cache, self.config)
        with self._turn:
            return self._step(parts, cache)

    def _step(self, parts: Sequence[Part], cache: PagedCache) -> Tensor:
        if cache is not self._cache:
            self._cache = cache
            self._recorded.clear()  # a recorded step knows the addresses of its cache
        single = [place for place, part in enumerate(parts) if len(part.ids) == 1]
        rows: dict[int, Tensor] = {}
        for begin in range(0, len(single), ROWS[-1]):
            group = single[begin : begin + ROWS[-1]]
            logits = self._read_next([parts[place] for place in group], cache)
            rows |= {place: logits[row : row + 1] for row, place in enumerate(group)}
        for place, part in enumerate(parts):
            if place not in rows:
                rows[place] = self._read_long(part, cache)
        return torch.cat([rows[place] for place in range(len(parts))])

    def _read_next(self, parts: Sequence[Part], cache: PagedCache) -> Tensor:
        """Read one token of every part; return logits [B, V], which the next step overwrites."""
        count = next(rows for rows in ROWS if rows >= len(parts))
        found = self._recorded.get(count)
        if found is None:
            found = self._recorded[count] = _Recorded(self, cache, count)
        return found.read(parts)

    def decode(self, ids: Tensor, held: Tensor, tables: Tensor, cache: PagedCache) -> Tensor:
        """Compute one step of B rows, [B] -> [B, V]; nothing is read back from the device."""
        model, fused = self._model, self._fused
        cos, sin = (part[0, :, 0] for part in rotation(held[None], self._freqs))
        pages = Pages(held=held, tables=tables, cos=cos.contiguous(), sin=sin.contiguous())
        x: Tensor = model.embed(ids)
        more: Tensor | None = None
        for layer, block in enumerate(cast("Iterable[Block]", model.blocks)):
            keys, values = cache.keys[layer], cache.values[layer]
            attn_norm, mlp_norm = block.attn_norm, block.mlp_norm
            x, h = add_and_norm(x, more, attn_norm.weight, attn_norm.eps, fused=fused)
            q = turn_and_store(
                self._qkv[layer](h), pages, keys, values, heads=self.config.heads, fused=fused
            )
            seen = attend_pages(q, pages, keys, values, fused=fused)
            more = block.attn.wo(seen.flatten(1))
            x, h = add_and_norm(x, more, mlp_norm.weight, mlp_norm.eps, fused=fused)
            more = block.mlp.down(gated(self._gate_up[layer](h), fused=fused))
        norm = model.norm
        return model.logits(add_and_norm(x, more, norm.weight, norm.eps, fused=fused)[1])

    def _read_long(self, part: Part, cache: PagedCache) -> Tensor:
        """Read a longer part by the model's forward pass, over a copy of its pages."""
        T, Z, device = len(part.ids), cache.page_tokens, self.device
        used = -(-(part.held + T) // Z)
        table = torch.tensor(list(part.pages[:used]), device=device)
        past = KVCache(self.config, 1, 0, dtype=cache.dtype, device=device)
        past.keys, past.values = (
            whole[:, table].transpose(2, 3).flatten(1, 2)[:, None]  # [L, 1, S, K, E]
            for whole in (cache.keys, cache.values)
        )
        past.lengths = torch.tensor([part.held])
        found: list[Tensor] = []
        ids = torch.tensor([list(part.ids)], device=device)
        for piece in torch.split(ids, PREFILL_TOKENS, dim=1):
            last = None if part.wants_all else torch.tensor([piece.shape[1] - 1], device=device)
            found.append(self._model(piece, cache=past, last=last))
        at = torch.arange(part.held, part.held + T, device=device)
        for whole, mine in ((cache.keys, past.keys), (cache.values, past.values)):
            for layer in range(self.config.layers):
                whole[layer][table[at // Z], :, at % Z] = mine[layer, 0, at]
        return torch.cat(found, dim=1)[0] if part.wants_all else found[-1]

    def recorded(self, step: Step) -> Step:
        """Return a step as this runner runs it."""
        return step if self._recorder is None else self._recorder(step)


def _leaves(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if not list(part.children())]


class _Recorded:
    """A step of a fixed number of rows, and the tensors that it reads."""

    def __init__(self, runner: GraphRunner, cache: PagedCache, rows: int) -> None:
        tokens = min(runner.config.context, cache.pages * cache.page_tokens)
        width = -(-tokens // cache.page_tokens)
        device = runner.device
        self._ids = torch.zeros(rows, dtype=torch.int64, device=device)
        self._held = torch.zeros(rows, dtype=torch.int32, device=device)
        self._tables = torch.full((rows, width), -1, dtype=torch.int32, device=device)
        self._step = runner.recorded(
            lambda: runner.decode(self._ids, self._held, self._tables, cache)
        )

    def read(self, parts: Sequence[Part]) -> Tensor:
        """Read one token of every part; the rows that are left over have no pages."""
        rows, width = self._tables.shape
        ids, held = (torch.zeros(rows, dtype=torch.int64) for _ in range(2))
        tables = torch.full((rows, width), -1, dtype=torch.int32)
        for row, part in enumerate(parts):
            ids[row], held[row] = part.ids[0], part.held
            pages = list(part.pages[:width])
            tables[row, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        self._ids.copy_(ids)
        self._held.copy_(held)
        self._tables.copy_(tables)
        return self._step()[: len(parts)].clone()
