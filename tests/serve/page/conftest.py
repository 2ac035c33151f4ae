"""A headless browser for each file of tests of the page, emptied before every test.

Playwright keeps an event loop running in the thread while its browser lives; a browser for the
whole session would leave none for the tests of other files that follow in the same process.
"""

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
EMPTY = """async () => {
  localStorage.clear();
  sessionStorage.clear();
  await new Promise((done) => {
    const asked = indexedDB.deleteDatabase("puna");
    asked.onsuccess = asked.onerror = asked.onblocked = done;
  });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def one_server() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="module")
def profile(browser: Any) -> Iterator[Any]:
    """One profile for all tests, so that the files of the page are fetched once."""
    context = browser.new_context(
        viewport={"width": 1200, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture
def server(one_server: StandIn) -> StandIn:
    one_server.reset()
    return one_server


@pytest.fixture
def page(profile: Any, server: StandIn) -> Iterator[Any]:
    """An opened page without a past; a script error or a breach of the policy fails the test."""
    found, problems = watched(profile)
    found.goto(f"{server.url}icon.svg")
    found.evaluate(EMPTY)
    opened(found, server)
    yield found
    found.close()
    assert not problems


@pytest.fixture(scope="module")
def sheet(browser: Any, one_server: StandIn) -> Iterator[Any]:
    """A page for tests that only render text."""
    one_server.reset()
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    found, problems = watched(context)
    opened(found, one_server)
    yield found
    context.close()
    assert not problems


def opened(page: Any, server: StandIn) -> None:
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")


def watched(context: Any) -> tuple[Any, list[str]]:
    """Return a new page and the list of what goes wrong on it."""
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if is_breach(said) else None)
    return page, problems


def is_breach(said: Any) -> bool:
    return said.type == "error" and "Failed to load resource" not in said.text
