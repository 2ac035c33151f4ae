"""Model folders of random weights, as they lie on disk."""

from pathlib import Path

import torch

from puna.checkpoint.huggingface import save_huggingface
from tests.infer.tiny import tiny_model
from tests.llm.scripted import BYTES

# Says role and content of each message, as any published template does in its own way.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
    "{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{% endif %}"
)


def save_folder(
    folder: Path, *, template: str | None = TEMPLATE, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a Hugging Face folder."""
    model = tiny_model(vocab=BYTES.vocab, context=256)
    save_huggingface(
        model, model.config, folder, tokenizer=BYTES, dtype=dtype, chat_template=template
    )
    return folder


def save_run(folder: Path) -> Path:
    """Write a run folder with its model."""
    save_folder(folder / "model")
    return folder
