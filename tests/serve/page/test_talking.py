from typing import Any

from tests.serve.page.acting import answer, ask, settle
from tests.serve.page.standin import CUT, Gate, Refusal, Reply, StandIn, chunk, spoken, usage


def last_words(body: dict[str, Any]) -> str:
    text: str = body["messages"][-1]["content"]
    return text


def always(reply: Any) -> Reply:
    return lambda body: reply


def test_an_answer_streams_and_ends_with_its_figures(page: Any, server: StandIn) -> None:
    gate = Gate()
    server.reply = lambda body: [
        chunk({"content": "One **two"}), gate, chunk({"content": "** three"}), 0.2,
        chunk({}, "stop"), usage(1000, 24),
    ]  # fmt: skip
    page.fill("#draft", "Count")
    page.press("#draft", "Enter")
    page.wait_for_selector("text=One **two")
    assert page.get_attribute("#send", "aria-label") == "Stop"
    gate.set()
    settle(page)
    assert answer(page) == "One two three"
    assert "24 tokens" in page.inner_text(".figures") and "tokens/s" in page.inner_text(".figures")
    assert page.inner_text("#meter") == "1,024 of 8,192 tokens"
    assert "The answer is complete" in page.inner_text("#said")
    assert server.bodies == [
        {
            "messages": [{"role": "user", "content": "Count"}], "model": "cria-chat",
            "stream": True, "stream_options": {"include_usage": True},
        }
    ]  # fmt: skip


def test_stop_ends_the_stream_and_keeps_what_came(page: Any, server: StandIn) -> None:
    server.reply = lambda body: [chunk({"content": "Begun"}), Gate()]
    page.fill("#draft", "Talk for ever")
    page.press("#draft", "Enter")
    page.wait_for_selector("text=Begun")
    page.keyboard.press("Escape")
    settle(page)
    assert page.inner_text(".answer .note") == "You stopped this answer."
    server.reply = lambda body: spoken("Fine.")
    ask(page, "And now?")
    assert [m["content"] for m in server.bodies[-1]["messages"]] == [
        "Talk for ever", "Begun", "And now?",
    ]  # fmt: skip


def test_edits_and_new_answers_are_branches(page: Any, server: StandIn) -> None:
    server.reply = lambda body: spoken(f"{len(server.bodies)}: {last_words(body)}")
    ask(page, "first")
    ask(page, "second")
    page.click(".question:first-child [data-act=edit]")
    page.fill(".edit-form textarea", "changed")
    page.click(".edit-form .main")
    page.wait_for_selector("text=3: changed")
    settle(page)
    assert len(server.bodies[-1]["messages"]) == 1
    assert page.locator(".turn").count() == 2
    page.click(".question [aria-label='Previous version']")
    assert page.locator(".turn").count() == 4
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next version"
    page.click(".answer >> nth=1 >> [aria-label='Answer again']")
    page.wait_for_selector("text=4: second")
    settle(page)
    assert page.locator(".answer").nth(1).locator(".versions span").inner_text() == "2 / 2"
    page.click(".answer >> nth=1 >> [aria-label='Previous version']")
    assert "2: second" in answer(page)


def test_a_busy_server_is_told_in_a_sentence_and_asked_again(page: Any, server: StandIn) -> None:
    busy = Refusal(429, "12 wait already.", headers={"retry-after": "30"})
    server.reply = lambda body: busy
    ask(page, "Are you there?")
    notice = page.inner_text(".notice")
    assert "more requests than it can take" in notice and "12 wait already." in notice
    assert "Try again (in " in notice
    server.reply = lambda body: spoken("Yes.")
    page.click(".notice button")
    page.wait_for_selector("text=Yes.")
    settle(page)
    assert page.locator(".notice").count() == 0 and page.locator(".answer").count() == 1
    assert page.locator(".versions").count() == 0


def test_failures_say_what_helps_and_lose_no_words(page: Any, server: StandIn) -> None:
    cases = [
        (Refusal(503, "draining"), "not ready"),
        (Refusal(400, "9000 tokens", "context_length_exceeded"), "too long for this model"),
        (Refusal(404, "no such model"), "does not have this model"),
        (Refusal(422, "seed: wrong"), "seed: wrong"),
        (Refusal(500), "The server failed"),
        ([chunk({"content": "Half an"}), CUT], "connection was lost"),
        ([{"error": {"message": "out of memory"}}], "out of memory"),
    ]
    for reply, sentence in cases:
        server.reply = always(reply)
        ask(page, f"Say {sentence}")
        assert sentence in page.locator(".notice").last.inner_text()
    assert page.locator(".bubble").count() == len(cases)
    assert "Half an" in page.inner_text("#turns")
    server.reply = lambda body: spoken("Well.")
    ask(page, "And after all that?")
    assert "Half an" in [message["content"] for message in server.bodies[-1]["messages"]]


def test_a_server_that_is_gone_takes_no_words_along(page: Any, server: StandIn) -> None:
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(page, "Hello?")
    assert "cannot be reached" in page.inner_text(".notice")
    page.unroute("**/v1/chat/completions")
    page.click(".notice button")
    page.wait_for_selector("text=Hello.")


def test_a_key_is_asked_for_once_and_used(page: Any, server: StandIn) -> None:
    server.key = "sesame"
    page.fill("#draft", "Open")
    page.press("#draft", "Enter")
    page.wait_for_selector("#key-dialog[open]")
    page.fill("#key", "sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("#key-dialog:not([open])", state="attached")
    page.wait_for_selector("text=Hello.")
    settle(page)
    ask(page, "Again")
    assert answer(page) == "Hello."
    assert page.evaluate("localStorage['puna.key'] ?? null") is None


def test_settings_travel_with_the_request(page: Any, server: StandIn) -> None:
    server.models[0]["puna"]["server_tools"] = [{"name": "calculator", "description": ""}]
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.select_option("#model", "cria-base")
    page.select_option("#model", "cria-chat")
    page.keyboard.press("Control+.")
    page.fill("#system", "Answer in verse.")
    page.fill("#set-temperature", "0.2")
    page.fill("#set-top_k", "40")
    page.fill("#set-seed", "7")
    page.fill("#set-min_p", "3")
    page.fill("#tools", '[{"name": "weather", "parameters": {}}]')
    page.check("#server-tools")
    page.check("#shows-tokens")
    assert "not sent" in page.inner_text("#hint-min_p")
    assert page.get_attribute("#set-top_p", "placeholder") == "0.9"
    ask(page, "Hi")
    body = server.bodies[-1]
    assert body["messages"][0] == {"role": "system", "content": "Answer in verse."}
    assert (body["temperature"], body["top_k"], body["seed"]) == (0.2, 40, 7)
    assert body["logprobs"] is True and body["top_logprobs"] == 5
    assert body["tools"] == [
        {"type": "function", "function": {"name": "weather", "parameters": {}}}
    ]
    assert body["server_tools"] is True
    assert not {"min_p", "top_p", "max_tokens"} & set(body)


def test_text_files_travel_with_the_message(page: Any, server: StandIn) -> None:
    def attach(name: str, data: bytes) -> None:
        page.set_input_files("#files", {"name": name, "mimeType": "text/plain", "buffer": data})

    attach("big.txt", b"x" * 300_000)
    page.wait_for_selector("text=big.txt has 293 KB; at most 256 KB can be attached.")
    attach("photo.png", b"\x89PNG\0\0")
    page.wait_for_selector("text=photo.png is not text")
    attach("note.md", b"a\n```\nb\n```\n")
    page.wait_for_selector(".chip")
    ask(page, "What is in it?")
    expected = "File note.md:\n````md\na\n```\nb\n```\n````\n\nWhat is in it?"
    assert last_words(server.bodies[-1]) == expected
    assert page.locator(".file summary").inner_text().startswith("note.md")
