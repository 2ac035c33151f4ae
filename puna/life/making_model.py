"""The stages that turn tokens into a model: plan, pretrain, extend, sft."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import puna.chat as chat_room
from puna.checkpoint.huggingface import save_huggingface
from puna.checkpoint.load import load_model
from puna.files import atomic_folder, write_json
from puna.life.making_data import load_tokenizer
from puna.life.plan import measure_machine, plan_steps, seconds_for
from puna.life.run import Run
from puna.model.config import ModelConfig, RopeScaling
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.pretrain.extension import lengthen
from puna.train.phase import PhaseConfig, run_phase

BEFORE_PLAN = ("curate", "tokenizer", "pack")
BEFORE_SFT = (*BEFORE_PLAN, "plan", "pretrain", "extend")


def plan_stage(run: Run) -> dict[str, Any]:
    """Decide the steps of every phase up to fine-tuning, and of what the recipe decides itself."""
    began = time.perf_counter()
    plan = measure_machine(run.recipe)
    spent_s = seconds_of(run, BEFORE_PLAN) + time.perf_counter() - began
    tuned = run.recipe.tuning()
    phases = {
        name: phase for name, phase in run.recipe.phases() if phase.steps or name not in tuned
    }
    return _decide(run, "plan", phases, spent_s=spent_s, plan=plan)


def plan_sft_stage(run: Run) -> dict[str, Any]:
    """Decide the steps of fine-tuning, which gets the time that is left.

    What was pretrained is not lost to a machine that became slow: at least a step fits.
    """
    plan, spent_s = {"dtype": run.plan()["dtype"]}, seconds_of(run, BEFORE_SFT)
    tuned = run.recipe.tuning()
    return _decide(run, "plan-sft", tuned, spent_s=spent_s, plan=plan, must_fit=False)


def pretrain_stage(run: Run) -> dict[str, Any]:
    """Train the base model from fresh weights at the first context length."""
    model = Llama(first_shape(run))
    initialise(model, seed=run.recipe.seed, embed_std=run.recipe.shape.embed_std)
    facts = _train(run, "pretrain", "pretrain", model, run.recipe.pretrain)
    _save(run, model, run.stage("pretrain") / "model")
    return {"parameters": model.config.parameters, "phases": {"pretrain": facts}}


def extend_stage(run: Run) -> dict[str, Any]:
    """Lengthen the context in increments, with RoPE's low frequencies slowed from the first on.

    Source: The Llama 3 Herd of Models, section 3.4.2.
    """
    recipe = run.recipe
    scaling = RopeScaling(factor=recipe.rope_factor, original_context=recipe.pretrain.sequence)
    model = load_model(run.stage("pretrain") / "model")
    facts: dict[str, Any] = {}
    for phase in recipe.extend:
        model = lengthen(model, context=phase.sequence, scaling=scaling)
        name = f"extend-{phase.sequence}"
        facts[name] = _train(run, "extend", name, model, phase)
    _save(run, model, run.stage("extend") / "model")
    return {"context": model.config.context, "phases": facts}


def sft_stage(run: Run) -> dict[str, Any]:
    """Fine-tune the base model on dialogs; only the assistant's words are targets.

    Later phases go on with longer texts.
    Source: The Llama 3 Herd of Models, section 4.1.3.
    """
    model = load_model(base_folder(run))
    facts = {
        name: _train(run, "sft", name, model, phase) for name, phase in run.recipe.tuning().items()
    }
    template = (Path(chat_room.__file__).parent / "meta.jinja").read_text()
    _save(run, model, run.stage("sft") / "model", chat_template=template)
    return {"phases": facts}


def first_shape(run: Run) -> ModelConfig:
    """Return the shape of the model before its context is extended."""
    vocab = load_tokenizer(run).vocab
    return run.recipe.shape.model_config(vocab=vocab, context=run.recipe.pretrain.sequence)


def base_folder(run: Run) -> Path:
    """Return the base model with the longest context."""
    return run.stage("extend" if run.recipe.extend else "pretrain") / "model"


def final_folder(run: Run) -> Path:
    """Return the model that the whole life leads to."""
    return run.stage("sft") / "model" if run.recipe.sft is not None else base_folder(run)


def seconds_of(run: Run, stages: Sequence[str]) -> float:
    """Return what these stages took, as far as they are done.

    A stage that was killed and continued has a manifest of the last call alone; what its phases
    trained before stands in their checkpoints.
    """
    seconds = 0.0
    for manifest in filter(None, map(run.ledger.manifest, stages)):
        phases = manifest["facts"].get("phases", {}).values()
        earlier_s = sum(max(0.0, phase["train_s"] - phase["last_call_s"]) for phase in phases)
        seconds += manifest["seconds"] + earlier_s
    return seconds


def _decide(
    run: Run,
    stage: str,
    phases: dict[str, PhaseConfig],
    *,
    spent_s: float,
    plan: dict[str, Any],
    must_fit: bool = True,
) -> dict[str, Any]:
    """Plan these phases, write the plan down and return the steps."""
    decided = plan_steps(
        phases,
        first_shape(run),
        {name: run.stage("pack") / name for name in phases},
        dtype=plan["dtype"],
        left_s=seconds_for(run.recipe, phases, spent_s=spent_s),
        must_fit=must_fit,
    )
    write_json(run.stage(stage) / f"{stage}.json", {**plan, **decided})
    return {"steps": decided["steps"]}


def _train(run: Run, stage: str, name: str, model: Llama, phase: PhaseConfig) -> dict[str, Any]:
    """Run one phase in the folder of its stage and return what it took."""
    plan = run.plan()
    config = phase.for_steps(plan["steps"][name]).train_config(
        seed=run.recipe.seed, dtype=plan["dtype"]
    )
    began = time.perf_counter()
    reads = {upstream: run.ledger.outputs_hash(upstream) for upstream in ("pack", "pretrain")}
    if stage == "sft":
        reads["extend"] = run.ledger.outputs_hash("extend")
    state = run_phase(
        name,
        model,
        config,
        tokens=run.stage("pack") / name,
        folder=run.stage(stage) / "checkpoints" / name,
        metrics=run.metrics,
        inputs=reads,
    )
    flops = 3 * model.config.forward_flops_per_token(config.sequence / 2)
    return {
        "steps": state.step,
        "tokens": state.tokens,
        "target_tokens": state.targets,
        "train_s": state.seconds,
        "tokens_per_s": state.tokens / state.seconds if state.seconds else None,
        "flops_per_token": flops,
        "last_call_s": time.perf_counter() - began,
    }


def _save(run: Run, model: Llama, folder: Path, *, chat_template: str | None = None) -> None:
    """Write the weights in float32 with the tokenizer, and make them the model of the run."""
    tokenizer = load_tokenizer(run)
    save_huggingface(model, model.config, folder, tokenizer=tokenizer, chat_template=chat_template)
    with atomic_folder(run.folder / "model") as partial:
        for file in folder.iterdir():
            if file.is_file():
                shutil.copy2(file, partial / file.name)
