"""puna: the whole Llama 3.1 system in one Python package, from raw pages to served tokens."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # type checkers read the public names here; at run time `_PUBLIC` finds them
    from puna.chat.format import ChatFormat
    from puna.chat.messages import Message
    from puna.checkpoint.tokenizers import load_tokenizer
    from puna.errors import PunaError
    from puna.infer.complete import Completion
    from puna.llm import load
    from puna.tools.function import tool

__version__ = "0.1.0"

# The public names and the rooms that define them; each room is imported at first use, so that
# `import puna` and `puna --help` stay light.
_PUBLIC = {
    "ChatFormat": "puna.chat.format",
    "Completion": "puna.infer.complete",
    "Message": "puna.chat.messages",
    "PunaError": "puna.errors",
    "load": "puna.llm",
    "load_tokenizer": "puna.checkpoint.tokenizers",
    "tool": "puna.tools.function",
}

__all__ = [
    "ChatFormat",
    "Completion",
    "Message",
    "PunaError",
    "__version__",
    "load",
    "load_tokenizer",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'puna' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
