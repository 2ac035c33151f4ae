"""The loop: one mean over all targets, exact resume, whole checkpoints, the paper's optimizer."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puna.data.loader import Batch, Loader
from puna.data.shards import Piece, TokenStream, write_shards
from puna.errors import ConfigError, StateError
from puna.model.config import ModelConfig
from puna.model.init import initialise
from puna.model.llama import Llama
from puna.ops.loss import IGNORED
from puna.train.loop import Job, TrainConfig, accumulate_gradients, next_token_loss, train
from puna.train.meter import read_metrics
from puna.train.muon import orthogonalise
from puna.train.optimizer import OptimizerConfig, Optimizers, clip_gradients
from puna.train.schedule import ScheduleConfig, learning_rate_share

SHAPE = ModelConfig(
    width=24, layers=2, heads=4, kv_heads=2, mlp_width=40, vocab=37, context=32, tied=True
)


def tiny_model(seed: int = 0) -> Llama:
    model = Llama(SHAPE)
    initialise(model, seed=seed, std=0.1)
    return model


def tiny_job(folder: Path, *, steps: int = 6, **changes: object) -> Job:
    shards = folder / "tokens"
    if not shards.exists():
        draw = torch.Generator().manual_seed(0)
        pieces = [
            Piece(ids=torch.randint(SHAPE.vocab, (n,), generator=draw).tolist())
            for n in (5, 30, 17, 64, 9, 80)
        ]
        write_shards(pieces, shards, vocab=SHAPE.vocab)
    config = TrainConfig(
        steps=steps,
        batch=4,
        sequence=16,
        micro_rows=2,
        save_every=2,
        optimizer=OptimizerConfig(name="muon", peak_lr=1e-2, matrix_lr=1e-2),
        schedule=ScheduleConfig(warmup_steps=2),
    )
    config = replace(config, **changes)
    return Job(
        title="pretrain",
        model=tiny_model(),
        loader=Loader(TokenStream(shards), sequence=16, batch=4, seed=1),
        config=config,
        folder=folder / "checkpoints",
        metrics=folder / "metrics.jsonl",
        identity="same",
    )


def weights(job: Job) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in job.model.state_dict().items()}


def gradients(model: Llama) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed_after", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path, killed_after: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = OptimizerConfig(name=name, peak_lr=1e-2, matrix_lr=1e-2)
    whole = tiny_job(tmp_path / "whole", optimizer=optimizer)
    train(whole)

    killed = tiny_job(tmp_path / "killed", optimizer=optimizer)
    fetch = killed.loader.batch

    def dies(number: int) -> Batch:
        if number == killed_after:
            raise KilledError
        return fetch(number)

    monkeypatch.setattr(killed.loader, "batch", dies)
    with pytest.raises(KilledError):
        train(killed)
    resumed = tiny_job(tmp_path / "killed", optimizer=optimizer)
    train(resumed)
    for (name_, one), two in zip(weights(whole).items(), weights(resumed).values(), strict=True):
        assert torch.equal(one, two), name_
    rows = read_metrics(tmp_path / "killed" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    reference = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [row["loss"] for row in rows] == [row["loss"] for row in reference]
    assert [row["lr"] for row in rows] == [row["lr"] for row in reference]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    train(tiny_job(tmp_path))
    again = tiny_job(tmp_path)
    again.loader.batch = None  # type: ignore[method-assign, assignment]
    state = train(again)
    assert state.step == 6


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    whole = tiny_job(tmp_path / "whole")
    train(whole)
    first = tiny_job(tmp_path / "cut")
    train(first)
    newest = sorted((tmp_path / "cut" / "checkpoints").iterdir())[-1]
    path = newest / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    second = tiny_job(tmp_path / "cut")
    train(second)
    for one, two in zip(weights(whole).values(), weights(second).values(), strict=True):
        assert torch.equal(one, two)


def test_a_full_disk_while_saving_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import puna.train.state as room

    job = tiny_job(tmp_path)
    save = room.save_file
    count = 0

    def full_at_the_second(tensors: dict[str, torch.Tensor], path: Path) -> None:
        nonlocal count
        count += 1
        if count > 3:
            path.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        save(tensors, path)

    monkeypatch.setattr(room, "save_file", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        train(job)
    names = [p.name for p in (tmp_path / "checkpoints").iterdir()]
    assert names == ["step-000002"]
    monkeypatch.undo()
    assert train(tiny_job(tmp_path)).step == 6


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    train(tiny_job(tmp_path))
    other = replace(tiny_job(tmp_path), identity="another")
    with pytest.raises(StateError, match="another configuration"):
        train(other)


def test_micro_batches_with_unequal_targets_equal_one_batch(tmp_path: Path) -> None:
    """Rows with 2 and 15 targets: the mean is over 17, however they are split."""
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(SHAPE.vocab, (2, 16), generator=draw)
    targets = torch.randint(SHAPE.vocab, (2, 16), generator=draw)
    targets[0, 2:] = IGNORED
    targets[1, :1] = IGNORED
    batch = Batch(ids=ids, targets=targets, documents=torch.zeros_like(ids))
    results = []
    for rows in (1, 2):
        job = tiny_job(tmp_path, micro_rows=rows)
        loss = accumulate_gradients(job, batch)
        results.append((loss, gradients(job.model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for one, two in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_a_micro_batch_without_targets_adds_nothing(tmp_path: Path) -> None:
    ids = torch.ones(2, 16, dtype=torch.int64)
    targets = torch.full((2, 16), IGNORED)
    job = tiny_job(tmp_path)
    loss = accumulate_gradients(
        job, Batch(ids=ids, targets=targets, documents=torch.zeros_like(ids))
    )
    assert loss == 0
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(job.model))


def test_packed_documents_have_the_loss_of_separate_ones() -> None:
    model = tiny_model().requires_grad_(False)
    draw = torch.Generator().manual_seed(6)
    ids = torch.randint(SHAPE.vocab, (1, 20), generator=draw)
    targets = ids.roll(-1, 1).clone()
    targets[0, 7], targets[0, 19] = IGNORED, IGNORED
    documents = torch.tensor([[0] * 8 + [1] * 12])
    packed = next_token_loss(model, Batch(ids=ids, targets=targets, documents=documents))
    separate = sum(
        next_token_loss(
            model,
            Batch(ids=ids[:, a:b], targets=targets[:, a:b], documents=torch.zeros(1, b - a).long()),
        )
        for a, b in ((0, 8), (8, 20))
    )
    assert packed.item() == pytest.approx(float(separate), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    with torch.no_grad():
        job.model.norm.weight.fill_(float("nan"))
    with pytest.raises(StateError, match="the loss became nan"):
        train(job)


def test_bfloat16_products_train_float32_weights(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, steps=30, dtype="bfloat16", save_every=30)
    train(job)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert all(p.dtype == torch.float32 for p in job.model.parameters())
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3


def test_a_tied_head_stays_tied_through_save_and_resume(tmp_path: Path) -> None:
    train(tiny_job(tmp_path))
    job = tiny_job(tmp_path)
    train(job)
    assert "head.weight" not in job.model.state_dict()
    assert job.model.head is None


def test_adamw_decays_by_the_learning_rate_times_the_coefficient() -> None:
    """With a zero gradient: p <- p - lr * 0.1 * p."""
    model = tiny_model()
    optimizers = Optimizers(model, OptimizerConfig(name="adamw", peak_lr=0.5, weight_decay=0.1))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = model.embed.weight.detach().clone()
    optimizers.step(share=0.2)
    torch.testing.assert_close(model.embed.weight.detach(), before * (1 - 0.5 * 0.2 * 0.1))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_norms_keep_their_weights_where_they_do_not_decay(name: str) -> None:
    """Pitfall L14: with a zero gradient only decay moves a weight."""
    model = tiny_model()
    optimizers = Optimizers(model, OptimizerConfig(name=name, decay_norms=False))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.step(share=1.0)
    kept = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert kept == {key for key in before if "norm" in key}


def test_orthogonalised_matrices_have_singular_values_of_one_size() -> None:
    draw = torch.Generator().manual_seed(7)
    for shape in ((3, 12, 30), (3, 30, 12)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=draw)))
        assert values.min() > 0.15  # the drawn ones reach down to a fiftieth of the largest
        assert values.max() < 2.0


def test_muon_moves_only_matrices_inside_the_blocks() -> None:
    optimizers = Optimizers(tiny_model(), OptimizerConfig(name="muon"))
    counts = [sum(len(g["params"]) for g in o.param_groups) for o in optimizers.each]
    assert counts == [1 + 1 + 4, 14]  # embedding, last norm, four block norms; 7 matrices a block


def test_clipping_returns_the_norm_before_it_clips() -> None:
    p = torch.nn.Parameter(torch.zeros(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([p], 1.0) == pytest.approx(5.0)
    assert p.grad.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_the_learning_rate_follows_the_paper() -> None:
    """405B: linear over 8,000 steps to 8e-5, cosine to 8e-7 at step 1,200,000."""
    config, steps, peak = ScheduleConfig(), 1_200_000, 8e-5
    rate = {s: peak * learning_rate_share(config, s, steps) for s in (0, 7999, 8000, 604_000)}
    assert rate[0] == pytest.approx(1e-8)
    assert rate[7999] == rate[8000] == pytest.approx(8e-5)
    assert rate[604_000] == pytest.approx((8e-5 + 8e-7) / 2)
    assert peak * learning_rate_share(config, steps, steps) == pytest.approx(8e-7)


def test_an_annealing_schedule_falls_linearly_to_zero() -> None:
    config = ScheduleConfig(warmup_steps=0, decay="linear", final_share=0.0)
    assert [learning_rate_share(config, s, 4) for s in range(5)] == [1, 0.75, 0.5, 0.25, 0]


def test_the_metrics_file_survives_a_cut_line(tmp_path: Path) -> None:
    train(tiny_job(tmp_path, steps=4))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    shutil.rmtree(sorted((tmp_path / "checkpoints").iterdir())[-1])
    train(tiny_job(tmp_path, steps=4))
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_the_loss_of_a_fresh_model_is_near_the_log_of_the_vocabulary(tmp_path: Path) -> None:
    """Small random weights spread their guess over 37 words: about ln 37 = 3.61 nats."""
    job = tiny_job(tmp_path)
    initialise(job.model, seed=0, std=0.02)
    assert accumulate_gradients(job, job.loader.batch(0)) == pytest.approx(math.log(37), abs=0.1)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"micro_rows": 0}])
def test_a_training_config_of_nothing_is_refused(change: dict[str, int]) -> None:
    given = {"steps": 1, "batch": 1, "sequence": 4} | change
    with pytest.raises(ConfigError, match="must be positive"):
        TrainConfig(**given)
