"""What a deployment must know of a model: its shape, the format in memory, the bytes on disk.

A checkpoint is opened by its headers alone. A name of the family stands for a model whose weights
are not here yet.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from puna.checkpoint.inspect import inspect_checkpoint
from puna.checkpoint.open import open_checkpoint
from puna.errors import RequestError
from puna.model.config import ModelConfig
from puna.model.family import FAMILY
from puna.plan.serving import Format, weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model as a deployment sees it."""

    name: str  # as a service may be called
    path: str
    config: ModelConfig
    kind: Format  # of the weights in memory
    disk_bytes: int
    stored_bytes: int | None = None  # of weights that are in few bits already, and stay so


def look_at(model: str, *, quantize: str | None, has_gpu: bool) -> ModelFacts:
    """Return the facts of a checkpoint, or of a released size.

    Raises:
        NotFoundError: there is no such model.
        RequestError: weights in few bits shall be rounded again.
    """
    # A processor may lack bfloat16; puna.device then takes float32, so that is what must fit.
    plain: Format = "bfloat16" if has_gpu else "float32"
    kind = _kind(quantize, plain)
    if model in FAMILY and not Path(model).exists():
        config = FAMILY[model].config
        disk = weight_bytes(config, "bfloat16")
        return ModelFacts(
            name=_name(model), path=f"/srv/models/{model}", config=config, kind=kind,
            disk_bytes=disk,
        )  # fmt: skip
    checkpoint = open_checkpoint(model)
    facts = inspect_checkpoint(checkpoint)
    is_low = any(stored.low is not None for stored in checkpoint.tensors.values())
    if is_low and quantize:
        raise RequestError(
            f"{model}: the weights are stored in few bits already; rounding them again would lose "
            "more. Leave --quantize out."
        )
    path = Path(model).resolve()
    return ModelFacts(
        name=_name(path.stem if path.is_file() else path.name), path=str(path),
        config=facts.config, kind=kind, disk_bytes=_disk_bytes(path),
        stored_bytes=facts.weight_bytes if is_low else None,
    )  # fmt: skip


def _kind(quantize: str | None, plain: Format) -> Format:
    match quantize:
        case "int8" | "int4" | "fp8":
            return quantize
        case None:
            return plain
        case _:
            raise RequestError(f"quantize={quantize!r}; int8, int4 or fp8 is expected.")


def _disk_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _name(text: str) -> str:
    """Return a name of a model as the name of a service: small letters, digits, hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:42].strip("-")
    return name if name[:1].isalpha() else f"model-{name}".strip("-")
