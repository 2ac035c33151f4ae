"""Work done side by side comes back in order, and gives the gradients of work done in turn."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from puna.train.lanes import side_by_side
from puna.train.loop import accumulate_gradients
from tests.train.test_train import gradients, tiny_job


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_results_come_in_the_order_of_the_items() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(30)
        else:
            second_is_done.set()
        return item * 10

    assert side_by_side(work, [0, 1]) == [0, 10]


@pytest.mark.usefixtures("two_threads")
def test_the_threads_are_shared_out_and_given_back() -> None:
    assert side_by_side(lambda _: torch.get_num_threads(), [0, 1]) == [1, 1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_in_a_lane_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda item: 1 // item, [1, 0])


@pytest.mark.usefixtures("two_threads")
def test_two_lanes_add_up_to_the_gradients_of_one(tmp_path: Path) -> None:
    job = tiny_job(tmp_path, micro_rows=1)
    batch = job.loader.batch(0)
    loss = accumulate_gradients(job, batch)
    side = gradients(job.model)
    job.model.zero_grad()
    torch.set_num_threads(1)
    assert accumulate_gradients(job, batch) == pytest.approx(loss, rel=1e-6)
    for one, two in zip(gradients(job.model), side, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)
