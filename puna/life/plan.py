"""How many steps each phase takes, so that a whole life fits into the minutes given.

The machine is measured on the model and the batches that will be trained; the plan is then written
down, and every resume reads it: a run's result depends on its plan, never on how fast it went on.
"""

import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from puna.data.loader import Loader
from puna.data.shards import TokenStream
from puna.device import machine, measure_matrix_peak, measure_read_bandwidth, pick_dtype
from puna.errors import ConfigError
from puna.life.recipe import Recipe
from puna.log import note
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.train.loop import Job, accumulate_gradients
from puna.train.optimizer import Optimizers, clip_gradients
from puna.train.phase import PhaseConfig

Table = dict[str, object]

# A step in the middle of a run took 1.0 to 1.2 times what it took while it was measured: the
# processor is warm, checkpoints are written, and neighbours come and go.
_HEADROOM = 1.05
_WARM_STEPS, _TIMED_STEPS = 1, 5
_SHORT_SHARE, _FEWER_STEPS = 0.1, 2  # a phase of less than this share of the time is timed less


def make_plan(
    recipe: Recipe, shape: ModelConfig, tokens: Mapping[str, Path], *, spent_s: float
) -> Table:
    """Measure this machine and return the plan: precision, peaks, and steps of every phase.

    Args:
        tokens: the shards of each phase.
        spent_s: seconds that the run has taken so far.
    Raises:
        ConfigError: the minutes are too few for even one step of each phase.
    """
    dtype = pick_dtype(recipe.dtype)
    name = str(dtype).removeprefix("torch.")
    began = time.perf_counter()
    plan: Table = {
        "dtype": name,
        "machine": machine().table(),
        "threads": torch.get_num_threads(),
        "matrix_peak_flops": measure_matrix_peak(dtype),
        "read_bandwidth_bytes": measure_read_bandwidth(),
    }
    step_s = {
        phase_name: _seconds_per_step(shape, phase, tokens[phase_name], name)
        for phase_name, phase in recipe.phases()
        if not phase.steps
    }
    left = recipe.minutes * 60 - recipe.reserve_minutes * 60 - spent_s
    left -= time.perf_counter() - began
    shares = sum(phase.share for phase_name, phase in recipe.phases() if phase_name in step_s)
    steps: dict[str, int] = {}
    for phase_name, phase in recipe.phases():
        if phase_name not in step_s:
            steps[phase_name] = phase.steps
            continue
        steps[phase_name] = int(left * phase.share / shares / step_s[phase_name] / _HEADROOM)
        if steps[phase_name] < 1:
            raise ConfigError(
                f"plan: {recipe.minutes} minutes were given and {max(left, 0) / 60:.1f} are left "
                f"for training; one step of {phase_name} takes {step_s[phase_name]:.1f} s. Raise "
                "`minutes` or make the model smaller."
            )
        stream = TokenStream(tokens[phase_name])
        most = phase.most_epochs * stream.tokens / (phase.sequence * phase.batch)
        steps[phase_name] = max(1, min(steps[phase_name], int(most)))
        note(f"plan: {phase_name}: {steps[phase_name]:,} steps of {step_s[phase_name]:.2f} s")
    plan["steps"] = steps
    plan["seconds_per_step"] = step_s
    return plan


def _seconds_per_step(shape: ModelConfig, phase: PhaseConfig, tokens: Path, dtype: str) -> float:
    """Time one optimizer step of a phase, its batch and its update, after a warm-up."""
    model = Llama(replace(shape, context=max(shape.context, phase.sequence)))
    initialise(model, seed=0)
    config = phase.for_steps(1).train_config(seed=0, dtype=dtype)
    loader = Loader(TokenStream(tokens), sequence=phase.sequence, batch=phase.batch, seed=0)
    job = Job(
        title="plan",
        model=model,
        loader=loader,
        config=config,
        folder=tokens,
        metrics=tokens,
        identity="",
    )
    optimizers = Optimizers(model, phase.optimizer)
    timed = _TIMED_STEPS if phase.share >= _SHORT_SHARE else _FEWER_STEPS
    seconds = []
    for number in range(_WARM_STEPS + timed):
        began = time.perf_counter()
        accumulate_gradients(job, loader.batch(number))
        clip_gradients(list(model.parameters()), phase.optimizer.max_grad_norm)
        optimizers.step(0.0)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[_WARM_STEPS:])
