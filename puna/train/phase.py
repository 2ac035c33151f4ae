"""One phase of a run: what is trained for how long, as a recipe writes it.

Pretraining, every increment of the context extension and fine-tuning are phases. A phase whose
`steps` are 0 gets them from the plan, which measures this machine (puna.life.plan).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from puna.config import to_table
from puna.data.loader import Loader
from puna.data.shards import TokenStream
from puna.errors import ConfigError
from puna.files import hash_json
from puna.model.llama import Llama
from puna.train.loop import Job, TrainConfig, train
from puna.train.optimizer import OptimizerConfig
from puna.train.schedule import ScheduleConfig
from puna.train.state import TrainState


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseConfig:
    """Length, batch and optimizer of one phase."""

    sequence: int  # tokens of a row
    batch: int  # rows of an optimizer step
    steps: int = 0  # 0: planned from the time that is left
    share: float = 1.0  # of the planned training time
    most_epochs: float = 8.0  # a planned phase does not read its data more often
    micro_rows: int = 1  # rows computed at once
    warmup_share: float = 0.03  # of the steps
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_share: float = 0.01
    save_every: int = 100
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if min(self.sequence, self.batch, self.micro_rows, self.save_every) < 1:
            raise ConfigError(
                f"phase: sequence={self.sequence}, batch={self.batch}, "
                f"micro_rows={self.micro_rows}, save_every={self.save_every}; all must be positive."
            )
        if self.steps < 0 or self.share <= 0 or not 0 <= self.warmup_share < 1:
            raise ConfigError(
                f"phase: steps={self.steps}, share={self.share}, "
                f"warmup_share={self.warmup_share}; steps from 0, a positive share and a warm-up "
                "between 0 and 1 are expected."
            )

    def for_steps(self, steps: int) -> "PhaseConfig":
        """Return this phase with its number of steps decided."""
        return replace(self, steps=steps)

    def train_config(self, *, seed: int, dtype: str) -> TrainConfig:
        """Return what the training loop reads."""
        if not self.steps:
            raise ConfigError("phase: steps is 0 and no plan was made; give `steps` in the recipe.")
        schedule = ScheduleConfig(
            warmup_steps=round(self.steps * self.warmup_share),
            decay=self.decay,
            final_share=self.final_share,
        )
        return TrainConfig(
            steps=self.steps,
            batch=self.batch,
            sequence=self.sequence,
            micro_rows=min(self.micro_rows, self.batch),
            seed=seed,
            dtype=dtype,
            save_every=self.save_every,
            optimizer=self.optimizer,
            schedule=schedule,
        )


def run_phase(
    title: str,
    model: Llama,
    config: TrainConfig,
    *,
    tokens: Path,
    folder: Path,
    metrics: Path,
    inputs: Mapping[str, Any],
) -> TrainState:
    """Train `model` in place on the shards in `tokens`, resuming what `folder` holds.

    Args:
        inputs: what decides the result besides the configuration: hashes of weights and data.
    """
    stream = TokenStream(tokens)
    loader = Loader(stream, sequence=config.sequence, batch=config.batch, seed=config.seed)
    table = to_table(config)
    table.pop("save_every")  # how often a run is saved does not change its weights
    identity = hash_json({"title": title, "config": table, "inputs": dict(inputs)})
    job = Job(
        title=title,
        model=model,
        loader=loader,
        config=config,
        folder=folder,
        metrics=metrics,
        identity=identity,
    )
    return train(job)
