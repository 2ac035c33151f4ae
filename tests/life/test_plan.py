"""How many steps fit into the minutes, on machines whose speed the tests decide."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import puna.life.plan as planning
from puna.data.loader import Batch
from puna.data.shards import Piece, write_shards
from puna.errors import ConfigError
from puna.files import write_json
from puna.life.making_model import seconds_of
from puna.life.plan import plan_steps, seconds_for
from puna.life.recipe import Recipe, ShapeConfig
from puna.life.run import Run, open_run
from puna.train.loop import Job
from puna.train.phase import PhaseConfig

SHAPE = ShapeConfig(width=16, layers=2, heads=4, kv_heads=2, mlp_width=24)
MODEL = SHAPE.model_config(vocab=40, context=8)
SHORT = PhaseConfig(sequence=8, batch=2, share=0.5)
LONG = PhaseConfig(sequence=16, batch=2, share=0.25)


def recipe(**changes: object) -> Recipe:
    """Ten minutes, one of them reserved: half pretraining, the rest extension and tuning."""
    tuning = replace(LONG, share=0.25)
    made = Recipe(name="r", shape=SHAPE, pretrain=SHORT, extend=(LONG,), sft=tuning, minutes=10.0,
                  reserve_minutes=1.0)  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class Machine:
    """A clock that only work moves: a step takes `token_s` a token, and more where it is busy."""

    token_s: float
    busy: Callable[[int], float] = lambda step: 1.0
    now: float = 0.0
    steps: int = field(default=0)

    def read(self) -> float:
        return self.now

    def work(self, _: Job, batch: Batch) -> float:
        self.now += self.token_s * batch.ids.numel() * self.busy(self.steps)
        self.steps += 1
        return 0.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(token_s=1 / 16)  # a step of SHORT takes 1 s, one of LONG 2 s
    monkeypatch.setattr(planning.time, "perf_counter", made.read)
    monkeypatch.setattr(planning, "accumulate_gradients", made.work)
    monkeypatch.setattr(planning, "clip_gradients", lambda *_: 0.0)
    monkeypatch.setattr(planning.Optimizers, "step", lambda *_: None)
    return made


def tokens(folder: Path, count: int = 100_000) -> Path:
    write_shards([Piece(ids=[7] * count)], folder / str(count), vocab=40)
    return folder / str(count)


def planned(
    folder: Path, phases: dict[str, PhaseConfig], left_s: float, *, must_fit: bool = True
) -> dict[str, int]:
    found = plan_steps(
        phases, MODEL, dict.fromkeys(phases, tokens(folder)), dtype="float32", left_s=left_s,
        must_fit=must_fit,
    )  # fmt: skip
    steps = found["steps"]
    assert isinstance(steps, dict)
    return steps


# Seconds


def test_phases_before_the_last_get_their_share_of_what_is_left() -> None:
    assert seconds_for(recipe(), ["pretrain", "extend-16"], spent_s=140.0) == 0.75 * 400


def test_the_last_phases_get_all_that_is_left() -> None:
    assert seconds_for(recipe(), ["sft"], spent_s=440.0) == 100


def test_without_fine_tuning_the_others_get_everything() -> None:
    names = ["pretrain", "extend-16"]
    assert seconds_for(recipe(sft=None), names, spent_s=140.0) == 400


@pytest.mark.parametrize("spent_s", [539.0, 540.0, 100_000.0])
def test_fine_tuning_keeps_half_of_its_share_however_late_it_is(spent_s: float) -> None:
    assert seconds_for(recipe(), ["sft"], spent_s=spent_s) == 0.5 * 0.25 * 540


def test_a_phase_with_steps_of_its_own_has_no_share() -> None:
    fixed = recipe(extend=(replace(LONG, steps=3),))
    found = seconds_for(fixed, ["pretrain", "extend-16"], spent_s=240.0)
    assert found == pytest.approx(300 * 0.5 / 0.75)


def test_a_fixed_phase_at_the_end_does_not_take_the_time_of_a_planned_one() -> None:
    """The longer tuning names its steps; what is left is for the shorter, which comes before."""
    fixed = recipe(sft_longer=(replace(LONG, steps=3),))
    assert list(fixed.tuning()) == ["sft", "sft-16"]
    plan = seconds_for(fixed, ["pretrain", "extend-16", "sft-16"], spent_s=140.0)
    assert plan == 0.75 * 400
    assert seconds_for(fixed, ["sft", "sft-16"], spent_s=440.0) == 100


def test_minutes_that_the_report_needs_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="minutes=1 and reserve_minutes=1"):
        recipe(minutes=1.0)


# Steps


def test_steps_fill_the_time_by_shares_after_what_timing_took(
    machine: Machine, tmp_path: Path
) -> None:
    """Timing takes 6 steps of each, 6 s and 12 s; two thirds of 1,050 s are for steps of 1 s."""
    steps = planned(tmp_path, {"pretrain": SHORT, "extend": LONG}, 18 + 1050 * 1.0)
    assert machine.now == 18
    assert steps == {"pretrain": int(700 / 1.05), "extend": int(350 / 2 / 1.05)}


def test_one_step_beside_a_busy_neighbour_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    quiet = planned(tmp_path / "quiet", {"sft": SHORT}, 10_000.0)
    machine.busy, machine.steps = lambda step: 30.0 if step in (2, 4) else 1.0, 0
    busy = planned(tmp_path / "busy", {"sft": SHORT}, 10_000.0)
    assert busy["sft"] == pytest.approx(quiet["sft"], rel=0.01)


def test_the_step_that_warms_up_is_not_counted(machine: Machine, tmp_path: Path) -> None:
    machine.busy = lambda step: 50.0 if step == 0 else 1.0
    assert planned(tmp_path, {"sft": SHORT}, 55 + 10_500.0) == {"sft": 10_000}


def test_a_slow_machine_is_timed_less(machine: Machine, tmp_path: Path) -> None:
    """A step of 60 s, of half an hour: the one that warms up and another must do."""
    machine.token_s = 60 / 16
    assert planned(tmp_path, {"sft": SHORT}, 1800.0) == {"sft": int(1680 / 60 / 1.05)}
    assert machine.steps == 2


def test_a_phase_without_time_for_a_step_is_refused_by_name(
    machine: Machine, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"1\.7 s of them are for extend; one step .* 2\.0 s"):
        planned(tmp_path, {"pretrain": replace(SHORT, share=5.0), "extend": LONG}, 42.0)


def test_minutes_that_are_used_up_are_said_as_none(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plan: 0\.0 minutes are left"):
        planned(tmp_path, {"pretrain": SHORT}, -300.0)


def test_fine_tuning_that_is_late_gets_a_step_of_each_phase(
    machine: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="puna"):
        steps = planned(tmp_path, {"sft": SHORT, "sft-16": LONG}, 1.0, must_fit=False)
    assert steps == {"sft": 1, "sft-16": 1}
    assert caplog.text.count("later than the recipe's minutes") == 2


def test_a_phase_reads_its_data_only_so_often(machine: Machine, tmp_path: Path) -> None:
    short = replace(SHORT, most_epochs=1.5)
    found = plan_steps(
        {"sft": short}, MODEL, {"sft": tokens(tmp_path, 320)}, dtype="float32", left_s=1e6
    )
    assert found["steps"] == {"sft": 30}


def test_steps_that_the_recipe_names_are_kept_and_their_time_is_not_given_away(
    machine: Machine, tmp_path: Path
) -> None:
    phases = {"pretrain": SHORT, "sft": replace(LONG, steps=100)}
    left_s = 18 + 10_500 + 100 * 2 * 1.05
    assert planned(tmp_path, phases, left_s) == {"pretrain": 10_000, "sft": 100}


def test_a_recipe_that_names_all_steps_times_nothing(machine: Machine, tmp_path: Path) -> None:
    assert planned(tmp_path, {"sft": replace(LONG, steps=3)}, -60.0) == {"sft": 3}
    assert machine.steps == 0


# What was spent


def sign(run: Run, stage: str, seconds: float, **facts: object) -> None:
    folder = run.stage(stage)
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"seconds": seconds, "facts": facts})


def test_only_the_stages_before_are_spent(tmp_path: Path) -> None:
    """A finished run is planned again with more minutes: its old training is not yet spent."""
    with open_run(recipe(), tmp_path / "run") as run:
        sign(run, "curate", 30.0)
        sign(run, "pretrain", 200.0)
        assert seconds_of(run, ("curate", "tokenizer")) == 30
        assert seconds_of(run, ("curate", "tokenizer", "pretrain")) == 230


def test_training_before_a_kill_is_spent_too(tmp_path: Path) -> None:
    """The last call trained 50 s of the 200; saving and loading took it 5 s more."""
    phases = {"pretrain": {"train_s": 200.0, "last_call_s": 50.0}}
    with open_run(recipe(), tmp_path / "run") as run:
        sign(run, "pretrain", 55.0, phases=phases)
        assert seconds_of(run, ("pretrain",)) == 205


def test_a_plan_has_fine_tuning_only_when_its_turn_has_come(tmp_path: Path) -> None:
    with open_run(recipe(), tmp_path / "run") as run:
        for stage, steps in (("plan", {"pretrain": 9}), ("plan-sft", {"sft": 4})):
            run.stage(stage).mkdir(parents=True)
            (run.stage(stage) / f"{stage}.json").write_text(json.dumps({"steps": steps}))
            assert run.plan()["steps"][next(iter(steps))] in (9, 4)
        assert run.plan()["steps"] == {"pretrain": 9, "sft": 4}
