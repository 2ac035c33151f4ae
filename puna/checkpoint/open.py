"""One door for every format: a path or a hub id becomes a Checkpoint.

What lies at the path decides, never a flag: a run folder, a Hugging Face folder, a Meta folder, a
`.gguf` file or llama2.c's `.bin`.
"""

from dataclasses import replace
from pathlib import Path

from puna.checkpoint.huggingface import CONFIG, open_huggingface
from puna.checkpoint.stored import Checkpoint
from puna.errors import FormatError, NotFoundError

PARAMS = "params.json"  # of Meta's folders
RUN_MODEL = "model"  # where a run folder keeps its newest model
RUN_STAGES = "stages"  # and what led to it


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a model of any format; only headers are read.

    Raises:
        NotFoundError: nothing is there.
        FormatError: it is no model that puna reads, or it is damaged.
        ConfigError: the model asks for something puna does not compute.
        ExtraError: a hub id needs huggingface-hub, which is not installed.
    """
    place = resolve(path)
    if not place.is_dir():
        return _open_file(place)
    if (place / RUN_MODEL / CONFIG).exists():
        return replace(open_huggingface(place / RUN_MODEL), kind="run")
    if (place / PARAMS).exists() or any(place.glob("consolidated.*")):
        if (place / CONFIG).exists() and any(place.glob("model*.safetensors*")):
            return open_huggingface(place)  # a published folder may hold both forms
        from puna.checkpoint.meta import open_meta

        return open_meta(place)
    if (place / CONFIG).exists():
        return open_huggingface(place)
    if (place / RUN_STAGES).is_dir():
        raise NotFoundError(
            f"{place}: the run has no model yet; its last stages write {RUN_MODEL}/. Let "
            f"`puna raise --run {place}` finish, or give the model of one of its stages."
        )
    hint = ""
    if files := sorted(file.name for file in place.glob("*.gguf")):
        hint = f" It holds {', '.join(files[:3])}: give the file itself."
    raise FormatError(
        f"{place}: no model is here; a run folder (model/), a Hugging Face folder ({CONFIG}) or a "
        f"Meta folder ({PARAMS}) is expected.{hint}"
    )


def resolve(path: Path | str, *, tokenizer_only: bool = False) -> Path:
    """Return the place of a model: the path itself, or the local copy of a hub id."""
    place = Path(path).expanduser()
    if place.exists():
        return place
    from puna.checkpoint.hub import hub_folder, is_hub_id

    if is_hub_id(str(path)):
        return hub_folder(str(path), tokenizer_only=tokenizer_only)
    raise NotFoundError(
        f"{path}: there is no such file or folder; a model is a run folder, a Hugging Face or Meta "
        "folder, a .gguf or llama2.c .bin file, or a hub id. Check the path."
    )


def is_gguf(path: Path) -> bool:
    """Say whether a file is GGUF, by its first bytes."""
    if not path.is_file():
        return False
    from puna.checkpoint.gguf_file import MAGIC

    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _open_file(path: Path) -> Checkpoint:
    if path.suffix == ".gguf" or is_gguf(path):
        from puna.checkpoint.gguf import open_gguf

        return open_gguf(path)
    if path.suffix == ".bin":
        from puna.checkpoint.llama2c import open_llama2c

        return open_llama2c(path)
    raise FormatError(
        f"{path}: a {path.suffix or 'nameless'} file is no model by itself; .gguf and llama2.c's "
        ".bin are. Give the folder that holds it."
    )
