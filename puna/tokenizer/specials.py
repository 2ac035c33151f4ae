"""The 256 special tokens of Llama 3: their names, their order and how the names changed.

Meta renamed reserved slots with every release, and Hugging Face's files name them differently
again; the ids of the tokens that matter never moved. Source: llama-models `tokenizer.py` and the
published `tokenizer_config.json` of each release.
"""

from collections.abc import Mapping

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
RIGHT_PAD = "<|finetune_right_pad_id|>"
STEP = "<|step_id|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_MESSAGE = "<|eom_id|>"
END_OF_TURN = "<|eot_id|>"
PYTHON_TAG = "<|python_tag|>"
IMAGE = "<|image|>"

SLOTS = 256

_LLAMA_3 = {
    0: BEGIN_OF_TEXT,
    1: END_OF_TEXT,
    6: START_HEADER,
    7: END_HEADER,
    9: END_OF_TURN,
}
_LLAMA_3_1_HF = _LLAMA_3 | {4: RIGHT_PAD, 8: END_OF_MESSAGE, 10: PYTHON_TAG}
_LLAMA_3_1 = _LLAMA_3_1_HF | {5: STEP}

# Slots that have a name, by edition; the others are numbered reserved tokens, in order.
EDITIONS: Mapping[str, Mapping[int, str]] = {
    "llama-3": _LLAMA_3,
    "llama-3.1-hf": _LLAMA_3_1_HF,
    "llama-3.1": _LLAMA_3_1,
    "llama-3.2": _LLAMA_3_1 | {11: IMAGE},
}
CURRENT = "llama-3.2"  # what Meta's tokenizer names today, for every model since 3.1

# A generation ends at any of these, whatever the model (pitfall: one of the three forgotten).
STOPS = (END_OF_TEXT, END_OF_MESSAGE, END_OF_TURN)


def special_names(edition: str = CURRENT) -> tuple[str, ...]:
    """Return the 256 names of an edition, in the order of their ids."""
    named = EDITIONS[edition]
    free = [slot for slot in range(SLOTS) if slot not in named]
    reserved = {slot: f"<|reserved_special_token_{n}|>" for n, slot in enumerate(free)}
    return tuple(named.get(slot) or reserved[slot] for slot in range(SLOTS))
