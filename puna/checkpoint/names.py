"""The one table of tensor names: puna's, Hugging Face's, Meta's and GGUF's.

Every reader and writer of this room translates through it, and takes the shapes that a
configuration implies from it. Sources: transformers' LlamaForCausalLM; Meta's llama-models; ggml's
GGUF specification.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from puna.model.config import ModelConfig

Dialect = Literal["puna", "huggingface", "meta", "gguf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tensor (or one of each layer, where the names hold `{i}`) in every spelling."""

    puna: str
    huggingface: str
    meta: str
    gguf: str
    shape: tuple[str, ...]  # letters of docs/notation.md, [out, in]
    split: int | None  # dim that Meta's model parallelism cuts; None: every shard holds it whole
    heads: Literal["", "H", "K"] = ""  # rows that RoPE turns come in this many heads


# The embedding's split is Llama 3's; Llama 1 and 2 cut its columns (dim 1), which shapes tell.
TABLE: tuple[Row, ...] = (
    Row(
        puna="embed.weight",
        huggingface="model.embed_tokens.weight",
        meta="tok_embeddings.weight",
        gguf="token_embd.weight",
        shape=("V", "D"),
        split=0,
    ),
    Row(
        puna="blocks.{i}.attn_norm.weight",
        huggingface="model.layers.{i}.input_layernorm.weight",
        meta="layers.{i}.attention_norm.weight",
        gguf="blk.{i}.attn_norm.weight",
        shape=("D",),
        split=None,
    ),
    Row(
        puna="blocks.{i}.attn.wq.weight",
        huggingface="model.layers.{i}.self_attn.q_proj.weight",
        meta="layers.{i}.attention.wq.weight",
        gguf="blk.{i}.attn_q.weight",
        shape=("HE", "D"),
        split=0,
        heads="H",
    ),
    Row(
        puna="blocks.{i}.attn.wk.weight",
        huggingface="model.layers.{i}.self_attn.k_proj.weight",
        meta="layers.{i}.attention.wk.weight",
        gguf="blk.{i}.attn_k.weight",
        shape=("KE", "D"),
        split=0,
        heads="K",
    ),
    Row(
        puna="blocks.{i}.attn.wv.weight",
        huggingface="model.layers.{i}.self_attn.v_proj.weight",
        meta="layers.{i}.attention.wv.weight",
        gguf="blk.{i}.attn_v.weight",
        shape=("KE", "D"),
        split=0,
    ),
    Row(
        puna="blocks.{i}.attn.wo.weight",
        huggingface="model.layers.{i}.self_attn.o_proj.weight",
        meta="layers.{i}.attention.wo.weight",
        gguf="blk.{i}.attn_output.weight",
        shape=("D", "HE"),
        split=1,
    ),
    Row(
        puna="blocks.{i}.mlp_norm.weight",
        huggingface="model.layers.{i}.post_attention_layernorm.weight",
        meta="layers.{i}.ffn_norm.weight",
        gguf="blk.{i}.ffn_norm.weight",
        shape=("D",),
        split=None,
    ),
    Row(
        puna="blocks.{i}.mlp.gate.weight",
        huggingface="model.layers.{i}.mlp.gate_proj.weight",
        meta="layers.{i}.feed_forward.w1.weight",
        gguf="blk.{i}.ffn_gate.weight",
        shape=("F", "D"),
        split=0,
    ),
    Row(
        puna="blocks.{i}.mlp.up.weight",
        huggingface="model.layers.{i}.mlp.up_proj.weight",
        meta="layers.{i}.feed_forward.w3.weight",
        gguf="blk.{i}.ffn_up.weight",
        shape=("F", "D"),
        split=0,
    ),
    Row(
        puna="blocks.{i}.mlp.down.weight",
        huggingface="model.layers.{i}.mlp.down_proj.weight",
        meta="layers.{i}.feed_forward.w2.weight",
        gguf="blk.{i}.ffn_down.weight",
        shape=("D", "F"),
        split=1,
    ),
    Row(
        puna="norm.weight",
        huggingface="model.norm.weight",
        meta="norm.weight",
        gguf="output_norm.weight",
        shape=("D",),
        split=None,
    ),
    Row(
        puna="head.weight",
        huggingface="lm_head.weight",
        meta="output.weight",
        gguf="output.weight",
        shape=("V", "D"),
        split=0,
    ),
)

HEAD = TABLE[-1]
EMBED = TABLE[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One tensor of one model: its row of the table, its name in a dialect, its shape."""

    row: Row
    puna: str
    name: str
    shape: tuple[int, ...]


def places(config: ModelConfig, dialect: Dialect = "puna") -> Iterator[Place]:
    """Yield every tensor of the model in reading order; a tied head is absent."""
    sizes = {
        "V": config.vocab,
        "D": config.width,
        "HE": config.heads * config.head_width,
        "KE": config.kv_heads * config.head_width,
        "F": config.mlp_width,
    }

    def place(row: Row, layer: int | None) -> Place:
        name: str = getattr(row, dialect)
        shape = tuple(sizes[letter] for letter in row.shape)
        if layer is None:
            return Place(row=row, puna=row.puna, name=name, shape=shape)
        return Place(row=row, puna=row.puna.format(i=layer), name=name.format(i=layer), shape=shape)

    in_blocks = [row for row in TABLE if "{i}" in row.puna]
    yield place(EMBED, None)
    for layer in range(config.layers):
        for row in in_blocks:
            yield place(row, layer)
    for row in TABLE[1:]:
        if row not in in_blocks and not (config.tied and row is HEAD):
            yield place(row, None)


def rope_heads(row: Row, config: ModelConfig) -> int:
    """Return the heads whose rows RoPE turns in this tensor; 0 where it turns none."""
    return {"": 0, "H": config.heads, "K": config.kv_heads}[row.heads]
