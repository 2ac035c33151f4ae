"""One headless browser for the tests of the page, and a fresh profile for each of them."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.page.standin import StandIn, stand_in

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="session")
def one_server() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture
def server(one_server: StandIn) -> StandIn:
    one_server.reset()
    return one_server


@pytest.fixture
def page(browser: Any, server: StandIn) -> Iterator[Any]:
    """An opened page; a script error or a breach of the policy fails the test."""
    context = browser.new_context(
        viewport={"width": 1200, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(8000)
    found = context.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("console", lambda said: problems.append(said.text) if is_breach(said) else None)
    found.goto(server.url)
    found.wait_for_selector("body[data-ready]")
    yield found
    context.close()
    assert not problems


def is_breach(said: Any) -> bool:
    return said.type == "error" and "Failed to load resource" not in said.text
