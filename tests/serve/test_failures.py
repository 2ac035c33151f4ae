"""Every way to ask wrongly has its status and a sentence in OpenAI's form."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.live import Live, events_of, running, tiny_llm

HI = [{"role": "user", "content": "Hi"}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running(keys=("key-a", "key-b"), origins=("https://page.example",), max_body_bytes=4096,
                 max_file_bytes=1024, max_choices=4) as live:  # fmt: skip
        live.client.headers["authorization"] = "Bearer key-a"
        yield live


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith(".")
    return error


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (422, {"messages": []}, "at least 1 item"),
        (422, {"messages": "Hi"}, "valid array"),
        (422, {"messages": HI, "temperature": "hot"}, "temperature"),
        (422, {"messages": HI, "temperature": True}, "temperature"),
        (422, {"messages": HI, "max_tokens": 0}, "max_tokens"),
        (422, {"messages": HI, "temprature": 1}, "temprature: this server does not know"),
        (422, {"messages": HI, "response_format": {"type": "xml"}}, "xml"),
        (422, {"messages": [{"role": "wizard", "content": "Hi"}]}, "role"),
        (400, {"messages": [{"role": "user"}]}, "no content"),
        (400, {"messages": HI, "n": 5}, "4 is the most"),
        (400, {"messages": HI, "tool_choice": "required"}, "tools is empty"),
        (400, {"messages": HI, "top_logprobs": 2}, "logprobs=true"),
        (400, {"messages": HI, "logit_bias": {"x": 1}}, "ids of tokens"),
        (400, {"messages": HI, "scripted_answer": ["x"]}, "does not take scripts"),
        (400, {"messages": HI, "server_tools": True, "chat_template_kwargs": {"a": 1}}, "a: the"),
        (400, {"messages": HI, "response_format": {"type": "regex", "pattern": "("}}, "regex"),
        (404, {"messages": HI, "model": "nobody"}, "the models are tiny"),
    ],
)  # fmt: skip
def test_a_wrong_chat_is_refused(live: Live, status: int, body: Any, says: str) -> None:
    assert says in error_of(live.post(CHAT, body), status)["message"]
    # Also where a stream was asked for: an error is an error, not an event.
    assert says in error_of(live.post(CHAT, {**body, "stream": True}), status)["message"]


HALF = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'  # of a surrogate pair


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"nul", b"\xff\xfe", b'{"a": NaN}', b"[" * 2000, HALF]
)
def test_bytes_that_are_no_body_are_refused(live: Live, raw: bytes) -> None:
    answer = live.client.post(CHAT, content=raw)
    assert answer.status_code in (400, 422), answer.text
    error_of(answer, answer.status_code)


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, "suffix"),
        ("/v1/completions", {"prompt": [], "max_tokens": 1}, ""),
        ("/v1/completions", {"prompt": "a", "best_of": 2, "stream": True}, "streamed"),
        ("/v1/completions", {"prompt": ["a"] * 5}, "4 answers"),
        ("/v1/completions", {"prompt": [999_999]}, "999999"),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, "dimensions"),
        ("/v1/embeddings", {"input": [999_999]}, "999999"),
        ("/v1/responses", {"input": [{"type": "reasoning"}]}, "reasoning"),
        ("/v1/responses", {"input": "a", "previous_response_id": "resp_x"}, "no response"),
        ("/v1/batches", {"input_file_id": "../secret", "endpoint": "/v1/completions",
                         "completion_window": "24h"}, "no file"),
        ("/tokenize", {"prompt": "a", "messages": HI}, "not both"),
        ("/detokenize", {"tokens": [999_999]}, "999999"),
    ],
)  # fmt: skip
def test_other_endpoints_refuse_in_the_same_form(
    live: Live, path: str, body: Any, says: str
) -> None:
    answer = live.post(path, body)
    assert answer.status_code in (400, 404, 422)
    assert says in error_of(answer, answer.status_code)["message"]


def test_a_large_body_is_refused_before_it_is_read(live: Live) -> None:
    error = error_of(live.client.post(CHAT, content=b"x" * 5000), 413)
    assert error["code"] == "body_too_large"

    def parts() -> Iterator[bytes]:  # nobody says how long it is
        yield from (b"x" * 1000 for _ in range(5))

    error_of(live.client.post(CHAT, content=parts()), 413)
    form = {"file": ("a.jsonl", b"x" * 80_000)}
    error_of(live.client.post("/v1/files", files=form, data={"purpose": "batch"}), 413)


@pytest.mark.parametrize(("path", "key", "status"), [(CHAT, "key-a", 413), (CHAT, "none", 401),
                                                     ("/nowhere", "key-a", 404)])  # fmt: skip
def test_a_client_that_still_sends_reads_why_it_is_refused(
    live: Live, path: str, key: str, status: int
) -> None:
    """It is closed in stages: a reset would take the answer out of the client's hands."""
    port, size = int(live.url.rpartition(":")[2]), 4_000_000
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode() + b"x" * size)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b'"error"' in answer


def test_a_form_without_a_file_is_refused(live: Live) -> None:
    error_of(live.client.post("/v1/files", data={"purpose": "batch"}), 422)
    error_of(live.client.post("/v1/files", files={"file": b"x"}, data={"purpose": "x"}), 422)


def test_a_key_is_needed_but_for_the_page_and_the_health(live: Live) -> None:
    for authorization in ("", "Bearer", "Bearer key-c", "Basic key-a", "Bearer k\xe4y"):
        headers = {"authorization": authorization.encode("latin-1")}
        answer = live.client.get("/v1/models", headers=headers)
        assert error_of(answer, 401)["type"] == "authentication_error"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert live.client.get("/metrics", headers=headers).status_code == 401
        assert live.client.get("/health", headers=headers).status_code == 200
    assert live.client.get("/v1/models", headers={"authorization": "bearer key-b"}).is_success


def test_what_does_not_exist_is_not_found(live: Live) -> None:
    assert error_of(live.client.get("/v1/nothing"), 404)["code"] == "not_found"
    answer = live.client.get(CHAT)
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "POST"
    for method in ("GET", "POST", "DELETE"):
        answer = live.client.request(method, "/v1/moderations")
        assert error_of(answer, 404)["code"] == "not_found"
    for path in ("/..%2f..%2fapp.py", "/../app.py", "/v1/files/..%2fx/content"):
        assert live.client.get(path).status_code == 404


def test_a_file_is_seen_by_its_own_key_alone(live: Live) -> None:
    sent = live.client.post(
        "/v1/files", files={"file": ("a.jsonl", b"{}")}, data={"purpose": "batch"}
    ).json()
    stranger = {"authorization": "Bearer key-b"}
    for path in (f"/v1/files/{sent['id']}", f"/v1/files/{sent['id']}/content"):
        assert live.client.get(path).is_success
        error_of(live.client.get(path, headers=stranger), 404)
    assert live.client.get("/v1/files", headers=stranger).json()["data"] == []


def test_pages_of_known_origins_may_call(live: Live) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-a"}
    known = live.client.options(CHAT, headers={"origin": "https://page.example", **asked})
    assert known.headers["access-control-allow-origin"] == "https://page.example"
    other = live.client.options(CHAT, headers={"origin": "https://other.example", **asked})
    assert "access-control-allow-origin" not in other.headers


def test_every_answer_carries_the_id_of_its_request(live: Live) -> None:
    assert live.client.get("/health").headers["x-request-id"].startswith("req_")
    named = live.post(CHAT, {"messages": []}, **{"x-request-id": "mine-1"})
    assert named.headers["x-request-id"] == "mine-1"
    forged = live.post(CHAT, {"messages": []}, **{"x-request-id": "a b<script>"})
    assert forged.headers["x-request-id"].startswith("req_")


def test_what_nobody_foresaw_is_told_without_its_details(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = live.server.state.models["tiny"]

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(served.driver, "stream", broken)
    for more in ({}, {"stream": True}):
        answer = live.post(CHAT, {"messages": HI, **more})
        assert error_of(answer, 500)["code"] == "internal_error"
        assert "secret" not in answer.text


def test_an_engine_that_fails_ends_its_requests_and_serves_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(tiny_llm()) as live:
        engine = live.server.state.models["tiny"].driver.engine
        step, count = engine.step, 0

        def failing() -> Any:
            nonlocal count
            count += 1
            if count == 12:
                raise ZeroDivisionError("secret")
            return step()

        monkeypatch.setattr(engine, "step", failing)
        body = {"messages": HI, "max_tokens": 60, "stream": True}
        events = events_of(live.post(CHAT, body).text)
        assert events[-1]["error"]["type"] == "server_error"
        assert json.dumps(events[-1]).count("message") == 1
        assert live.ask()["usage"]["completion_tokens"] == 8
        assert live.is_idle()
