"""The one training loop: pretraining, extension and fine-tuning differ in loss and data only."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from puna.data.loader import Batch, Loader
from puna.errors import ConfigError, StateError
from puna.log import progress
from puna.model.llama import Llama
from puna.ops.loss import IGNORED, cross_entropy_sum
from puna.train.lanes import side_by_side
from puna.train.meter import Meter
from puna.train.optimizer import OptimizerConfig, Optimizers, clip_gradients
from puna.train.schedule import ScheduleConfig, learning_rate_share
from puna.train.state import Checkpoints, TrainState

Loss = Callable[[Llama, Batch], Tensor]  # the sum over a micro-batch's targets, in nats


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long, in what pieces, and with which precision."""

    steps: int  # optimizer steps
    batch: int  # rows of a global batch
    sequence: int  # tokens of a row
    micro_rows: int = 1  # rows computed at once; the gradients of all are summed
    seed: int = 0
    dtype: str = "float32"  # products in "bfloat16" keep float32 weights and accumulation
    save_every: int = 200  # steps between checkpoints
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.sequence, self.micro_rows, self.save_every) < 1:
            raise ConfigError(
                f"train: steps={self.steps}, batch={self.batch}, sequence={self.sequence}, "
                f"micro_rows={self.micro_rows}, save_every={self.save_every}; all must be positive."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that one stage of training needs."""

    title: str
    model: Llama
    loader: Loader
    config: TrainConfig
    folder: Path  # of the checkpoints
    metrics: Path
    identity: str  # hash of the configuration and the inputs; a resume under another is refused
    loss: Loss = lambda model, batch: next_token_loss(model, batch)


def next_token_loss(model: Llama, batch: Batch) -> Tensor:
    """Return the summed cross-entropy of each token given those before it in its document.

    Positions without a target never reach the head: of a dialog most are the user's.
    """
    counts = batch.targets != IGNORED
    states = model.hidden(batch.ids, documents=batch.documents)[counts]
    return cross_entropy_sum(model.logits(states), batch.targets[counts])


def train(job: Job) -> TrainState:
    """Train until `job.config.steps`; killed at any step, a rerun gives the same weights."""
    config, model = job.config, job.model.train().requires_grad_(True)
    optimizers = Optimizers(model, config.optimizer)
    checkpoints = Checkpoints(job.folder, identity=job.identity)
    state = checkpoints.restore(model, optimizers) or TrainState()
    with (
        Meter(job.metrics, stage=job.title, resumed_at=state.step) as meter,
        progress(total=config.steps, title=job.title) as bar,
    ):
        bar.advance(state.step)
        while state.step < config.steps:
            began = time.perf_counter()
            batch = job.loader.batch(state.step)
            loss = accumulate_gradients(job, batch)
            grad_norm = clip_gradients(list(model.parameters()), config.optimizer.max_grad_norm)
            share = learning_rate_share(config.schedule, state.step, config.steps)
            optimizers.step(share)
            took = time.perf_counter() - began
            state = _after(state, batch, took)
            speed = batch.ids.numel() / took
            meter.write(
                step=state.step,
                tokens=state.tokens,
                loss=loss,
                lr=config.optimizer.peak_lr * share,
                grad_norm=grad_norm,
                tokens_per_s=speed,
                seconds=state.seconds,
            )
            bar.advance(1, f"loss {loss:.3f}  {speed:,.0f} tokens/s")
            if state.step % config.save_every == 0 or state.step == config.steps:
                checkpoints.save(model, optimizers, state)
    model.eval().requires_grad_(False)
    return state


def accumulate_gradients(job: Job, batch: Batch) -> float:
    """Add the gradients of the mean loss over all targets of the batch; return that loss in nats.

    Each micro-batch's sum is divided by the target tokens of the whole batch, so the result is the
    same for any micro-batch size.
    Raises:
        StateError: the loss is not finite; the checkpoint before it is still on disk.
    """
    targets = max(1, batch.target_tokens)
    learnt = [p for p in job.model.parameters() if p.requires_grad]

    def differentiate(micro: Batch) -> tuple[float, tuple[Tensor, ...]]:
        with precision(job.config.dtype, micro.ids.device):
            loss = job.loss(job.model, micro) / targets
        return float(loss.detach()), torch.autograd.grad(loss, learnt)

    micros = batch.split(job.config.micro_rows)
    total = 0.0
    is_cpu = batch.ids.device.type == "cpu"
    wave = torch.get_num_threads() if is_cpu else 1  # gradients held at once
    for first in range(0, len(micros), wave):
        for loss, gradients in side_by_side(differentiate, micros[first : first + wave]):
            total += loss
            for p, gradient in zip(learnt, gradients, strict=True):
                p.grad = gradient if p.grad is None else p.grad.add_(gradient)
    if not math.isfinite(total):
        raise StateError(
            f"{job.title}: the loss became {total}; a finite number is expected. Lower the "
            "learning rate and run again: it continues from the last checkpoint."
        )
    return total


def precision(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """Compute products in `dtype`, with float32 weights, sums and gradients."""
    if dtype == "float32":
        return nullcontext()
    if dtype != "bfloat16":
        raise ConfigError(f"train: dtype={dtype!r}; expected 'float32' or 'bfloat16'.")
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _after(state: TrainState, batch: Batch, seconds: float) -> TrainState:
    return TrainState(
        step=state.step + 1,
        tokens=state.tokens + batch.ids.numel(),
        targets=state.targets + batch.target_tokens,
        seconds=state.seconds + seconds,
    )
