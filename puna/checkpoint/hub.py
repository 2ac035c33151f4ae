"""Models named by a hub id: found in the local cache, else downloaded, through huggingface-hub.

The library is an extra; `HF_HOME` and `HF_TOKEN` are honoured by it. Nothing here is needed for
models that lie in a folder.
"""

import re
from pathlib import Path

from puna.checkpoint.facts import read_object
from puna.errors import ExtraError, NotFoundError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = ("*.json", "*.safetensors", "*.jinja", "*.model")
_TOKENIZER = ("tokenizer*", "special_tokens_map.json")


def is_hub_id(name: str) -> bool:
    """Say whether a name that is no path has the form of a hub id, `owner/model`."""
    return _ID.fullmatch(name) is not None and not name.startswith(".")


def hub_folder(name: str, *, tokenizer_only: bool = False) -> Path:
    """Return the local folder of a hub id, downloading what the cache does not hold.

    Raises:
        ExtraError: huggingface-hub is not installed.
        NotFoundError: there is no such model, or no network and no copy in the cache.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ExtraError(
            f"{name}: there is no such path, and a hub id needs the extra `hub`: "
            "pip install 'puna[hub]'."
        ) from error
    patterns = list(_TOKENIZER if tokenizer_only else _WEIGHTS)
    try:
        cached = Path(
            huggingface_hub.snapshot_download(name, allow_patterns=patterns, local_files_only=True)
        )
        if tokenizer_only or _is_complete(cached):
            return cached
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        pass
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotFoundError(
            f"{name}: there is no such path, and the hub gave no model of that name ({reason}). "
            "Check the name and the network; a gated model needs HF_TOKEN."
        ) from error


def _is_complete(folder: Path) -> bool:
    """Say whether a cached snapshot holds the configuration and every file of the weights."""
    if not (folder / "config.json").exists():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return (folder / "model.safetensors").exists()
    files = read_object(index).get("weight_map", {})
    return isinstance(files, dict) and all((folder / str(f)).exists() for f in files.values())
