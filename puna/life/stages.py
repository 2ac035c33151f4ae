"""The stages of a life in their order, and the one function that runs them.

A stage runs when its inputs have changed or it was never finished; asking for one stage brings
those before it up to date first.
"""

import platform
import time
from collections.abc import Mapping
from typing import Any

from puna.config import to_table
from puna.data.pages import standard_modules
from puna.energy import EnergyMeter
from puna.errors import RequestError
from puna.life.judging import eval_stage, report_stage
from puna.life.making_data import curate_stage, pack_stage, tokenizer_stage
from puna.life.making_model import (
    extend_stage,
    plan_sft_stage,
    plan_stage,
    pretrain_stage,
    sft_stage,
)
from puna.life.run import Run
from puna.life.stage import Stage
from puna.log import note
from puna.train.phase import PhaseConfig


def _planned(run: Run, *names: str) -> dict[str, Any]:
    """What the plan decided for these phases: all that their weights know of it."""
    plan = run.plan()
    return {"dtype": plan["dtype"], "steps": {name: plan["steps"][name] for name in names}}


def _durations(phases: Mapping[str, PhaseConfig]) -> dict[str, Any]:
    """What decides how long the phases take: a learning rate, say, does not."""
    return {
        name: [phase.sequence, phase.batch, phase.steps, phase.share, phase.optimizer.name]
        for name, phase in phases.items()
    }


def _part(*names: str) -> Any:
    """Return a function that picks these parts of a run's recipe."""
    return lambda run: {name: to_table(run.recipe).get(name) for name in names}


def _curate_config(run: Run) -> dict[str, Any]:
    """What decides the documents: the config, and the user's files or this Python's library."""
    if not run.pages:
        source: Any = {"python": platform.python_version(), "modules": len(standard_modules())}
    else:
        files = [path for page in run.pages for path in sorted(_files(page))]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        source = {"pages": [list(map(str, row)) for row in stats]}
    table = _part("curate")(run)
    table["curate"].pop("workers", None)  # the documents are the same for any number
    return {**table, "source": source}


def _files(page: Any) -> list[Any]:
    return [path for path in page.rglob("*") if path.is_file()] if page.is_dir() else [page]


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(name="curate", reads=(), config=_curate_config, work=curate_stage),
        Stage(name="tokenizer", reads=("curate",), config=_part("tokenizer"), work=tokenizer_stage),
        Stage(
            name="pack",
            reads=("curate", "tokenizer"),
            config=lambda run: {
                **_part("recall", "dialogs", "seed")(run),
                "sequences": {name: phase.sequence for name, phase in run.recipe.phases()},
            },
            work=pack_stage,
        ),
        Stage(
            name="plan",
            reads=("pack",),
            config=lambda run: {
                **_part("minutes", "reserve_minutes", "dtype", "shape")(run),
                "phases": _durations(dict(run.recipe.phases())),
            },
            work=plan_stage,
        ),
        Stage(
            name="pretrain",
            reads=("pack",),
            config=lambda run: {
                **_part("shape", "pretrain", "seed")(run),
                "plan": _planned(run, "pretrain"),
            },
            work=pretrain_stage,
            resumes=True,
        ),
        Stage(
            name="extend",
            reads=("pack", "pretrain"),
            config=lambda run: {
                **_part("extend", "rope_factor", "seed")(run),
                "plan": _planned(run, *(f"extend-{p.sequence}" for p in run.recipe.extend)),
            },
            work=extend_stage,
            resumes=True,
        ),
        Stage(
            name="plan-sft",
            reads=("pack", "plan"),
            config=lambda run: {
                **_part("minutes", "reserve_minutes", "shape")(run),
                "phases": _durations(run.recipe.tuning()),
            },
            work=plan_sft_stage,
        ),
        Stage(
            name="sft",
            reads=("pack", "pretrain", "extend"),
            config=lambda run: {
                **_part("sft", "sft_longer", "seed")(run),
                "plan": _planned(run, *run.recipe.tuning()),
            },
            work=sft_stage,
            resumes=True,
        ),
        Stage(
            name="eval",
            reads=("curate", "tokenizer", "pretrain", "extend", "sft"),
            config=_part("eval", "seed"),
            work=eval_stage,
        ),
        Stage(
            name="report",
            reads=("curate", "pack", "plan", "pretrain", "extend", "sft", "eval"),
            config=lambda run: {},
            work=report_stage,
        ),
    )
}


def run_stages(run: Run, *, until: str = "report") -> None:
    """Bring every stage up to date, in order, until the one named.

    Raises:
        RequestError: there is no such stage, or the recipe leaves it out.
    """
    names = stage_names(run)
    if until not in names:
        raise RequestError(
            f"stage {until!r}: the recipe '{run.recipe.name}' has {', '.join(names)}."
        )
    for name in names[: names.index(until) + 1]:
        _run_stage(run, STAGES[name])


def stage_names(run: Run) -> list[str]:
    """Return the stages that this recipe has, in order."""
    left_out = set()
    if not run.recipe.extend:
        left_out.add("extend")
    if run.recipe.sft is None:
        left_out |= {"plan-sft", "sft"}
    return [name for name in STAGES if name not in left_out]


def _run_stage(run: Run, stage: Stage) -> None:
    ledger = run.ledger
    config = stage.config(run)
    inputs = ledger.inputs_of(stage, config)
    if ledger.is_current(stage.name, inputs):
        note(f"{stage.name}: up to date")
        return
    ledger.begin(stage, inputs)
    began, meter = time.time(), EnergyMeter()
    facts = stage.work(run) or {}
    ledger.sign(stage, inputs, config=config, facts=facts, began=began, energy=meter.read())
