"""puna: the whole Llama 3.1 system in one Python package, from raw pages to served tokens."""

import importlib
from typing import Any

__version__ = "0.1.0"

# The public names and the rooms that define them; each room is imported at first use, so that
# `import puna` and `puna --help` stay light.
_PUBLIC = {
    "ChatFormat": "puna.chat.format",
    "Message": "puna.chat.messages",
    "PunaError": "puna.errors",
    "load": "puna.llm",
    "load_tokenizer": "puna.checkpoint.load",
}

__all__ = ["ChatFormat", "Message", "PunaError", "__version__", "load", "load_tokenizer"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'puna' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
