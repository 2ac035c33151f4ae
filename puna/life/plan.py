"""How many steps each phase takes, so that a whole life fits into the minutes given.

The machine is measured on the model and the batches that will be trained; the plan is then written
down, and every resume reads it: a run's result depends on its plan, never on how fast it went on.
Fine-tuning is planned when its turn comes: it gets all the time that is left. Phases whose steps
the recipe names keep them, and the time that they take is kept from the others.
"""

import statistics
import time
from collections.abc import Collection, Mapping
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
_TIMED_STEPS = 5  # after one that warms up
_SHORT_SHARE, _FEWER_STEPS = 0.1, 2  # a phase of less than this share of the time is timed less
_TIMING_SHARE = 0.02  # of the time that is left: on a slow machine fewer steps of a phase are timed
_LEAST = 0.5  # of its share of all the time that fine-tuning gets, however late it is


def measure_machine(recipe: Recipe) -> Table:
    """Return what this machine is and can do in the precision of the recipe."""
    dtype = pick_dtype(recipe.dtype)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "machine": machine().table(),
        "threads": torch.get_num_threads(),
        "matrix_peak_flops": measure_matrix_peak(dtype),
        "read_bandwidth_bytes": measure_read_bandwidth(),
    }


def seconds_for(recipe: Recipe, names: Collection[str], *, spent_s: float) -> float:
    """Return the seconds that these phases may take together, `spent_s` after the start.

    Those that end the training get what is left of the minutes, and never less than half of their
    share; others get their share of it.
    """
    planned = {name: phase.share for name, phase in recipe.phases() if not phase.steps}
    share = sum(planned[name] for name in planned if name in names)
    later = list(planned)
    while later and later[0] not in names:
        later.pop(0)  # those before are done
    later_share = sum(planned[name] for name in later if name not in names)
    whole = (recipe.minutes - recipe.reserve_minutes) * 60
    if later_share:
        return (whole - spent_s) * share / (share + later_share)
    return max(whole - spent_s, _LEAST * whole * share / max(sum(planned.values()), 1e-9))


def plan_steps(
    phases: Mapping[str, PhaseConfig],
    shape: ModelConfig,
    tokens: Mapping[str, Path],
    *,
    dtype: str,
    left_s: float,
    must_fit: bool = True,
) -> Table:
    """Time a step of each phase and return how many fit: `steps` and `seconds_per_step`.

    Args:
        tokens: the shards of each phase.
        left_s: seconds for all of these phases and for the timing.
        must_fit: stop where a phase has not time for one step; else it gets one, and ends late.
    Raises:
        ConfigError: the seconds are too few for even one step of each phase.
    """
    began = time.perf_counter()
    free = [name for name, phase in phases.items() if not phase.steps]
    step_s = {
        name: _seconds_per_step(shape, phase, tokens[name], dtype, most_s=_TIMING_SHARE * left_s)
        for name, phase in phases.items()
        if free
    }
    left_s -= time.perf_counter() - began
    steps = {name: phase.steps for name, phase in phases.items()}
    left_s -= sum(steps[name] * step_s[name] * _HEADROOM for name in step_s)
    shares = sum(phases[name].share for name in free)
    for name in free:
        phase = phases[name]
        own_s = max(left_s, 0.0) * phase.share / shares
        steps[name] = int(own_s / step_s[name] / _HEADROOM)
        if steps[name] < 1 and must_fit:
            raise ConfigError(
                f"plan: {max(left_s, 0.0) / 60:.1f} minutes are left for training and "
                f"{own_s:.1f} s of them are for {name}; one step of it takes {step_s[name]:.1f} s. "
                "Raise `minutes` or make the model smaller."
            )
        stream = TokenStream(tokens[name])
        most = phase.most_epochs * stream.tokens / (phase.sequence * phase.batch)
        steps[name] = max(1, min(steps[name], int(most)))
        late = "" if own_s >= step_s[name] else ", later than the recipe's minutes"
        note(f"plan: {name}: {steps[name]:,} steps of {step_s[name]:.2f} s{late}")
    return {"steps": steps, "seconds_per_step": step_s}


def _seconds_per_step(
    shape: ModelConfig, phase: PhaseConfig, tokens: Path, dtype: str, *, most_s: float
) -> float:
    """Time one optimizer step of a phase, its batch and its update, after one that warms up.

    The median of a few steps leaves out what a neighbour on the machine delayed; after `most_s`
    seconds those that are done must do.
    """
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
    seconds: list[float] = []
    while len(seconds) < 1 + timed and (len(seconds) < 2 or sum(seconds[1:]) < most_s):
        began = time.perf_counter()
        accumulate_gradients(job, loader.batch(len(seconds)))
        clip_gradients(list(model.parameters()), phase.optimizer.max_grad_norm)
        optimizers.step(0.0)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])
