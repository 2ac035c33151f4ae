"""Two requests share as many keys as their texts share pieces from the beginning."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from puna.serve.replicas.prefixes import PIECE, prefix_keys

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


def shared(first: tuple[bytes, ...], second: tuple[bytes, ...]) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def dialog(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"messages": messages, **more}


def keys(body: Any, path: str = CHAT, owner: bytes = b"") -> tuple[bytes, ...]:
    return prefix_keys(path, body, owner)


def test_the_keys_of_a_turn_are_the_first_keys_of_the_next() -> None:
    first = keys(dialog("a" * 300))
    second = keys(dialog("a" * 300, "b" * 300, "c"))
    assert len(first) >= 300 // PIECE
    assert len(second) > len(first)
    assert shared(first, second) >= len(first) - 1
    told = dialog("a" * 300, "b" * 300, "c")
    told["messages"][1] |= {"refusal": None, "tool_calls": None}  # as clients send it back
    assert keys(told) == second


def test_what_a_cache_cannot_share_shares_no_key() -> None:
    body = dialog("a" * 300)
    plain = keys(body)
    others = [
        keys({**body, "model": "other"}), keys({**body, "tools": [{"type": "function"}]}),
        keys(body, owner=b"Bearer x"), keys({"prompt": "a" * 300}, TEXT),
        keys({"input": body["messages"]}, RESPONSES), keys(dialog("b" + "a" * 299)),
    ]  # fmt: skip
    assert all(shared(plain, other) == 0 for other in others)
    assert keys({**body, "temperature": 0, "stream": True}) == plain  # how is no matter


def test_prompts_and_inputs_have_keys_too() -> None:
    assert len(keys({"prompt": "a" * 200}, TEXT)) == 200 // PIECE
    assert keys({"prompt": ["a" * 200, "b"]}, TEXT) == keys({"prompt": "a" * 200}, TEXT)
    ids = random.Random(0).choices(range(1000), k=200)
    assert shared(keys({"prompt": ids}, TEXT), keys({"prompt": ids[:100]}, TEXT)) > 3
    assert len(keys({"input": "a" * 200}, RESPONSES)) == 200 // PIECE


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(Json, st.sampled_from([CHAT, TEXT, RESPONSES, "/v1/embeddings"]))
def test_any_json_has_keys_or_none(value: Any, path: str) -> None:
    for body in (value, {"messages": value}, {"prompt": value}, {"input": [value, value]}):
        found = prefix_keys(path, body, b"")
        assert len(set(found)) == len(found)
