"""Wolfram Alpha: computed here in a process with limits, or asked over HTTP."""

import json
import logging
import time

import pytest

from puna.errors import StateError
from puna.tools.compute.process import compute
from puna.tools.tool import Tool
from puna.tools.wolfram import wolfram_alpha
from tests.tools.web import web

KEY = "S3CRET-APPID"

# The shape of the Full Results API reference with output=json.
FOUND = {
    "queryresult": {
        "success": True,
        "error": False,
        "numpods": 3,
        "pods": [
            {
                "title": "Input interpretation",
                "scanner": "Identity",
                "subpods": [{"title": "", "plaintext": "100th digit | π"}],
            },
            {"title": "Plot", "scanner": "Plot", "subpods": [{"title": "", "plaintext": ""}]},
            {
                "title": "Result",
                "primary": True,
                "subpods": [{"title": "", "plaintext": "7"}, {"plaintext": "seven"}],
            },
        ],
    }
}


def here() -> Tool:
    return wolfram_alpha(environment={})


def service(url: str) -> Tool:
    return wolfram_alpha(address=url, environment={"WOLFRAM_ALPHA_APPID": KEY})


def test_the_answer_has_the_shape_that_llama_knows() -> None:
    tool = here()
    assert (tool.name, tool.is_builtin, tool.needs_consent) == ("wolfram_alpha", True, False)
    assert json.loads(tool(query="What is 12 * 34?")) == {
        "queryresult": {
            "success": True,
            "inputstring": "What is 12 * 34?",
            "pods": [
                {
                    "title": "Input interpretation",
                    "subpods": [{"title": "", "plaintext": "12 * 34"}],
                },
                {
                    "title": "Result",
                    "primary": True,
                    "subpods": [{"title": "", "plaintext": "408"}],
                },
            ],
        }
    }


def test_algebra_is_computed_in_a_process_of_its_own() -> None:
    assert "x = -sqrt(2) or x = sqrt(2)" in here()(query="solve x^2 = 2")


def test_what_is_not_understood_says_what_would_be() -> None:
    said = here()(query="population of France")
    assert said.startswith("error: wolfram_alpha: the question is not understood. Arithmetic,")


def test_what_takes_too_long_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(StateError, match="takes longer than 2 s"):
        compute("expand (a+b+c+x+y)^200", timeout_s=2.0)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("query", ["9^9^9^9", "1" * 1_000_000, "\0", "\ud800", '"; import os'])
def test_a_hostile_query_is_an_error_for_the_model(query: str) -> None:
    said = here()(query=query)
    assert said.startswith("error: wolfram_alpha: ")
    assert len(said) < 500
    said.encode()


def test_the_process_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    def run(command: object, **options: object) -> None:
        given.update(options)
        raise FileNotFoundError("python")

    monkeypatch.setenv("BRAVE_API_KEY", "a secret")
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(FileNotFoundError):
        compute("solve x = 1")
    assert "a secret" not in str(given["env"])


def test_the_service_is_asked_as_wolfram_documents_it() -> None:
    with web(lambda request: (200, json.dumps(FOUND).encode())) as there:
        service(f"{there.url}/v2/query")(query="100th digit  of pi & e")
    (request,) = there.requests
    assert request.path == "/v2/query"
    assert request.query == {
        "appid": KEY,
        "input": "100th digit of pi & e",
        "format": "plaintext",
        "output": "json",
    }


def test_the_services_pods_are_kept_where_they_say_something() -> None:
    with web(lambda request: (200, json.dumps(FOUND).encode())) as there:
        found = json.loads(service(there.url)(query="100th digit of pi"))["queryresult"]
    assert found["inputstring"] == "100th digit of pi"
    assert [pod["title"] for pod in found["pods"]] == ["Input interpretation", "Result"]
    assert found["pods"][1]["primary"] is True
    assert found["pods"][1]["subpods"][0]["plaintext"] == "7\nseven"


def test_a_long_answer_of_the_service_is_cut_and_says_so() -> None:
    pods = [{"title": "Part", "subpods": [{"plaintext": "x" * 9000}]} for _ in range(40)]
    body = json.dumps({"queryresult": {"success": True, "pods": pods}}).encode()
    with web(lambda request: (200, body)) as there:
        said = service(there.url)(query="everything")
    assert len(said) < 30_000
    assert "28 more pieces" in said and "left out" in said


@pytest.mark.parametrize(
    ("status", "table", "reason"),
    [
        (403, {}, "refused the request or its AppID (HTTP 403)"),
        (500, {}, "failed (HTTP 500)"),
        (200, {}, "no result"),
        (200, [], "no result"),
        (200, {"queryresult": {"success": True, "pods": [{}]}}, "no result"),
        (200, {"queryresult": {"success": False, "error": {"code": "1"}}}, "its AppID"),
        (200, {"queryresult": {"success": False}}, "does not understand"),
        (
            200,
            {"queryresult": {"success": False, "didyoumeans": {"val": "gold"}}},
            "would understand: gold",
        ),
    ],
)
def test_what_goes_wrong_with_the_service_is_text_for_the_model(
    status: int, table: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with web(lambda request: (status, json.dumps(table).encode())) as there:
        said = service(there.url)(query="gold?")
    assert said.startswith("error: wolfram_alpha: ")
    assert reason in said
    assert KEY not in said + caplog.text


def test_nobody_there_is_said_without_the_appid() -> None:
    with web(lambda request: (200, b"")) as there:
        gone = there.url
    said = service(gone)(query="gold?")
    assert said == "error: wolfram_alpha: 127.0.0.1: it cannot be reached."


def test_without_a_key_no_service_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("puna.tools.wolfram.get", never)
    assert "408" in here()(query="12 * 34")
