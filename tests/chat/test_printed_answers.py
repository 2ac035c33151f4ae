"""Answers printed by others, read token by token through the tokenizer of Llama 3."""

import json
from functools import cache
from typing import Any

import pytest

from puna.chat.format import ChatFormat
from puna.chat.messages import Message, ToolCall
from puna.tokenizer.load import load_tokenizer_file
from tests.chat.answers import read
from tests.chat.dialogs import call, encode_split, examples
from tests.testdata import testdata


@cache
def _llama_3() -> ChatFormat:
    return ChatFormat(load_tokenizer_file(testdata("tokenizers/llama3/tokenizer.model")), "meta")


def _function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def _parse(text: str, tools: list[Any]) -> Message:
    """Parse an answer as a whole and token by token; both must say the same."""
    chat = _llama_3()
    ids = encode_split(chat.tok, text)
    events, message = read(chat.parser(tools), [[token] for token in ids])
    assert (events, message) == read(chat.parser(tools), [ids])
    return message


TOOLS = [
    *map(_function, ("trending_songs", "get_weather", "get_user_info")),
    *("brave_search", "wolfram_alpha", "code_interpreter"),
]
GOLD = call("brave_search", query="latest price of 1oz gold")
CALLS = {
    "llama3_1_prompt_format.md": [
        (GOLD,),
        (call("trending_songs", n="10", genre="all"),),
        (call("trending_songs", n=10),),
    ],
    "llama3_2_text_prompt_format.md": [
        (
            call("get_weather", city="San Francisco", metric="celsius"),
            call("get_weather", city="Seattle", metric="celsius"),
        ),
        (call("get_user_info", user_id=7890, special="black"),),
    ],
    "llama3_2_vision_prompt_format.md": [(GOLD,)],
}


@pytest.mark.parametrize("document", CALLS)
def test_every_answer_in_metas_documents_is_read(document: str) -> None:
    """Calls as they are meant, code as it stands, and everything else as content."""
    found = []
    for _, text in examples(document):
        body, _, end = text.partition("<|e")
        message = _parse(text, TOOLS)
        calls = message.tool_calls
        if "def is_prime" in body:
            code = body.removeprefix("<|python_tag|>")
            assert calls == (call("code_interpreter", code=code),)
        elif calls:
            found.append(calls)
        else:
            assert message.content == body
        assert bool(message.content) != bool(calls)
        if end:
            assert message.finish_reason == ("tool_calls" if calls else "stop")
    assert found == CALLS[document]


def _gold(kind: str) -> list[ToolCall]:
    """Read the calls that the Berkeley function-calling tasks expect."""
    path = testdata(f"evals/bfcl/possible_answer/BFCL_v4_{kind}.json")
    calls = []
    for line in path.read_text().splitlines():
        for task in json.loads(line)["ground_truth"]:
            for name, arguments in task.items():
                values = {key: allowed[0] for key, allowed in arguments.items()}
                calls.append(ToolCall(name=name, arguments=values))
    return calls


@pytest.mark.parametrize("kind", ["simple_python", "multiple"])
def test_every_expected_call_of_a_benchmark_is_read_in_every_form(kind: str) -> None:
    """Names with dots, nested values and many alphabets, as people wrote them."""
    gold = [found for found in _gold(kind) if all(map(str.isidentifier, found.arguments))]
    assert len(gold) > 190
    for number, found in enumerate(gold):
        name, arguments = found.name, json.dumps(found.arguments, ensure_ascii=number % 2 == 0)
        keywords = ", ".join(f"{key}={value!r}" for key, value in found.arguments.items())
        text = (
            f'{{"name": "{name}", "parameters": {arguments}}}',
            f"<function={name}>{arguments}</function>",
            f"[{name}({keywords})]",
            f'I call it.\n{{"name": "{name}", "arguments": {arguments}}}',
            f"<|python_tag|>{name}.call({keywords})",
        )[number % 5]
        assert _parse(f"{text}<|eot_id|>", [_function(name)]).tool_calls == (found,)
