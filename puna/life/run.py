"""One run: its recipe, its folder, its models; what every stage is given."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puna.config import dump_toml, read_toml, to_table
from puna.errors import NotFoundError, StateError
from puna.files import write_json, write_text
from puna.life.recipe import Recipe
from puna.life.stage import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recipe at work in a folder."""

    recipe: Recipe
    folder: Path
    pages: tuple[Path, ...] = ()  # the user's own documents; none: those of this machine

    @property
    def ledger(self) -> Ledger:
        """The manifests of this run."""
        return Ledger(self.folder)

    @property
    def metrics(self) -> Path:
        """One line for each training step, of all phases."""
        return self.folder / "metrics.jsonl"

    def stage(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.ledger.stage_folder(name)

    def plan(self) -> dict[str, Any]:
        """Return what was decided so far: the steps of fine-tuning are decided after the others."""
        path = self.stage("plan") / "plan.json"
        if not path.is_file():
            raise StateError(f"{path}: the run has no plan yet. Run `puna raise` first.")
        plan = dict(json.loads(path.read_text()))
        later = self.stage("plan-sft") / "plan-sft.json"
        if later.is_file():
            plan["steps"] |= json.loads(later.read_text())["steps"]
        return plan


@contextlib.contextmanager
def open_run(recipe: Recipe, folder: Path, pages: Sequence[Path] = ()) -> Iterator[Run]:
    """Take hold of a run folder: create it, or check that it is this recipe's, and lock it.

    Raises:
        StateError: the folder belongs to another recipe, is no run folder, or is in use.
        NotFoundError: the user's own pages are not where they should be.
    """
    missing = next((path for path in pages if not path.exists()), None)
    if missing is not None:
        raise NotFoundError(f"--pages {missing}: no such file or folder. Give documents to read.")
    if folder.exists() and not folder.is_dir():
        raise StateError(f"{folder}: a file; a run is a folder. Choose another place with --run.")
    config = folder / "config.toml"
    if config.is_file():
        before = read_toml(config).get("name")
        if before != recipe.name:
            raise StateError(
                f"{folder}: it holds a run of the recipe '{before}'; '{recipe.name}' was given. "
                "Choose another folder with --run."
            )
    elif folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir()):
        raise StateError(
            f"{folder}: the folder holds files but no config.toml; an empty folder or a run "
            "folder is expected. Choose another with --run."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"{folder}: another puna is at work in this run folder. Wait for it to end or "
                "choose another folder with --run."
            ) from error
        write_text(config, dump_toml(to_table(recipe)))
        given = tuple(path.resolve() for path in pages)
        write_json(folder / "pages.json", [str(path) for path in given])
        yield Run(recipe=recipe, folder=folder, pages=given)
