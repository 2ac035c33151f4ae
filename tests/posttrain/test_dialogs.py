"""Dialogs: varied, deterministic, without a held-out number, and rendered as in use."""

import json
import re
from collections import Counter

import pytest

from puna.chat.format import ChatFormat
from puna.data.heldout import mentions_held_out
from puna.errors import ConfigError
from puna.evals.vocabulary import UNSEEN_PHRASES
from puna.posttrain.dialogs import SYSTEM, DialogConfig, dialogs
from puna.posttrain.modules import first_sentence, module_sentences
from puna.posttrain.smalltalk import NEEDS_CALCULATOR
from tests.evals.tiny import ByteTokenizer


@pytest.fixture(scope="module")
def made() -> list:
    return list(dialogs(DialogConfig(count=600, seed=5)))


def test_the_same_seed_gives_the_same_dialogs(made: list) -> None:
    assert list(dialogs(DialogConfig(count=600, seed=5))) == made
    assert list(dialogs(DialogConfig(count=600, seed=6))) != made


def test_no_held_out_number_occurs_in_any_dialog(made: list) -> None:
    for dialog in made:
        for message in dialog.messages:
            calls = [call["function"]["arguments"] for call in message.get("tool_calls", ())]
            assert not mentions_held_out(" ".join([message["content"] or "", *calls]))


def test_every_kind_of_dialog_occurs(made: list) -> None:
    kinds = Counter(dialog.kind for dialog in made)
    assert set(kinds) == {"sums", "words", "smalltalk", "modules", "unknown", "mixed"}
    assert kinds["sums"] > 100


def test_every_call_has_its_result_and_every_dialog_ends_with_the_assistant(made: list) -> None:
    for dialog in made:
        assert dialog.messages[-1]["role"] == "assistant"
        for message, following in zip(dialog.messages, dialog.messages[1:], strict=False):
            if message.get("tool_calls"):
                assert dialog.tools == ("calculator",)
                assert following["role"] == "tool"
                assert following["tool_call_id"] == message["tool_calls"][0]["id"]


def test_every_result_is_exact(made: list) -> None:
    for dialog in made:
        for message, result in zip(dialog.messages, dialog.messages[1:], strict=False):
            for call in message.get("tool_calls", ()):
                a, sign, b = json.loads(call["function"]["arguments"])["query"].split()
                x, y = int(a), int(b)
                exact = {"+": x + y, "-": x - y, "*": x * y, "/": x // y if x % y == 0 else None}
                assert int(result["content"]) == exact[sign]


def test_without_a_calculator_a_sum_is_refused_not_guessed(made: list) -> None:
    refused = [d for d in made if any(m["content"] == NEEDS_CALCULATOR for m in d.messages)]
    assert refused
    assert all(dialog.tools == () for dialog in refused)


def test_training_never_uses_the_phrasing_kept_for_evaluation(made: list) -> None:
    opening = UNSEEN_PHRASES[0].split("'")[0]
    assert not any(
        str(message["content"]).startswith(opening) for d in made for message in d.messages
    )


def test_a_sum_is_rendered_as_the_built_in_call(made: list) -> None:
    tok = ByteTokenizer()
    dialog = next(d for d in made if d.kind == "sums" and d.messages[0]["role"] == "system")
    prompt = ChatFormat(tok).render(dialog.messages, tools=dialog.tools, reply=False)
    text = tok.decode(prompt.ids)
    assert text.startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"Environment: ipython\nTools: calculator\n\n{SYSTEM}<|eot_id|>"
    )
    call = r'<\|python_tag\|>calculator\.call\(query="\d+ [-+*/] \d+"\)<\|eom_id\|>'
    result = r"<\|start_header_id\|>ipython<\|end_header_id\|>\n\n-?\d+<\|eot_id\|>"
    assert re.search(call + result, text)


def test_the_loss_covers_what_the_assistant_says_and_its_terminators(made: list) -> None:
    """B3: the terminator is trained, or the model never stops."""
    tok = ByteTokenizer()
    for dialog in made[:40]:
        prompt = ChatFormat(tok).render(dialog.messages, tools=dialog.tools, reply=False)
        trained = [i for i, m in zip(prompt.ids, prompt.loss_mask, strict=True) if m]
        expected = ""
        for message in dialog.messages:
            if message["role"] != "assistant":
                continue
            if message.get("tool_calls"):
                query = json.loads(message["tool_calls"][0]["function"]["arguments"])["query"]
                expected += f'<|python_tag|>calculator.call(query="{query}")<|eom_id|>'
            else:
                expected += f"{message['content']}<|eot_id|>"
        assert tok.decode(trained) == expected


def test_module_sentences_are_sentences() -> None:
    known = dict(module_sentences())
    assert len(known) > 60
    assert known["shutil"].startswith("Utility functions for copying")
    assert all(s[0].isupper() and s.endswith(".") for s in known.values())


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("csv.py - read/write CSV files. More.\n\nBody", "Read/write CSV files."),
        ("Module csv -- tools for tables", "Tools for tables."),
        ("csv ~~~ <b>", None),
        ("", None),
        ("Short.", None),
    ],
)
def test_a_docstring_becomes_its_first_sentence(docstring: str, sentence: str | None) -> None:
    assert first_sentence(docstring, "csv") == sentence


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="one above 0"):
        DialogConfig(sums=0, words=0, smalltalk=0, modules=0, unknown=0)
