"""A stage of a run: it reads what earlier stages left, writes its own folder, and signs it.

The manifest of a stage holds the hash of its inputs (its part of the recipe, and the outputs of the
stages it reads), the command, the time, and the hash of every file it wrote. A stage whose inputs
have not changed is not run again; one that was killed has no manifest, and runs or resumes.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna import __version__
from puna.device import peak_memory
from puna.energy import Energy
from puna.files import hash_json, sha256_file, write_json
from puna.log import note


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a run's life."""

    name: str
    reads: tuple[str, ...]  # stages whose outputs it uses
    config: Callable[[Any], dict[str, Any]]  # its part of the recipe: a change runs it again
    work: Callable[[Any], dict[str, Any] | None]  # does it, in the stage's folder; returns facts
    resumes: bool = False  # a killed run continues from what its folder holds


class Ledger:
    """The manifests of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage_folder(self, name: str) -> Path:
        """Return where a stage keeps everything it writes."""
        return self.folder / "stages" / name

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Return the manifest of a finished stage, or None."""
        path = self.stage_folder(name) / "manifest.json"
        try:
            return dict(json.loads(path.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def is_current(self, name: str, inputs: str) -> bool:
        """Whether the stage is finished with these inputs and its files are still there."""
        manifest = self.manifest(name)
        if manifest is None or manifest["inputs"] != inputs:
            return False
        folder = self.stage_folder(name)
        return all(
            (folder / file).is_file() and (folder / file).stat().st_size == facts["bytes"]
            for file, facts in manifest["outputs"].items()
        )

    def begin(self, stage: Stage, inputs: str) -> None:
        """Clear what another configuration left; keep what this one can continue."""
        folder = self.stage_folder(stage.name)
        begun = folder / "begun.json"
        same = begun.is_file() and json.loads(begun.read_text())["inputs"] == inputs
        finished = (folder / "manifest.json").is_file()
        if folder.exists() and not (same and stage.resumes and not finished):
            if finished:
                note(f"{stage.name}: its inputs changed, so it runs again.")
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(begun, {"inputs": inputs})

    def sign(
        self,
        stage: Stage,
        inputs: str,
        *,
        config: dict[str, Any],
        facts: dict[str, Any],
        began: float,
        energy: Energy,
    ) -> None:
        """Write the manifest: the stage is finished."""
        folder = self.stage_folder(stage.name)
        files = sorted(
            path
            for path in folder.rglob("*")
            if path.is_file() and path.name not in ("manifest.json", "begun.json")
            and "checkpoints" not in path.relative_to(folder).parts
        )  # fmt: skip
        write_json(
            folder / "manifest.json",
            {
                "stage": stage.name,
                "inputs": inputs,
                "reads": list(stage.reads),
                "config": config,
                "facts": facts,
                "outputs": {
                    str(path.relative_to(folder)): {
                        "bytes": path.stat().st_size,
                        "sha256": sha256_file(path),
                    }
                    for path in files
                },
                "command": " ".join(["puna", *sys.argv[1:]]),
                "puna": __version__,
                "python": sys.version.split()[0],
                "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
                "seconds": round(time.time() - began, 3),
                "peak_memory_bytes": peak_memory(),
                "energy": energy.table(),
            },
        )

    def energy(self) -> Energy | None:
        """Add up what the finished stages took; attempts that were killed are not counted."""
        folders = sorted((self.folder / "stages").glob("*/manifest.json"))
        tables = [json.loads(path.read_text())["energy"] for path in folders]
        if not tables:
            return None
        return Energy(
            kwh=sum(table["kwh"] for table in tables),
            grams_co2=sum(table["grams_co2"] for table in tables),
            how=tables[-1]["how"],
        )

    def inputs_of(self, stage: Stage, config: dict[str, Any]) -> str:
        """Return the hash of all that decides the stage's result."""
        upstream = {name: self.outputs_hash(name) for name in stage.reads}
        return hash_json({"stage": stage.name, "config": config, "reads": upstream})

    def outputs_hash(self, name: str) -> str:
        """Return the hash of what a finished stage wrote, "" where it is not finished."""
        manifest = self.manifest(name)
        if manifest is None:
            return ""
        return hash_json({file: facts["sha256"] for file, facts in manifest["outputs"].items()})
