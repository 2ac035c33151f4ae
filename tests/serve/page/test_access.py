"""The page for everyone: by keyboard, by ear, on a phone, by day and by night."""

from typing import Any

import pytest

from tests.serve.page.acting import ask
from tests.serve.page.conftest import opened, watched
from tests.serve.page.standin import Gate, Refusal, StandIn, called, chunk, measured, ran, spoken

RICH = (
    "# Head\n\nText with `code`, [link](https://a.b), $x^2$.\n\n- [x] a\n\n| a |\n|---|\n| 1 |\n\n"
    "> quote\n\n```python\ndef f(): return 'x'  # note\n```\n\n$$\\frac{a}{b}$$"
)


def serious(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {[node['html'][:120] for node in rule['nodes']][:3]}"
        for rule in found
        if rule["impact"] in ("serious", "critical", "moderate")
    ]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing(page: Any, server: StandIn, look: str) -> None:
    page.emulate_media(color_scheme=look)
    assert serious(page) == []
    server.reply = lambda body: [ran("calc", {"q": "1"}, "1"), *spoken(RICH, size=50)]
    ask(page, "Hello")
    server.reply = lambda body: called("weather", "{}")
    ask(page, "And?")
    page.keyboard.press("Control+.")
    page.check("#shows-tokens")
    words = [(f" {share}", share, [(" b", 0.01)]) for share in (0.95, 0.7, 0.4, 0.2, 0.05)]
    server.reply = lambda body: measured(words)
    ask(page, "Tokens")
    page.hover(".token")
    server.reply = lambda body: Refusal(429, "Later.", headers={"retry-after": "9"})
    ask(page, "Busy?")
    assert serious(page) == []
    page.keyboard.press("Control+/")
    assert serious(page) == []


def test_everything_can_be_done_by_keyboard(page: Any, server: StandIn) -> None:
    assert page.evaluate("document.activeElement.id") == "draft"
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Hello.")
    assert server.bodies[-1]["messages"][0]["content"] == "One\ntwo"
    page.wait_for_selector("#send[aria-label=Send]")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Edit your message"
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "draft"
    page.keyboard.press("Control+b")
    assert not page.is_visible("#side")
    page.keyboard.press("Control+Shift+F")
    assert page.evaluate("document.activeElement.id") == "filter"
    page.keyboard.press("Control+/")
    shortcuts = page.inner_text("#keys-dialog")
    assert "New conversation" in shortcuts and "Stop the answer" in shortcuts
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys-dialog")


def test_a_phone_shows_everything_in_its_width(browser: Any, server: StandIn) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True
    )
    page, problems = watched(context)
    opened(page, server)
    wide = "| " + " | ".join("column" * 3 for _ in range(6)) + " |"
    rule = "|" + "---|" * 6
    server.reply = lambda body: spoken(
        f"{RICH}\n\n{wide}\n{rule}\n\n{'w' * 300}\n\n```\n{'x' * 300}\n```", size=400
    )
    page.fill("#draft", "Show me")
    page.tap("#send")
    page.wait_for_selector(".answer[aria-busy=false] .acts")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.querySelector('#thread').scrollWidth") <= 360
    assert not page.is_visible("#side")
    page.tap("#toggle-side")
    page.wait_for_selector("#conversations .open", state="visible")
    assert page.evaluate("document.querySelector('#main').inert")
    page.tap("#close-side")
    page.tap("#toggle-panel")
    page.wait_for_selector("#system", state="visible")
    small = page.evaluate(
        """() => [...document.querySelectorAll("#panel button, header button")]
          .filter((node) => node.offsetWidth && node.offsetHeight < 24).length"""
    )
    assert small == 0
    context.close()
    assert not problems


def test_the_look_follows_the_system_unless_it_is_chosen(page: Any) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.keyboard.press("Control+.")
    page.check("input[value=light]", force=True)
    assert page.evaluate(ground) == light
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate(ground) == light


def test_screen_readers_hear_of_an_answer_once_it_is_whole(page: Any, server: StandIn) -> None:
    gate = Gate()
    server.reply = lambda body: [chunk({"content": "Hea"}), gate, *spoken("rd.")]
    page.fill("#draft", "Listen")
    page.press("#draft", "Enter")
    page.wait_for_selector("text=Hea")
    assert page.inner_text("#said") == "The answer is being written."
    gate.set()
    page.wait_for_selector("#said >> text=The answer is complete. Heard.", state="attached")
    assert page.get_attribute("#said", "aria-live") == "polite"
    assert page.get_attribute(".answer", "aria-busy") == "false"
