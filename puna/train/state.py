"""Where a training run stands, saved so that a kill at any byte costs only the steps since.

A checkpoint is a folder `step-000500` with the float32 weights, the optimizer's tensors and
`state.json`, which holds their hashes. It appears by a rename, when it is whole; the newest that
verifies is the one restored.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from puna.errors import FormatError, StateError
from puna.files import atomic_folder, sha256_file, write_json
from puna.log import note
from puna.train.optimizer import Optimizers


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """Progress of a run, in optimizer steps and in tokens."""

    step: int = 0  # optimizer steps done; also the number of the next global batch
    tokens: int = 0  # tokens read
    targets: int = 0  # tokens that counted in the loss
    seconds: float = 0.0  # time spent in steps


class Checkpoints:
    """The checkpoints of one stage, newest last; `keep` of them stay on disk."""

    def __init__(self, folder: Path, *, identity: str, keep: int = 2) -> None:
        self.folder, self.identity, self.keep = folder, identity, keep

    def save(self, model: nn.Module, optimizers: Optimizers, state: TrainState) -> Path:
        """Write the checkpoint of `state.step`, then delete those beyond `keep`."""
        target = self.folder / f"step-{state.step:06d}"
        with atomic_folder(target) as partial:
            save_file(dict(model.state_dict()), partial / "model.safetensors")
            save_file(optimizers.state(), partial / "optimizer.safetensors")
            files = ("model.safetensors", "optimizer.safetensors")
            facts = {
                "state": asdict(state),
                "identity": self.identity,
                "sha256": {name: sha256_file(partial / name) for name in files},
            }
            write_json(partial / "state.json", facts)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        return target

    def restore(self, model: nn.Module, optimizers: Optimizers) -> TrainState | None:
        """Load the newest whole checkpoint into the model; None where there is none.

        Raises:
            StateError: the newest checkpoint belongs to another configuration.
        """
        for folder in reversed(self.all()):
            try:
                facts = self._verified(folder)
            except FormatError as error:
                note(f"{error} The checkpoint before it is used.")
                continue
            if facts["identity"] != self.identity:
                raise StateError(
                    f"{folder}: it was written with another configuration or other data; the "
                    "same are expected to continue. Start in a new run folder, or delete it."
                )
            model.load_state_dict(load_file(folder / "model.safetensors"))
            optimizers.restore(load_file(folder / "optimizer.safetensors"))
            return TrainState(**facts["state"])
        return None

    def all(self) -> list[Path]:
        """Return the folders of complete checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def _verified(self, folder: Path) -> dict[str, Any]:
        try:
            facts = json.loads((folder / "state.json").read_text())
            for name, digest in facts["sha256"].items():
                if sha256_file(folder / name) != digest:
                    raise FormatError(f"{folder / name}: its bytes do not match their hash.")
        except (OSError, KeyError, json.JSONDecodeError) as error:
            raise FormatError(f"{folder}: not a whole checkpoint ({error}).") from error
        return dict(facts)
