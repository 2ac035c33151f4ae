"""What an operator sees: metrics, log lines without texts, spans, ids, the page's headers."""

import json
import logging
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from puna.infer.constraints import Constraint, Constraints
from puna.infer.engine import Engine, Event
from puna.serve.page_files import Page
from tests.infer.engines import Hang
from tests.serve.live import Live, running, tiny_llm

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running() as live:
        yield live


def figures(live: Live) -> dict[str, float]:
    answer = live.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + (f"/{sample.labels['status']}" if "status" in sample.labels else ""):
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.labels.get("path", CHAT) == CHAT
    }  # fmt: skip


def test_metrics_count_requests_and_tokens(live: Live) -> None:
    before = figures(live)
    usage = [live.ask("Count me", max_tokens=5, ignore_eos=True)["usage"] for _ in range(2)]
    live.post(CHAT, {"messages": []})
    after = figures(live)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("puna_requests_total/200") == 2
    assert grown("puna_requests_total/422") == 1
    assert grown("puna_written_tokens_total") == 10
    assert grown("puna_prompt_tokens_total") == 2 * usage[0]["prompt_tokens"]
    assert grown("puna_cached_tokens_total") > 0  # the second prompt was known
    assert grown("puna_first_token_seconds_count") == 2
    assert grown("puna_between_tokens_seconds_count") == 8
    assert after["puna_engine_pages"] == after["puna_engine_free_pages"]


def test_usage_tells_what_the_cache_held(live: Live) -> None:
    text = "A prompt of more than one page of sixteen tokens."
    first, second = (live.ask(text)["usage"] for _ in range(2))
    assert first["prompt_tokens_details"]["cached_tokens"] < 32
    assert second["prompt_tokens_details"]["cached_tokens"] >= 32


def line_of(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the line of the last chat; it is written after the client has its answer."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        lines = [json.loads(r.message) for r in caplog.records if r.name == "puna.serve"]
        if found := [line for line in lines if line["path"] == CHAT]:
            return found[-1]
        time.sleep(0.01)
    raise AssertionError("no line was logged")


def test_the_log_has_no_texts_unless_asked(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="puna.serve"):
        done = live.ask("a private word", max_tokens=3, ignore_eos=True)
        line = line_of(caplog)
    assert line["completion_tokens"] == 3
    assert line["id"] == done["id"].removeprefix("chatcmpl-")
    assert "private" not in caplog.text
    caplog.clear()
    with running(logs_text=True) as telling, caplog.at_level(logging.INFO, logger="puna.serve"):
        said = telling.ask("a private word", max_tokens=3)["choices"][0]["message"]["content"]
        line = line_of(caplog)
    assert line["prompt"] == "user: a private word"
    assert line["answer"] == said


def test_a_span_continues_the_trace_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an SDK the API alone is there: a stand-in for the tracer records."""
    from opentelemetry import trace

    seen: list[tuple[str, object]] = []

    class Span(trace.NonRecordingSpan):
        def is_recording(self) -> bool:
            return True

        def set_attributes(self, attributes: object) -> None:
            seen.append(("attributes", attributes))

    class Recording(trace.NoOpTracer):
        def start_as_current_span(self, name, context=None, **_):  # type: ignore[no-untyped-def]
            parent = trace.get_current_span(context).get_span_context()
            seen.append((name, f"{parent.trace_id:032x}"))
            return trace.use_span(Span(parent))

    monkeypatch.setattr(trace, "get_tracer", lambda *_, **__: Recording())
    with running() as live:
        caller = "0af7651916cd43dd8448eb211c80319c"
        live.post(CHAT, {"messages": [{"role": "user", "content": "secret"}], "max_tokens": 2},
                  traceparent=f"00-{caller}-b7ad6b7169203331-01")  # fmt: skip
    assert seen[0] == ("chat /v1/chat/completions", caller)
    told = seen[1][1]
    assert told["gen_ai.usage.output_tokens"] == 2  # type: ignore[index]
    assert told["gen_ai.response.finish_reasons"] == ("length",)  # type: ignore[index]
    assert "secret" not in str(told)


def test_curl_reads_an_answer_and_a_stream(live: Live) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    plain = ["curl", "-sS", "--fail", f"{live.url}{CHAT}", "-d", body]
    assert json.loads(subprocess.check_output(plain))["object"] == "chat.completion"
    streamed = [
        "curl",
        "-sSN",
        "--fail",
        f"{live.url}{CHAT}",
        "-d",
        body[:-1] + ', "stream": true}',
    ]
    assert subprocess.check_output(streamed).endswith(b"data: [DONE]\n\n")


def test_the_page_lets_no_foreign_script_run(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>Hi")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "talk.js").write_text("export {}")
    with running() as live:
        router = live.server.router
        router.default = Page(tmp_path)
        answer = live.client.get("/")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        rules = dict(rule.split(" ", 1) for rule in
                     answer.headers["content-security-policy"].split("; "))  # fmt: skip
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == "'none'"
        script = live.client.get("/view/talk.js")
        assert script.headers["content-type"] == "text/javascript; charset=utf-8"
        assert script.headers["x-content-type-options"] == "nosniff"
        assert live.client.get("/view/none.js").status_code == 404
        assert live.client.post("/", content=b"x").status_code == 405


def test_tokens_are_those_that_a_completion_reads(live: Live) -> None:
    messages = [{"role": "system", "content": "<|eot_id|>"}, {"role": "user", "content": "Hé"}]
    told = live.post("/tokenize", {"messages": messages, "return_token_strs": True}).json()
    done = live.post(CHAT, {"messages": messages, "max_tokens": 1}).json()
    assert told["count"] == len(told["tokens"]) == done["usage"]["prompt_tokens"]
    assert told["token_strs"].count("<|eot_id|>") == 2  # one a message; the text stayed text
    text = live.post("/tokenize", {"prompt": "Hé", "add_special_tokens": False}).json()["tokens"]
    assert live.post("/detokenize", {"tokens": text}).json() == {"prompt": "Hé"}
    assert live.post("/tokenize", {"prompt": "Hé"}).json()["count"] == len(text) + 1


def test_health_tells_the_models() -> None:
    with running(tiny_llm(), tiny_llm(name="b")) as live:
        told = live.client.get("/health").json()
    assert told["status"] == "ok"
    assert told["models"] == ["tiny", "b"]


def test_health_says_that_an_engine_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = Hang(monkeypatch)
    with running(hang_s=0.01) as live, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(live.ask)
        assert hang.is_in_step.wait(30)
        time.sleep(0.02)
        answer = live.client.get("/health")
        hang.may_go_on.set()
        assert asked.result()["choices"]
        assert live.client.get("/health").status_code == 200
    assert answer.status_code == 503
    assert answer.json()["status"] == "failing"
    assert answer.json()["troubles"] == {"tiny": "a step has taken 0 s already"}


def test_health_and_answers_say_that_an_engine_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def ending(self: Engine) -> list[Event]:
        raise SystemExit("out of this world")

    monkeypatch.setattr(Engine, "step", ending)
    body = {"prompt": "Hi"}
    with running() as live:
        assert live.post("/v1/completions", body).status_code == 500
        answer, health = live.post("/v1/completions", body), live.client.get("/health")
    assert answer.status_code == health.status_code == 503
    assert answer.json()["error"]["code"] == "engine_ended"
    assert health.json()["troubles"] == {"tiny": "its thread has ended"}


def test_a_schema_is_compiled_beside_the_loop(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one takes long, and so does the vocabulary, which the first one reads."""
    compile_, threads = Constraints._compile, []

    def noted(self: Constraints, constraint: Constraint) -> object:
        threads.append(threading.current_thread().name)
        return compile_(self, constraint)

    monkeypatch.setattr(Constraints, "_compile", noted)
    form = {"type": "regex", "pattern": "[ab]{3}"}
    told = live.ask(response_format=form)["choices"][0]["message"]["content"]
    assert set(told) <= set("ab")
    assert [name.startswith("prompts-") for name in threads] == [True]
