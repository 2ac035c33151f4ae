"""OpenVINO through its own graph of a Llama: the second peer of bench/cpu.py.

The graph is what its converters make of such a model: weights in few bits that are widened beside
the product, fused attention, keys and values in the state of the request.
"""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from puna.model.config import ModelConfig
from puna.ops.rope import inverse_frequencies

# Type of the weights, lowest and highest code; int4 as its tools write it, groups of 128.
_BITS: dict[str, tuple[str, int, int]] = {"int8": ("i8", -127, 127), "int4": ("u4", 0, 15)}
_GROUP = 128


def version() -> str | None:
    """Name the peer, or None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    return f"openvino {openvino.__version__.partition('-')[0]}"


class Graph:
    """The parts of a Llama in OpenVINO's operations."""

    def __init__(self, config: ModelConfig, format: str) -> None:
        import openvino as ov
        import openvino.opset13 as op

        self.ov, self.op, self.config, self.format = ov, op, config, format
        self._random = np.random.default_rng(0)
        self._states: list[Any] = []
        self._shared: list[Any] = []  # arrays that constants only point at

    def build(self) -> Any:
        """Return the model: ids and positions in, logits of the last token out."""
        c, op, ov = self.config, self.op, self.ov
        ids = op.parameter(ov.PartialShape([-1, -1]), ov.Type.i64, name="input_ids")
        at = op.parameter(ov.PartialShape([-1, -1]), ov.Type.i64, name="position_ids")
        rows = op.parameter(ov.PartialShape([-1]), ov.Type.i32, name="beam_idx")
        for node, name in ((ids, "input_ids"), (at, "position_ids"), (rows, "beam_idx")):
            node.output(0).get_tensor().set_names({name})
        table = self._matrix(c.vocab, c.width)
        x = op.gather(table, ids, op.constant(np.int64(0)))
        freqs = op.constant(inverse_frequencies(c.head_width, c.rope_theta).numpy()[None, None])
        angle = op.multiply(op.convert(op.unsqueeze(at, self._axes(2)), "f32"), freqs)
        angle = op.unsqueeze(op.concat([angle, angle], 2), self._axes(1))  # [B, 1, T, E]
        turn = op.cos(angle), op.sin(angle)
        for layer in range(c.layers):
            x = op.add(x, self._attention(self._norm(x), turn, rows, layer))
            h = self._norm(x)
            gate = op.swish(self._product(h, c.mlp_width, c.width))
            hidden = op.multiply(gate, self._product(h, c.mlp_width, c.width))
            x = op.add(x, self._product(hidden, c.width, c.mlp_width))
        last = op.gather(x, op.constant(np.array([-1])), op.constant(np.int64(1)))
        logits = op.matmul(self._norm(last), table, False, True)
        sinks = [state for state, _ in self._states]
        return ov.Model([op.result(logits)], sinks, [ids, at, rows], "llama")

    def _attention(self, x: Any, turn: tuple[Any, Any], rows: Any, layer: int) -> Any:
        c, op = self.config, self.op
        E = c.head_width
        q = self._heads(self._product(x, c.heads * E, c.width), c.heads)
        k = self._heads(self._product(x, c.kv_heads * E, c.width), c.kv_heads)
        v = self._heads(self._product(x, c.kv_heads * E, c.width), c.kv_heads)
        q, k = self._rotated(q, turn), self._rotated(k, turn)
        k = self._kept(k, rows, f"k{layer}")
        v = self._kept(v, rows, f"v{layer}")
        k, v = self._repeated(k), self._repeated(v)
        # One token sees everything; a whole prompt begins at position 0.
        mask = self._mask(q, k)
        out = op.scaled_dot_product_attention(q, k, v, mask, causal=False)
        out = op.transpose(out, op.constant(np.array([0, 2, 1, 3])))
        flat = op.reshape(out, op.constant(np.array([0, 0, c.heads * E])), True)
        return self._product(flat, c.width, c.heads * E)

    def _mask(self, q: Any, k: Any) -> Any:
        """Hide what comes after: key j from query i where j > i + keys - queries."""
        op, zero, one = self.op, self.op.constant(np.int64(0)), self.op.constant(np.int64(1))
        queries = op.squeeze(op.gather(op.shape_of(q), self._axes(2), zero), self._axes(0))
        keys = op.squeeze(op.gather(op.shape_of(k), self._axes(2), zero), self._axes(0))
        column = op.unsqueeze(op.range(zero, keys, one, "i64"), self._axes(0))
        row = op.unsqueeze(op.range(op.subtract(keys, queries), keys, one, "i64"), self._axes(1))
        hidden = op.greater(column, row)
        low = op.constant(np.float32(-1e9))
        mask = op.select(hidden, low, op.constant(np.float32(0)))
        return op.unsqueeze(mask, self._axes(0, 1))

    def _kept(self, new: Any, rows: Any, name: str) -> Any:
        """Append to what the request remembers and return all of it."""
        c, op, ov = self.config, self.op, self.ov
        shape = ov.PartialShape([-1, c.kv_heads, -1, c.head_width])
        info = ov.op.util.VariableInfo()
        info.data_shape, info.data_type, info.variable_id = shape, ov.Type.f32, name
        variable = ov.op.util.Variable(info)
        batch = op.gather(op.shape_of(new), self._axes(0), op.constant(np.int64(0)))
        rest = op.constant(np.array([c.kv_heads, 0, c.head_width]))
        empty = op.broadcast(op.constant(np.float32(0)), op.concat([batch, rest], 0))
        old = op.read_value(empty, variable)
        old = op.gather(old, rows, op.constant(np.int64(0)))
        both = op.concat([old, new], 2)
        self._states.append((op.assign(both, variable), variable))
        return both

    def _repeated(self, x: Any) -> Any:
        """Let each key head serve its group of query heads."""
        c, op = self.config, self.op
        group = c.heads // c.kv_heads
        wide = op.broadcast(
            op.unsqueeze(x, self._axes(2)), op.constant(np.array([1, 1, group, 1, 1])),
            broadcast_spec="BIDIRECTIONAL",
        )  # fmt: skip
        return op.reshape(wide, op.constant(np.array([0, c.heads, -1, c.head_width])), True)

    def _heads(self, x: Any, heads: int) -> Any:
        op = self.op
        split = op.reshape(x, op.constant(np.array([0, 0, heads, self.config.head_width])), True)
        return op.transpose(split, op.constant(np.array([0, 2, 1, 3])))

    def _rotated(self, x: Any, turn: tuple[Any, Any]) -> Any:
        op, axis = self.op, self.op.constant(np.int64(3))
        first, second = op.split(x, axis, 2).outputs()
        minus = op.multiply(second, op.constant(np.float32(-1)))
        turned = op.concat([minus, first], 3)
        return op.add(op.multiply(x, turn[0]), op.multiply(turned, turn[1]))

    def _norm(self, x: Any) -> Any:
        op = self.op
        mean = op.reduce_mean(op.multiply(x, x), self._axes(-1), True)
        root = op.sqrt(op.add(mean, op.constant(np.float32(self.config.norm_eps))))
        weight = op.constant(np.ones((1, 1, self.config.width), np.float32))
        return op.multiply(op.divide(x, root), weight)

    def _product(self, x: Any, out: int, inner: int) -> Any:
        return self.op.matmul(x, self._matrix(out, inner), False, True)

    def _matrix(self, out: int, inner: int) -> Any:
        """Return a matrix that repeats a few random rows, in the format of the comparison."""
        op, ov = self.op, self.ov
        seed = self._random.standard_normal((min(out, 64), inner), dtype=np.float32) * 0.02
        every = np.tile(seed, (-(-out // len(seed)), 1))[:out]
        if self.format == "f32":
            return op.constant(every)
        if self.format == "bf16":
            bits = (every.view(np.uint32) >> 16).astype(np.uint16)
            self._shared.append(bits)
            tensor = ov.Tensor(bits, ov.Shape([out, inner]), ov.Type.bf16)
            return op.convert(ov.op.Constant(tensor), "f32")
        name, low, high = _BITS[self.format]
        group = inner  # a scale a row, and in int4 one for each group that divides the row
        if self.format == "int4":
            group = _GROUP if inner % _GROUP == 0 else _GROUP // 2
        grouped = every.reshape(out, inner // group, group)
        scale = np.abs(grouped).max(-1, keepdims=True) / (high if low else 7.5)
        codes = np.rint(grouped / scale + (0 if low else 8)).clip(low, high)
        if name == "u4":
            flat = codes.astype(np.uint8).reshape(-1, 2)
            packed = (flat[:, 0] | flat[:, 1] << 4).astype(np.uint8)
            self._shared.append(packed)
            tensor = ov.Tensor(packed, ov.Shape(list(codes.shape)), ov.Type.u4)
            wide = op.subtract(
                op.convert(ov.op.Constant(tensor), "f16"), op.constant(np.float16(8))
            )
        else:
            wide = op.convert(op.constant(codes.astype(np.int8)), "f16")
        scaled = op.multiply(wide, op.constant(scale.astype(np.float16)))
        flat = op.reshape(scaled, op.constant(np.array([out, inner])), False)
        return op.convert(flat, "f32")

    def _axes(self, *axes: int) -> Any:
        return self.op.constant(np.array(axes))


class OpenVino:
    """A compiled model and one request."""

    def __init__(self, config: ModelConfig, format: str, *, threads: int) -> None:
        import openvino as ov

        kind = "bf16" if format == "bf16" else "f32"
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": kind,
        }
        self._graph = Graph(config, format)
        compiled = ov.Core().compile_model(self._graph.build(), "CPU", settings)
        self._request = compiled.create_infer_request()

    def read(self, rows: int, tokens: int, held: int) -> None:
        """Read the next tokens of some rows; `held` = 0 begins anew."""
        if held == 0:
            self._request.reset_state()
        self._request.infer(
            {
                "input_ids": np.full((rows, tokens), 5),
                "position_ids": np.tile(np.arange(held, held + tokens), (rows, 1)),
                "beam_idx": np.arange(rows, dtype=np.int32),
            }
        )


class CrashError(Exception):
    """The peer's process ended before it answered."""


class InChild:
    """The peer in a process of its own: where it crashes, the comparison goes on without it.

    The process ends when nobody holds the other end of its pipe.
    """

    def __init__(self, config: ModelConfig, format: str, *, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        peer = context.Process(target=_serve, args=(theirs, config, format, threads), daemon=True)
        peer.start()
        theirs.close()
        self._answer()

    def read(self, rows: int, tokens: int, held: int) -> None:
        """Read the next tokens of some rows; `held` = 0 begins anew.

        Raises:
            CrashError: the peer is gone.
        """
        try:
            self._pipe.send((rows, tokens, held))
        except OSError:
            raise CrashError from None
        self._answer()

    def _answer(self) -> None:
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            raise CrashError from None


def _serve(pipe: Connection, config: ModelConfig, format: str, threads: int) -> None:
    peer = OpenVino(config, format, threads=threads)
    pipe.send(None)
    while True:
        try:
            work = pipe.recv()
        except EOFError:
            return
        peer.read(*work)
        pipe.send(None)
