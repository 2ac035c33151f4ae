"""Every row of a batch writes what it would write alone (pitfalls I1, I2, I3, I4, I6, I7, R5)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import ContextError, RequestError
from puna.infer.batch import Batch
from puna.infer.generate import generate_ids, stream_ids
from puna.infer.prefill import similar_lengths
from puna.infer.sampling import SamplingConfig
from tests.infer.tiny import GREEDY, WARM, prompts_of, tiny_model


def greedy_without_cache(model, prompt: list[int], steps: int) -> list[int]:
    ids = list(prompt)
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_greedy_with_a_cache_equals_greedy_without() -> None:
    model, [prompt] = tiny_model(), prompts_of([7])
    [ours] = generate_ids(model, [prompt], max_tokens=20, sampling=GREEDY)
    assert list(ours.ids) == greedy_without_cache(model, prompt, 20)
    assert ours.finish_reason == "length"


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "sampled"])
def test_a_row_of_a_ragged_batch_equals_the_single_run(sampling: SamplingConfig) -> None:
    model, prompts = tiny_model(), prompts_of([1, 13, 5, 9])
    together = generate_ids(model, prompts, max_tokens=15, sampling=sampling)
    alone = [generate_ids(model, [p], max_tokens=15, sampling=sampling)[0] for p in prompts]
    assert together == alone


def test_logits_of_a_ragged_batch_equal_the_single_run(monkeypatch) -> None:
    model, prompts = tiny_model(), prompts_of([2, 11, 6])
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("puna.infer.batch.sample", recording_sample(seen))
    generate_ids(model, prompts, max_tokens=6, sampling=GREEDY)
    together, seen[:] = torch.stack(seen), []
    for row, prompt in enumerate(prompts):
        generate_ids(model, [prompt], max_tokens=6, sampling=GREEDY)
        alone = torch.cat(seen)
        seen.clear()
        assert together[:, row].isfinite().all()
        torch.testing.assert_close(together[:, row], alone, rtol=1e-5, atol=1e-5)


def recording_sample(seen: list[torch.Tensor]):
    def record(logits, *_):
        seen.append(torch.as_tensor(logits))
        return logits.argmax(-1).tolist()

    return record


@pytest.mark.parametrize("prefill_tokens", [1, 4, 7, 1000])
def test_chunks_of_the_prompt_change_nothing(prefill_tokens: int) -> None:
    model, prompts = tiny_model(), prompts_of([17, 4, 8])
    whole = generate_ids(model, prompts, max_tokens=10, sampling=GREEDY)
    chunked = generate_ids(
        model, prompts, max_tokens=10, sampling=GREEDY, prefill_tokens=prefill_tokens
    )
    assert chunked == whole


def test_rows_of_very_different_lengths_are_read_apart_and_decoded_together() -> None:
    model, prompts = tiny_model(context=512), prompts_of([3, 300, 70, 5, 140, 310, 64])
    lengths = [len(prompt) for prompt in prompts]
    assert similar_lengths(lengths) == [[0, 3, 6], [2, 4], [1, 5]]
    together = generate_ids(model, prompts, max_tokens=10, sampling=GREEDY)
    alone = [generate_ids(model, [p], max_tokens=10, sampling=GREEDY)[0] for p in prompts]
    assert together == alone


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
def test_padding_costs_at_most_as_much_as_the_prompts(lengths: list[int]) -> None:
    groups = similar_lengths(lengths)
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        longest, shortest = max(lengths[r] for r in rows), min(lengths[r] for r in rows)
        assert longest <= max(2 * shortest, 64)


def test_reading_and_then_decoding_equals_reading_beyond_the_original_context() -> None:
    """R5: prefill of N + 1 tokens equals prefill of N and one decoded, N beyond 8192."""
    model, [prompt] = tiny_model(context=16_384, scaled=True), prompts_of([8300])
    batch = Batch(model, [prompt], max_tokens=3, sampling=GREEDY, stop_ids=())
    written = [batch.step()[0].id for _ in range(3)]
    whole = model.hidden(torch.tensor([prompt + written[:2]]))[:, -3:]
    assert model.logits(whole).argmax(-1).tolist() == [written]


def test_the_cache_grows_without_changing_a_token(monkeypatch) -> None:
    model, prompts = tiny_model(), prompts_of([3, 6])
    plenty = generate_ids(model, prompts, max_tokens=40, sampling=GREEDY)
    for rows in ("rows", "torch_rows"):
        monkeypatch.setattr(f"puna.infer.{rows}.FIRST_ROOM", 2)
    assert generate_ids(model, prompts, max_tokens=40, sampling=GREEDY) == plenty


def test_each_stop_id_ends_its_own_row_and_is_the_last_id() -> None:
    model, prompts = tiny_model(), prompts_of([4, 5, 6])
    free = generate_ids(model, prompts, max_tokens=12, sampling=GREEDY)
    stops = {free[0].ids[3], free[1].ids[6]}
    stopped = generate_ids(model, prompts, max_tokens=12, sampling=GREEDY, stop_ids=stops)
    for before, after in zip(free, stopped, strict=True):
        places = [place for place, token in enumerate(before.ids) if token in stops]
        end = places[0] + 1 if places else 12
        assert after.ids == before.ids[:end]
        assert after.finish_reason == ("stop" if places else "length")
    assert [g.finish_reason for g in stopped][:2] == ["stop", "stop"]


def test_ignore_eos_writes_on_past_stop_ids() -> None:
    model, prompts = tiny_model(), prompts_of([4])
    free = generate_ids(model, prompts, max_tokens=12, sampling=GREEDY)
    stop = [free[0].ids[2]]
    assert generate_ids(
        model, prompts, max_tokens=12, sampling=GREEDY, stop_ids=stop, ignore_eos=True
    ) == free  # fmt: skip


def test_a_finished_row_draws_and_computes_nothing_more() -> None:
    model, prompts = tiny_model(), prompts_of([4, 4])
    free = generate_ids(model, prompts, max_tokens=8, sampling=GREEDY)
    assert free[0].ids[1] not in free[1].ids, "choose another seed: the rows must differ"
    widths: list[int] = []
    model.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[0]))
    first, second = generate_ids(
        model, prompts, max_tokens=8, sampling=GREEDY, stop_ids=[free[0].ids[1]]
    )
    assert widths == [2, 2, 1, 1, 1, 1, 1, 1]
    assert first.ids == free[0].ids[:2]
    assert second == free[1]


def test_the_caller_may_end_a_row() -> None:
    model, prompts = tiny_model(), prompts_of([4, 5])
    heard: list[tuple[int, int]] = []

    def on_token(row: int, token: int) -> bool:
        heard.append((row, token))
        return row == 1 and sum(r == 1 for r, _ in heard) == 3

    first, second = generate_ids(model, prompts, max_tokens=6, sampling=GREEDY, on_token=on_token)
    assert (len(first.ids), first.finish_reason) == (6, "length")
    assert (len(second.ids), second.finish_reason) == (3, "stop")
    assert [t for r, t in heard if r == 0] == list(first.ids)


def test_the_stream_yields_what_the_batch_returns() -> None:
    model, [prompt] = tiny_model(), prompts_of([5])
    [whole] = generate_ids(model, [prompt], max_tokens=9, sampling=WARM)
    tokens = list(stream_ids(model, prompt, max_tokens=9, sampling=WARM))
    assert [token.id for token in tokens] == list(whole.ids)
    assert [token.finish_reason for token in tokens] == [None] * 8 + ["length"]


def test_without_max_tokens_a_row_fills_the_context() -> None:
    model, prompts = tiny_model(context=32), prompts_of([5, 30])
    rows = generate_ids(model, prompts, sampling=GREEDY)
    assert [len(row.ids) for row in rows] == [27, 2]


def test_a_prompt_that_does_not_fit_is_an_error_with_the_counts() -> None:
    model = tiny_model(context=32)
    with pytest.raises(ContextError, match=r"prompt 1 has 33 tokens; .* context is 32"):
        generate_ids(model, prompts_of([3, 33]), sampling=GREEDY)


def test_max_tokens_beyond_the_context_is_an_error_with_the_counts() -> None:
    model = tiny_model(context=32)
    with pytest.raises(
        ContextError, match=r"20 tokens and max_tokens=13 was given, 33 .* at most 12"
    ):
        generate_ids(model, prompts_of([20]), max_tokens=13, sampling=GREEDY)
    with pytest.raises(ContextError, match="context is 32"):
        stream_ids(model, prompts_of([20])[0], max_tokens=13, sampling=GREEDY)


def test_a_prompt_without_tokens_is_an_error() -> None:
    with pytest.raises(RequestError, match="prompt 1 has no tokens"):
        generate_ids(tiny_model(), [[1], []], sampling=GREEDY)


@pytest.mark.parametrize("wrong", [-1, 97])
def test_an_id_beyond_the_vocabulary_is_an_error(wrong: int) -> None:
    with pytest.raises(RequestError, match=f"the prompt holds the id {wrong}; .* 97 ids"):
        generate_ids(tiny_model(), [[1, wrong]], sampling=GREEDY)


def test_no_prompts_give_no_rows() -> None:
    assert generate_ids(tiny_model(), [], sampling=GREEDY) == []


def test_the_pad_id_in_a_prompt_survives() -> None:
    """I4: padding is known by the lengths, so 128004 inside a prompt is a token like any other."""
    model = tiny_model(vocab=128_256)
    prompts = [[128_000, 5, 128_004, 9], [128_000, 7, 3, 8, 2, 128_004, 128_004]]
    rows = generate_ids(model, prompts, max_tokens=4, sampling=GREEDY)
    for prompt, row in zip(prompts, rows, strict=True):
        assert list(row.ids) == greedy_without_cache(model, prompt, 4)


def test_greedy_rows_stay_greedy_beside_sampled_ones() -> None:
    model, prompts = tiny_model(), prompts_of([4, 6, 3])
    alone = generate_ids(model, prompts[1:2], max_tokens=8, sampling=GREEDY)[0]
    mixed = generate_ids(model, prompts, max_tokens=8, sampling=[WARM, GREEDY, WARM])
    assert mixed[1] == alone


def test_a_repetition_penalty_counts_the_prompt_and_what_was_written() -> None:
    model, [prompt] = tiny_model(), prompts_of([6])
    strict = SamplingConfig(temperature=0, repetition_penalty=1e9)
    [row] = generate_ids(model, [prompt], max_tokens=30, sampling=strict)
    assert len({*prompt, *row.ids}) == len(set(prompt)) + 30


def test_as_many_configs_as_prompts_are_expected() -> None:
    with pytest.raises(RequestError, match="1 sampling configs were given for 2 prompts"):
        generate_ids(tiny_model(), prompts_of([2, 2]), sampling=[GREEDY])
