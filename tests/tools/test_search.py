"""Brave's web search, against a server of this machine."""

import json
import logging
import time

import pytest

from puna.errors import RequestError, StateError
from puna.tools.http_get import get
from puna.tools.search import search_brave, web_search
from puna.tools.tool import Tool
from tests.tools.web import Reply, Request, web

KEY = "s3cret-key"

# The shape of Brave's Web Search API reference, WebSearchApiResponse.
FOUND = {
    "type": "search",
    "query": {"original": "gold price", "more_results_available": True},
    "web": {
        "type": "search",
        "results": [
            {
                "title": "Gold &amp; silver",
                "url": f"https://metals.example/{number}",
                "description": "The <strong>gold</strong> price\n is 1 &lt; 2.",
            }
            for number in range(9)
        ],
    },
}


def tool(url: str) -> Tool:
    return web_search(address=url, environment={"BRAVE_API_KEY": KEY})


def test_a_query_is_asked_as_brave_documents_it() -> None:
    with web(lambda request: (200, json.dumps(FOUND).encode())) as there:
        tool(f"{there.url}/res/v1/web/search")(query="gold   price?&x=1")
    (request,) = there.requests
    assert request.path == "/res/v1/web/search"
    assert request.query["q"] == "gold price?&x=1"
    assert request.query["count"] == "5"
    assert request.headers["x-subscription-token"] == KEY
    assert request.headers["accept"] == "application/json"


def test_the_results_come_in_the_shape_that_llama_knows() -> None:
    with web(lambda request: (200, json.dumps(FOUND).encode())) as there:
        table = json.loads(tool(there.url)(query="gold price"))
    assert table["query"] == "gold price"
    assert len(table["top_k"]) == 5
    assert table["top_k"][0] == {
        "title": "Gold & silver",
        "url": "https://metals.example/0",
        "snippet": "The gold price is 1 < 2.",
    }


def test_no_result_is_said_to_be_none() -> None:
    with web(lambda request: (200, b'{"type": "search", "query": {}}')) as there:
        table = json.loads(tool(there.url)(query="zxqj"))
    assert table["top_k"] == []
    assert "nothing was found" in table["note"]


def test_after_too_many_requests_it_waits_and_asks_once_more() -> None:
    replies = iter([429, 200])
    with web(lambda request: (next(replies), json.dumps(FOUND).encode())) as there:
        assert "top_k" in json.loads(tool(there.url)(query="gold"))
    assert len(there.requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", "refused the request or its key (HTTP 401)"),
        (422, b"{}", "refused the request or its key (HTTP 422)"),
        (500, b"oops", "failed (HTTP 500)"),
        (200, b"<html>", "no result"),
        (200, b"[]", "no result"),
        (200, b'{"web": {"results": [{"title": "a"}]}}', "no result"),
        (200, b'{"web": {"results": {"a": 1}}}', "no result"),
        (200, b"[" * 100_000, "no result"),
        (200, b"\xff\xfe", "no result"),
    ],
)
def test_what_goes_wrong_is_text_for_the_model(
    status: int, body: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with web(lambda request: (status, body)) as there:
        result = tool(there.url)(query="gold")
    assert result.startswith("error: brave_search: ")
    assert said in result
    assert KEY not in result + caplog.text


def test_a_key_is_not_carried_along_a_redirect() -> None:
    with web(lambda request: (200, json.dumps(FOUND).encode())) as thief:

        def elsewhere(request: Request) -> Reply:
            return 302, b"", {"Location": thief.url}

        with web(elsewhere) as there:
            assert "failed (HTTP 302)" in tool(there.url)(query="gold")
    assert not thief.requests


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with (
        web(lambda request: (time.sleep(1.0), (200, b"{}"))[1]) as there,
        pytest.raises(StateError, match=r"no (whole )?answer within 0\.1 s"),
    ):
        get(there.url, {}, headers={}, timeout_s=0.1)


def test_an_answer_that_never_ends_is_given_up() -> None:
    with (
        web(lambda request: (200, bytes(3 << 20))) as there,
        pytest.raises(StateError, match="larger than 1,000 bytes"),
    ):
        get(there.url, {}, headers={}, timeout_s=5, max_bytes=1000)


def test_nobody_there_is_said_without_the_address() -> None:
    with web(lambda request: (200, b"")) as there:
        gone = there.url
    result = tool(f"{gone}/path-with-a-token")(query="gold")
    assert result == "error: brave_search: 127.0.0.1: it cannot be reached."


def test_a_key_is_never_sent_unencrypted_to_another_machine() -> None:
    with pytest.raises(RequestError, match="unencrypted; use https"):
        search_brave("gold", key=KEY, address="http://brave.example/search")


def test_a_query_that_brave_would_refuse_is_not_sent() -> None:
    with web(lambda request: (200, b"{}")) as there:
        for query in ("o" * 401, "owl " * 51, "x" * 1_000_000):
            result = tool(there.url)(query=query)
            assert "at most 400 and 50 words" in result and len(result) < 300
    assert not there.requests


def test_the_key_is_not_in_the_tools_description() -> None:
    assert KEY not in repr(tool("https://brave.example/"))
