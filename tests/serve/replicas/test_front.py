"""One address for many servers: who answers, what passes through, what a death costs."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from puna.serve.call import Call
from puna.serve.replicas.front import wanted_of
from tests.serve.live import events_of, tiny_llm
from tests.serve.replicas.fleet import Many, many

LONG = "A question that is long enough to have keys of its own. " * 4
CHAT = "/v1/chat/completions"


@pytest.fixture
def two() -> Iterator[Many]:
    with many([tiny_llm(), tiny_llm()]) as two:
        yield two


def test_a_dialog_stays_with_its_replica_and_finds_its_cache(two: Many) -> None:
    for turn in (["first " + LONG], ["other " + LONG]):
        answer = two.chat(*turn).json()
        again = two.chat(*turn, answer["choices"][0]["message"]["content"], "Go on.").json()
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 100
    replicas = [name for name, _, _ in two.fleet.asked]
    assert replicas == ["r0", "r0", "r1", "r1"]
    assert [known > 0 for _, _, known in two.fleet.asked] == [False, True, False, True]


def test_a_stream_passes_through_as_it_is_written(two: Many) -> None:
    client = openai.OpenAI(base_url=two.url + "/v1", api_key="none")
    stream = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "Hi"}], stream=True, max_tokens=6,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert len(chunks) > 3


def test_a_client_that_leaves_frees_the_pages_of_its_replica(two: Many) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 900, "stream": True,
            "ignore_eos": True}  # fmt: skip
    with two.client.stream("POST", CHAT, json=body) as answer:
        next(answer.iter_bytes())
    assert two.is_idle()


def test_a_replica_that_dies_at_once_is_replaced_by_another_in_the_same_request(two: Many) -> None:
    two.fleet.dies_after["r0"] = 0
    answer = two.chat(LONG)
    assert answer.status_code == 200
    assert [name for name, _, _ in two.fleet.asked] == ["r0", "r1"]
    assert two.chat(LONG).status_code == 200


def test_a_replica_that_dies_in_a_stream_ends_it_with_an_error(two: Many) -> None:
    two.fleet.dies_after["r0"] = 3
    events = events_of(two.chat(LONG, stream=True, max_tokens=50, ignore_eos=True).text)
    assert events[-1]["error"]["code"] == "no_replica"
    assert events[0]["choices"]
    assert two.chat(LONG).status_code == 200


def test_without_a_replica_the_answer_is_503_and_so_is_the_health(two: Many) -> None:
    for name in ("r0", "r1"):
        two.fleet.dies_after[name] = 0
    answer = two.chat("Hi")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    two.front.state.ready = 0
    assert two.client.get("/health").json()["status"] == "starting"
    assert two.client.get("/health").status_code == 503
    assert two.chat("Hi").json()["error"]["code"] == "no_replica"


def test_errors_are_the_replicas_own(two: Many) -> None:
    for raw in (b"{", b"[]", b"\xff", b'{"messages": []}', b"[" * 3000):
        answer = two.client.post(CHAT, content=raw)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["message"].endswith(".")
    assert two.client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert two.client.get("/").status_code == 200  # the chat page


def test_a_body_that_is_too_large_never_reaches_a_replica() -> None:
    with many([tiny_llm()], max_body_bytes=1000) as one:
        answer = one.client.post(CHAT, content=b"x" * 1001)
        assert answer.status_code == 413
        assert answer.headers["x-request-id"].startswith("req_")
        assert one.fleet.asked == []


def test_keys_are_asked_for_by_the_replicas() -> None:
    with many([tiny_llm(), tiny_llm()], keys=("key-a",)) as two:
        assert two.chat("Hi").status_code == 401
        assert two.client.get("/metrics").status_code == 401
        assert two.client.get("/health").status_code == 200
        two.client.headers["authorization"] = "Bearer key-a"
        assert two.chat("Hi").status_code == 200
        assert two.client.get("/metrics").status_code == 200


def test_a_draining_front_takes_no_new_work_and_says_so(two: Many) -> None:
    two.front.state.is_draining = True
    assert two.chat("Hi").json()["error"]["code"] == "draining"
    health = two.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "draining")
    assert two.client.get("/v1/models").status_code == 200


def test_metrics_hold_every_replica_under_its_name(two: Many) -> None:
    for text in ("first " + LONG, "other " + LONG):
        two.chat(text)
    two.chat("first " + LONG)
    text = two.client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(families) == text.count("# TYPE")
    written = families["puna_written_tokens"].samples
    by_replica = {s.labels["replica"]: s.value for s in written if s.name.endswith("_total")}
    assert set(by_replica) == {"r0", "r1"}
    routed = {s.labels["replica"]: s.value for s in families["puna_routed"].samples}
    assert routed == {"r0": 2, "r1": 1}
    known = families["puna_routed_known_keys"].samples[0].value
    assert 0 < known < families["puna_routed_keys"].samples[0].value
    assert families["puna_replicas_ready"].samples[0].value == 2


def test_a_stored_response_is_continued_where_it_is_stored(two: Many) -> None:
    client = openai.OpenAI(base_url=two.url + "/v1", api_key="none")
    first = client.responses.create(model="tiny", input="Hi", max_output_tokens=4)
    two.chat("other " + LONG)
    second = client.responses.create(
        model="tiny", input="Go on.", previous_response_id=first.id, max_output_tokens=4
    )
    assert client.responses.retrieve(second.id).id == second.id
    assert client.responses.retrieve(first.id).id == first.id
    client.responses.delete(first.id)


def test_files_and_batches_live_together(two: Many) -> None:
    client = openai.OpenAI(base_url=two.url + "/v1", api_key="none")
    for number in range(3):
        two.chat(f"{number} " + LONG)
    sent = client.files.create(file=("a.jsonl", b'{"custom_id": "1"}\n'), purpose="batch")
    assert client.files.content(sent.id).read() == b'{"custom_id": "1"}\n'
    assert [file.id for file in client.files.list()] == [sent.id]


@pytest.mark.parametrize(
    ("method", "path", "body", "home", "makes"),
    [
        ("GET", "/v1/responses/resp_1", None, b"resp_1", None),
        ("DELETE", "/v1/responses/resp_1/input_items", None, b"resp_1", None),
        ("POST", "/v1/responses", {"previous_response_id": "resp_0"}, b"resp_0", b"resp_req_7"),
        ("POST", "/v1/responses", {"previous_response_id": 3}, None, b"resp_req_7"),
        ("POST", "/v1/files", None, b"files", None),
        ("GET", "/v1/batches/batch_1", None, b"files", None),
        ("GET", "/v1/models", None, None, None),
        ("POST", "/v1/embeddings", {"input": "a" * 200}, None, None),
    ],
)
def test_what_a_request_needs_is_read_from_its_path_and_body(
    method: str, path: str, body: Any, home: bytes | None, makes: bytes | None
) -> None:
    call = Call(path=path, method=method, id="req_7")
    wanted = wanted_of(call, json.dumps(body).encode(), {})
    assert (wanted.home, wanted.makes, wanted.keys) == (home, makes, ())
