"""The page on puna's own server, with a tiny random model behind it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.page.acting import answer, ask
from tests.serve.page.conftest import watched


@pytest.fixture(scope="module")
def live() -> Iterator[Any]:
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from tests.serve.live import running

    with running() as found:
        yield found


def test_the_page_talks_to_the_server(browser: Any, live: Any) -> None:
    context = browser.new_context()
    page, problems = watched(context)
    page.goto(f"{live.url}/")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector("#model option", state="attached")
    assert page.input_value("#model") == "tiny"
    page.click("#toggle-panel")
    page.fill("#set-max_tokens", "8")
    page.check("#shows-tokens")
    ask(page, "Hello")
    assert page.locator(".token").count() == 8
    page.hover(".token >> nth=0")
    assert "id " in page.inner_text("#token-card")
    assert "reached its token limit" in page.inner_text(".answer .note")
    assert "of 1,024 tokens" in page.inner_text("#meter")
    ask(page, "x" * 2_000)
    assert "too long for this model" in page.locator(".notice").last.inner_text()
    assert answer(page) == ""
    assert live.is_idle()
    context.close()
    assert not problems
