"""llama.cpp through its own low-level interface: the peer of bench/cpu.py.

A file of random weights is written in the peer's format; tokens go straight into `llama_decode`.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from puna.model.config import ModelConfig


def version() -> str:
    """Name the peer, or say that it is absent."""
    try:
        import llama_cpp
    except ImportError:
        raise SystemExit("bench/cpu.py needs llama-cpp-python: make bench-cpu") from None
    return f"llama-cpp-python {llama_cpp.__version__}"


MIXED = "Q4_K_M"  # llama.cpp's mixture: Q4_K, and Q6_K where errors cost most


def kind_of(name: str, layer: int, layers: int, format: str) -> str:
    """Return a tensor's type in a file of this format. Source: llama.cpp's llama-quant.cpp."""
    if format != MIXED:
        return format
    eighth = layers // 8
    is_wide = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    is_more = name == "token_embd" or (name.endswith(("attn_v", "ffn_down")) and is_wide)
    return "Q6_K" if is_more else "Q4_K"


def random_rows(random: np.random.Generator, kind: str, rows: int, columns: int) -> np.ndarray:
    """Return random weights; of Q4_K and Q6_K random blocks, for which gguf has no writer."""
    import gguf

    if kind not in ("Q4_K", "Q6_K"):
        seed = random.standard_normal((rows, columns), dtype=np.float32) * 0.02
        return gguf.quants.quantize(seed, gguf.GGMLQuantizationType[kind])
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = random.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    for at in (0, 2) if kind == "Q4_K" else (208,):  # scales of scales and, of Q4_K, of minimums
        blocks[:, at : at + 2] = np.array([1e-5 if at else 8e-5], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def write_gguf(path: Path, config: ModelConfig, format: str) -> None:
    """Write a Llama of this shape whose matrices repeat a few random rows."""
    import gguf

    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(4096)
    out.add_embedding_length(config.width)
    out.add_block_count(config.layers)
    out.add_feed_forward_length(config.mlp_width)
    out.add_head_count(config.heads)
    out.add_head_count_kv(config.kv_heads)
    out.add_layer_norm_rms_eps(config.norm_eps)
    out.add_rope_freq_base(config.rope_theta)
    out.add_rope_dimension_count(config.head_width)
    out.add_vocab_size(config.vocab)
    out.add_tokenizer_model("no_vocab")
    random = np.random.default_rng(0)

    def matrix(name: str, rows: int, columns: int, layer: int = 0) -> None:
        kind = kind_of(name, layer, config.layers, format)
        some = random_rows(random, kind, min(rows, 64), columns)
        every = np.ascontiguousarray(np.tile(some, (-(-rows // len(some)), 1))[:rows])
        out.add_tensor(f"{name}.weight", every, raw_dtype=gguf.GGMLQuantizationType[kind])

    D, F = config.width, config.mlp_width
    query, keys = config.heads * config.head_width, config.kv_heads * config.head_width
    matrix("token_embd", config.vocab, D)
    out.add_tensor("output_norm.weight", np.ones(D, np.float32))
    for i in range(config.layers):
        for name in ("attn_norm", "ffn_norm"):
            out.add_tensor(f"blk.{i}.{name}.weight", np.ones(D, np.float32))
        shapes = {
            "attn_q": (query, D), "attn_k": (keys, D), "attn_v": (keys, D),
            "attn_output": (D, query), "ffn_gate": (F, D), "ffn_up": (F, D), "ffn_down": (D, F),
        }  # fmt: skip
        for name, shape in shapes.items():
            matrix(f"blk.{i}.{name}", *shape, layer=i)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class LlamaCpp:
    """A model of llama.cpp and one context."""

    def __init__(self, path: Path, *, threads: int, rows: int, batch: int) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        # Kept: the library calls it for as long as it lives.
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.use_mmap = False  # the file may go once it is read
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        assert self._model, "llama.cpp could not read the file that was written for it"
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = rows * batch, batch, batch
        settings.n_threads = settings.n_threads_batch = threads
        settings.n_seq_max = rows
        self._context = llama_cpp.llama_init_from_model(self._model, settings)

    def read(self, rows: int, tokens: int, held: int) -> None:
        """Read the next tokens of some rows; `held` = 0 begins anew."""
        lib = self._lib
        if held == 0:
            lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        batch = lib.llama_batch_init(rows * tokens, 0, 1)
        batch.n_tokens = rows * tokens
        for i in range(rows * tokens):
            row, place = divmod(i, tokens)
            batch.token[i], batch.pos[i] = 5, held + place
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
            batch.logits[i] = place == tokens - 1
        done = lib.llama_decode(self._context, batch)
        lib.llama_batch_free(batch)
        assert done == 0, f"llama_decode answered {done}"
