from typing import Any

from tests.serve.page.acting import answer, ask, settle
from tests.serve.page.standin import StandIn, called, chunk, measured, ran, spoken


def test_tools_of_the_server_are_shown_with_their_results(page: Any, server: StandIn) -> None:
    server.reply = lambda body: [
        chunk({"content": "Let me see."}),
        ran("calculator", {"query": "6 * 7"}, "42"),
        ran("code_interpreter", {"code": "1 / 0"}, "ZeroDivisionError", id="2", is_error=True),
        *spoken("It is 42."),
    ]
    ask(page, "How much?")
    cards = page.locator(".call")
    assert cards.locator(".call-state").all_inner_texts() == ["done", "failed"]
    assert cards.locator("pre").all_inner_texts() == [
        '{"query": "6 * 7"}', "42", "1 / 0", "ZeroDivisionError",
    ]  # fmt: skip
    cards.first.locator("summary").click()
    assert not cards.first.locator("pre").first.is_visible()
    assert answer(page).startswith("Let me see.") and answer(page).endswith("It is 42.")
    server.reply = lambda body: spoken("Yes.")
    ask(page, "Sure?")
    sent = server.bodies[-1]["messages"]
    roles = [message["role"] for message in sent]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "2"]


def test_a_call_for_the_user_waits_for_what_the_user_says(page: Any, server: StandIn) -> None:
    server.reply = lambda body: called("weather", '{"city": "La Paz"}')
    ask(page, "Weather?")
    assert page.inner_text(".call-state") == "waiting for a result"
    server.reply = lambda body: spoken("It is cool.")
    page.fill(".call-form textarea", "14 degrees")
    page.click(".call-form button")
    page.wait_for_selector("text=It is cool.")
    settle(page)
    asked = {"name": "weather", "arguments": '{"city": "La Paz"}'}
    assert server.bodies[-1]["messages"][1:] == [
        {
            "role": "assistant", "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": asked}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "14 degrees"},
    ]  # fmt: skip
    assert page.locator(".turn").count() == 2


def test_tokens_tell_their_probability_to_pointer_and_keyboard(page: Any, server: StandIn) -> None:
    page.keyboard.press("Control+.")
    page.check("#shows-tokens")
    words = [("Sure", 0.95, []), (" maybe", 0.07, [(" yes", 0.8), ("\n", 0.02)]), ("\n", 0.4, [])]
    server.reply = lambda body: measured(words)
    ask(page, "Well?")
    tokens = page.locator(".token")
    levels = tokens.evaluate_all("all => all.map((token) => token.classList[1])")
    assert levels == ["level-0", "level-4", "level-2"]
    tokens.nth(1).hover()
    card = page.locator("#token-card")
    assert card.locator(".token-head").inner_text().split("\n") == ["␣maybe", "id 101", "7.0 %"]
    assert card.locator("li").all_inner_texts()[1].split() == ["␣yes", "80", "%"]
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    assert tokens.nth(1).evaluate("token => token === document.activeElement")
    assert card.is_visible()
    page.keyboard.press("Escape")
    assert not card.is_visible()
    page.click(".answer [aria-label='Show tokens']")
    assert answer(page) == "Sure maybe"
