"""A right server passes, and each thing that a server does wrong is found."""

from collections.abc import Sequence
from typing import Any

import pytest

from puna.errors import RequestError, StateError
from puna.evals.conformance.client import Client
from puna.evals.conformance.outcome import Report
from puna.evals.conformance.renderers import FormatRenderer
from puna.evals.conformance.server import check_server
from puna.evals.conformance.shapes import BYTES
from puna.evals.conformance.vectors import load
from puna.llm import LLM, ChatStyle
from tests.evals.conformance.fake_server import serve
from tests.infer.tiny import tiny_model


def failed(report: Report) -> dict[str, str]:
    return {o.id: o.detail for o in report.outcomes if o.status == "failed"}


def skipped(report: Report) -> dict[str, str]:
    return {o.id: o.detail for o in report.outcomes if o.status == "skipped"}


def requests_of(*faults: str, groups: Sequence[str] = ("requests",), **options: Any) -> Report:
    with serve(*faults, **options) as url:
        return check_server(Client(url, timeout_s=20), groups=groups)


def test_a_right_server_passes_every_vector() -> None:
    renderers = {name: FormatRenderer(BYTES, name) for name in ("hf", "hf3", "meta")}
    with serve(key="secret") as url:
        report = check_server(Client(url, key="secret", timeout_s=20), tokens=renderers)
    assert failed(report) == {}
    assert report.is_well
    assert set(skipped(report)) == {
        *("prompts.functions-without-question", "prompts.learned", "prompts.padding"),
    }
    whole = {group: len(load(group)) for group in ("requests", "injection", "answers")}
    assert {group: report.by_group()[group]["passed"] for group in whole} == whole
    assert report.by_group()["streams"]["passed"] == whole["answers"]
    assert report.by_group()["counts"]["passed"] > 10
    assert report.facts["prompts shown"] == "/tokenize"
    assert report.facts["scripted answers"] == "yes"


def test_a_server_on_a_model_of_puna_passes() -> None:
    """A random model says anything at all; what is checked holds all the same."""
    model = tiny_model(vocab=BYTES.vocab, context=4096)
    style = ChatStyle(dialect="meta", source="the test", is_instruct=True)
    llm = LLM(model, BYTES, style=style, stop_ids=BYTES.stop_ids)

    def speak(prompt: Sequence[int], body: dict[str, Any], which: int) -> list[int]:
        done = llm.generate(
            list(prompt),
            max_tokens=min(body.get("max_tokens", 16), 24),
            temperature=body.get("temperature", 1.0),
            seed=(body.get("seed") or 0) + which,
        )
        return done.ids  # type: ignore[union-attr]

    report = requests_of(speak=speak, shows=None)
    assert failed(report) == {}
    assert report.count("passed") > 70


# fault: vectors that must fail, and what they must say
FOUND = {
    "leaks_tag": [
        ("requests.leaks", "an answer holds <|python_tag|>"),
        ("requests.tools.required", "tool_calls is expected"),
    ],
    "stream_differs": [("requests.stream.plain", "content of the stream is")],
    "stream_splits": [("requests.stream.tools", "\N{REPLACEMENT CHARACTER}")],
    "brace_lost": [("requests.stream.required", "JSON is expected")],
    "always_stop": [("requests.tools.required", "finish_reason is 'stop'")],
    "stop_ignored": [
        ("requests.stop.text", "'the end' is expected"),
        ("requests.stop.stream", "'the end' is expected"),
        ("requests.stop.list", "'the end' is expected"),
    ],
    "no_usage": [("requests.stream.usage", "does not hold the usage alone")],
    "no_done": [("requests.stream.done", "and not [DONE]")],
    "usage": [("requests.shape.plain", "are not")],
    "errors_as_200": [("requests.error.no-messages", "status 400 or 422 is expected")],
    "breaks": [("requests.tools.bad-arguments", "status 500")],
    "cuts_prompts": [("requests.error.too-long", "status 200")],
    "no_bos": [("requests.completions.begins-once", "0 tokens stand before the text")],
    "any_model": [("requests.error.model", "status 200")],
    "arguments_as_object": [("requests.tools.required", "JSON is expected")],
    "controls": [
        ("requests.controls.user", "cost 12 tokens"),
        ("requests.controls.result", "cost 12 tokens"),
        ("requests.controls.argument", "cost 12 tokens"),
        ("requests.controls.description", "cost 12 tokens"),
    ],
}


@pytest.mark.parametrize("fault", FOUND)
def test_a_fault_of_a_server_is_found(fault: str) -> None:
    report = requests_of(fault)
    found = failed(report)
    assert not report.is_well
    for name, words in FOUND[fault]:
        assert words in found.get(name, "it passed")


@pytest.mark.parametrize("shows", ["/tokenize", "/apply-template"])
def test_begin_of_text_twice_is_found_where_prompts_are_shown(shows: str) -> None:
    report = requests_of("double_bos", groups=["prompts"], shows=shows)
    assert report.facts["prompts shown"] == shows
    assert "begin_of_text" in failed(report)["prompts.chat"]
    assert "2 begin-of-text tokens" in failed(report)["prompts.several-calls"]


def test_begin_of_text_twice_is_found_by_counting() -> None:
    renderers = {name: FormatRenderer(BYTES, name) for name in ("hf", "hf3", "meta")}
    for dialect in ("meta", "hf"):
        with serve("double_bos", shows=None, dialect=dialect) as url:
            report = check_server(Client(url, timeout_s=20), tokens=renderers, groups=[])
        details = failed(report)
        assert "Is begin-of-text written twice?" in details["counts.chat"]
        assert f"in the dialect {dialect!r}" in details["counts.chat"]


def test_control_tokens_out_of_texts_are_found_where_prompts_are_shown() -> None:
    found = failed(requests_of("controls", groups=["injection"]))
    assert found["injection.user"] == "text of a message became a control token."
    assert {"injection.tool-result", "injection.call-argument", "injection.context"} <= set(found)


def test_the_parser_of_a_server_is_checked_through_the_hook() -> None:
    several = failed(requests_of("first_call_only", groups=["answers"]))
    assert {"answers.builtin.two", "answers.json.list", "streams.list.two"} <= set(several)
    broken = set(failed(requests_of("brace_lost", groups=["answers"])))
    calling = [vector.id for vector in load("answers") if vector.expect["tool_calls"]]
    assert broken == {name.replace("answers", "streams", 1) for name in calling}


def test_a_stream_without_its_end_mark_hides_nothing_else() -> None:
    assert set(failed(requests_of("no_done"))) == {"requests.stream.done"}


def test_a_server_that_never_answers_the_same_is_not_blamed_for_its_streams() -> None:
    report = requests_of("restless")
    assert "differently each time" in skipped(report)["requests.stream.plain"]
    assert "content of the repeat" in failed(report)["requests.same.seed"]


def test_what_a_server_does_not_offer_is_skipped() -> None:
    report = requests_of(shows=None, groups=["requests", "prompts"])
    assert report.facts["prompts shown"] == "no"
    assert "no key" in skipped(report)["requests.error.key"]
    assert "prompts" not in report.by_group()


def test_a_server_that_does_not_answer_is_an_error_in_a_sentence() -> None:
    with serve() as url:
        pass
    with pytest.raises(StateError, match=r"no answer \(connection refused\)"):
        check_server(Client(url, timeout_s=2))


def test_a_wrong_key_an_unknown_model_and_a_strange_address_are_told() -> None:
    with serve(key="secret") as url:
        with pytest.raises(StateError, match="refuses the key"):
            check_server(Client(url, key="other", timeout_s=5))
        with pytest.raises(StateError, match="a plain question to 'none' gave status 404"):
            check_server(Client(url, key="secret", timeout_s=5), model="none")
    with pytest.raises(RequestError, match="an address such as"):
        Client("localhost:8000")
