"""Everything a run folder tells, read without judging: what is not there is None or empty.

A run of only some stages, or one that was killed, has only some of the files; a cut line of metrics
is left out. The page (`puna.report.page`) writes from these facts alone.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna.checkpoint.open import open_checkpoint
from puna.config import read_toml
from puna.errors import FormatError, NotFoundError, PunaError
from puna.train.meter import read_metrics

Table = Mapping[str, Any]

# The order of a life; stages of other names follow in the order of their beginning.
ORDER = (
    *("curate", "tokenizer", "pack", "plan", "pretrain", "extend", "plan-sft", "sft", "eval"),
    "report",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run folder, as far as it got."""

    folder: Path
    name: str
    config: str | None  # config.toml, as text
    stages: Mapping[str, Table]  # manifests, in the order of the life
    metrics: Mapping[str, list[Table]]  # the lines of metrics.jsonl, by phase
    scores: Mapping[str, Table]  # by name; puna.evals.score.Score as a table
    compressors: Mapping[str, Mapping[str, float]]  # bits per byte by source and program
    curated: Table | None  # report.json of curation
    machine: Table | None
    matrix_peak: float | None  # measured floating-point operations per second
    energy: Table | None  # kwh, grams_co2, how
    samples: list[Table]  # the sample conversation
    shape: Table | None  # of the model: parameters, width, layers, heads, kv_heads, vocab, context

    @property
    def phases(self) -> dict[str, Table]:
        """What each phase of training took, from the manifests; by the phase's name."""
        return {
            name: table
            for stage in self.stages.values()
            for name, table in (stage.get("facts") or {}).get("phases", {}).items()
        }


def read_facts(folder: Path) -> Facts:
    """Read a run folder.

    Raises:
        NotFoundError: there is no such folder, or nothing of a run in it.
        FormatError: a file of the folder is damaged.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; a run folder is expected.")
    stages = _stages(folder)
    metrics = _metrics(folder / "metrics.jsonl")
    config = folder / "config.toml"
    if not (stages or metrics or config.is_file()):
        raise NotFoundError(
            f"{folder}: no config.toml, metrics.jsonl or stages; a run folder is expected. "
            "`puna raise --run DIR` makes one."
        )
    plan = _find_json(folder, "plan.json") or {}
    machine = _find_json(folder, "machine.json") or plan.get("machine")
    peak = (machine or {}).get("matrix_peak_flops") or plan.get("matrix_peak_flops")
    return Facts(
        folder=folder,
        name=str(read_toml(config).get("name", folder.name) if config.is_file() else folder.name),
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
        stages=stages,
        metrics=metrics,
        scores=_scores(folder),
        compressors=_find_json(folder, "evals/compressors.json") or {},
        curated=_find_json(folder, "report.json", "documents/report.json"),
        machine=machine,
        matrix_peak=peak,
        energy=_find_json(folder, "energy.json"),
        samples=_find_json(folder, "samples.json") or [],
        shape=_shape(folder),
    )


def _places(folder: Path, *names: str) -> Iterator[Path]:
    """Yield every existing file of these names: in the run folder, then in its stages."""
    for name in names:
        for path in (folder / name, *sorted((folder / "stages").glob(f"*/{name}"))):
            if path.is_file():
                yield path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: not JSON ({error}); a file that puna wrote is expected. Run that stage again."
        ) from error


def _find_json(folder: Path, *names: str) -> Any:
    """Read the first file of these names, None where there is none."""
    return next((_read_json(path) for path in _places(folder, *names)), None)


def _stages(folder: Path) -> dict[str, Table]:
    found = {
        path.parent.name: dict(_read_json(path))
        for path in (folder / "stages").glob("*/manifest.json")
    }
    place = {name: index for index, name in enumerate(ORDER)}
    ordered = sorted(
        found, key=lambda name: (place.get(name, len(ORDER)), str(found[name].get("began", "")))
    )
    return {name: found[name] for name in ordered}


def _metrics(path: Path) -> dict[str, list[Table]]:
    """Group the lines by phase."""
    phases: dict[str, list[Table]] = {}
    for row in read_metrics(path):
        phases.setdefault(str(row.get("stage", "train")), []).append(row)
    return phases


def _scores(folder: Path) -> dict[str, Table]:
    """Collect the scores of every file in `evals/`, by name."""
    files = [folder / "evals", *sorted((folder / "stages").glob("*/evals"))]
    return {
        score["name"]: score
        for place in files
        for path in sorted(place.glob("*.json"))
        for score in _score_tables(_read_json(path))
    }


def _score_tables(content: Any) -> list[Table]:
    return list(content["scores"]) if isinstance(content, Mapping) and "scores" in content else []


def _shape(folder: Path) -> Table | None:
    """Read the shape of the most finished model of the run."""
    places = [folder / "model", *(folder / "stages" / n / "model" for n in reversed(ORDER))]
    for place in places:
        if not (place / "config.json").is_file():
            continue
        try:
            config = open_checkpoint(place).config
        except PunaError:
            continue  # a model that cannot be read has no shape to report
        names = ("parameters", "width", "layers", "heads", "kv_heads", "vocab", "context")
        return {name: getattr(config, name) for name in names}
    return None
