from dataclasses import replace

import pytest
import torch

from puna.errors import ConfigError
from puna.infer.ranks import decode, encode
from puna.infer.runner import Part
from puna.parallel.links import backends_of
from puna.parallel.mesh import Mesh
from puna.parallel.shards import Division, Grain, share
from tests.parallel.ranks import odd_model

CONFIG = odd_model().config  # 8 query heads over 4, MLP of 85, vocabulary of 97, 3 layers


def test_tensor_ranks_are_neighbours_and_stages_follow() -> None:
    places = [Mesh(tensor=2, pipeline=2, rank=rank) for rank in range(4)]
    assert [(place.tensor_rank, place.stage) for place in places] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
    ]
    assert places[0].team(1) == [2, 3]
    assert {place.teller for place in places} == {2}


@pytest.mark.parametrize(("tensor", "pipeline"), [(2, 1), (4, 3), (1, 2)])
def test_every_weight_lies_on_some_rank_and_matrices_on_one(tensor: int, pipeline: int) -> None:
    state = odd_model().state_dict()
    seen = {name: torch.zeros_like(weight) for name, weight in state.items()}
    for rank in range(tensor * pipeline):
        mesh = Mesh(tensor=tensor, pipeline=pipeline, rank=rank)
        for shard in Division(whole=CONFIG, mesh=mesh).shards():
            shard.cut(seen[shard.source]).add_(1)
    for name, times in seen.items():
        assert (times == (tensor if "norm" in name and name != "norm.weight" else times)).all()
        assert (times >= 1).all()
        if "norm" not in name:
            assert (times == 1).all(), name


def test_key_heads_that_are_fewer_than_ranks_are_copied_or_refused() -> None:
    places = [Mesh(tensor=8, rank=rank) for rank in range(8)]
    E, spans = CONFIG.head_width, []
    for place in places:
        division = Division(whole=CONFIG, mesh=place)
        assert (division.own.heads, division.own.kv_heads) == (1, 1)
        (key,) = (s for s in division.shards() if s.target == "blocks.0.attn.wk.weight")
        spans.append(key.span)
    # Query head h reads key head h / 2; rank h holds query head h.
    assert spans == [(h // 2 * E, (h // 2 + 1) * E) for h in range(8)]
    with pytest.raises(ConfigError, match="3 ranks were asked for and the model has 8 query heads"):
        Division(whole=CONFIG, mesh=Mesh(tensor=3))
    six = replace(CONFIG, heads=12, kv_heads=6)
    with pytest.raises(ConfigError, match="4 ranks were asked for and the model has 6 key and"):
        Division(whole=six, mesh=Mesh(tensor=4))
    with pytest.raises(ConfigError, match="4 stages were asked for and the model has 3 layers"):
        Division(whole=CONFIG, mesh=Mesh(pipeline=4))


def test_shares_differ_by_one_at_most() -> None:
    assert [share(97, 4, index) for index in range(4)] == [(0, 25), (25, 49), (49, 73), (73, 97)]


def test_shares_in_steps_end_between_them() -> None:
    assert [share(97, 2, index, 16) for index in range(2)] == [(0, 64), (64, 97)]
    steps = Grain(mlp_width=32, vocab=16)
    places = [Mesh(tensor=2, rank=rank) for rank in range(2)]
    widths = [Division(whole=CONFIG, mesh=place, grain=steps).own.mlp_width for place in places]
    assert widths == [64, 21]


def test_a_mesh_of_another_size_than_was_started_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="1 processes were started; tensor x pipeline is 2 x 2 = 4"
    ):
        Mesh.of_process(tensor=2, pipeline=2, environment={})
    started = {"WORLD_SIZE": "4", "RANK": "3"}
    assert Mesh.of_process(tensor=2, pipeline=2, environment=started).stage == 1


def test_a_step_survives_the_way_to_the_other_ranks() -> None:
    parts = [
        Part(ids=[5, 6, 7], held=8, pages=[3, 1], wants_all=True),
        Part(ids=[9], held=0, pages=[2]),
    ]
    assert decode(encode([(4, 5), (6, 7)], parts)) == ([(4, 5), (6, 7)], parts)
    assert decode(encode([], parts[:1])) == ([], parts[:1])


def test_gpus_talk_by_nccl_and_what_processors_hold_by_gloo() -> None:
    assert backends_of(torch.device("cuda", 3)) == ("cpu:gloo,cuda:nccl", "nccl")
    assert backends_of(torch.device("cpu")) == ("gloo", "gloo")
