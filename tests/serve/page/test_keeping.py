import json
from pathlib import Path
from typing import Any

from tests.serve.page.acting import answer, ask
from tests.serve.page.conftest import opened
from tests.serve.page.standin import StandIn, spoken


def expect_titles(page: Any, *expected: str) -> None:
    """The list follows the store, which answers when it has written."""
    found: list[str] = []
    for _ in range(100):
        found = page.locator("#conversations .open").all_inner_texts()
        if found == list(expected):
            return
        page.wait_for_timeout(50)
    assert found == list(expected)


def test_conversations_and_drafts_outlive_the_page(page: Any, server: StandIn) -> None:
    page.fill("#draft", "half a thought")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.input_value("#draft") == "half a thought"
    server.reply = lambda body: spoken("Kept.")
    ask(page, "About llamas")
    page.fill("#draft", "and alpacas")
    page.keyboard.press("Control+Shift+O")
    ask(page, "About vicunas")
    page.wait_for_timeout(600)  # saving waits for a pause
    page.goto("about:blank")
    opened(page, server)
    expect_titles(page, "About vicunas", "About llamas")
    page.click("text=About llamas")
    assert answer(page) == "Kept." and page.input_value("#draft") == "and alpacas"
    page.keyboard.press("Alt+ArrowUp")
    assert page.inner_text(".bubble") == "About vicunas"


def test_an_answer_goes_on_while_another_conversation_is_open(page: Any, server: StandIn) -> None:
    server.reply = lambda body: spoken("A slow answer.", pause_s=0.3)
    page.fill("#draft", "slow")
    page.press("#draft", "Enter")
    page.wait_for_selector("text=A slow")
    page.click("#fresh")
    server.reply = lambda body: spoken("A quick one.")
    ask(page, "quick")
    page.wait_for_selector('text="slow" has an answer.')
    page.click(".toast button")
    assert answer(page) == "A slow answer."


def test_a_conversation_is_renamed_found_deleted_and_brought_back(page: Any) -> None:
    ask(page, "About llamas")
    page.click("#fresh")
    ask(page, "About vicunas")
    page.hover("text=About llamas")
    page.click("[aria-label='Rename About llamas']")
    page.keyboard.type("Wool")
    page.keyboard.press("Enter")
    expect_titles(page, "About vicunas", "Wool")
    page.fill("#filter", "llamas")
    expect_titles(page, "Wool")
    page.fill("#filter", "")
    page.hover("text=Wool")
    page.click("[aria-label='Delete Wool']")
    expect_titles(page, "About vicunas")
    page.click(".toast button")
    page.wait_for_selector("#conversations >> text=Wool")


def test_an_export_is_imported_as_it_was(page: Any, server: StandIn, tmp_path: Path) -> None:
    ask(page, "One")
    page.click(".answer [aria-label='Answer again']")
    page.wait_for_selector(".answer .versions")
    with page.expect_download() as found:
        page.click("#export")
    found.value.save_as(tmp_path / "kept.json")
    before = json.loads((tmp_path / "kept.json").read_text())
    assert before["format"] == "puna-conversations"
    page.hover("#conversations li")
    page.click("[aria-label='Delete One']")
    page.set_input_files("#import-file", tmp_path / "kept.json")
    page.wait_for_selector("text=1 conversation was imported.")
    page.click("#conversations .open")
    assert page.inner_text(".answer .versions span") == "2 / 2"


def test_a_file_that_is_no_export_is_refused_in_a_sentence(page: Any) -> None:
    loop = {"a": {"role": "user", "parent": "b"}, "b": {"role": "user", "parent": "a"}}
    files: list[tuple[Any, str]] = [
        ("{", "The file is not JSON."),
        ('{"a": 1}', "holds no conversations of puna"),
        ({"version": 9}, "reads version 1"),
        ({"conversations": [None]}, "is no conversation"),
        ({"conversations": [{"messages": {"a": {"role": "system"}}}]}, "has the role system"),
        ({"conversations": [{"messages": loop}]}, "its own ancestor"),
    ]
    for given, sentence in files:
        whole = {"format": "puna-conversations", "version": 1}
        text = given if isinstance(given, str) else json.dumps({**whole, **given})
        file = {"name": "x.json", "mimeType": "application/json", "buffer": text.encode()}
        page.set_input_files("#import-file", file)
        page.wait_for_selector(f".toast >> text={sentence}")
    expect_titles(page)
