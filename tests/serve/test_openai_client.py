"""The official client, unchanged, against a real server."""

import json
import time
from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

from tests.serve.live import CALCULATOR, CONTEXT, Live, running, tiny_llm

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 8}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running(tiny_llm(is_terse=True), tiny_llm(name="other"), tools=(CALCULATOR,),
                 is_scripted=True) as live:  # fmt: skip
        yield live


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat_is_answered_with_usage(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="other", messages=HI, max_tokens=5, temperature=0)
    assert done.model == "other"
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert done.usage.completion_tokens == 5
    assert done.usage.total_tokens == done.usage.prompt_tokens + 5


def test_a_stream_says_what_one_piece_says(client: openai.OpenAI) -> None:
    asked = {"model": "other", "messages": HI, "max_tokens": 40, "temperature": 1.0, "seed": 3}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_several_choices_are_drawn_from_seeds_of_their_own(client: openai.OpenAI) -> None:
    asked = {"model": "other", "messages": HI, "max_tokens": 8, "temperature": 1.0}
    two = client.chat.completions.create(**asked, seed=5, n=2)
    second = client.chat.completions.create(**asked, seed=6)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[1].message.content == second.choices[0].message.content
    assert two.usage.completion_tokens == 16


def test_a_required_call_is_a_call_of_the_schema(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": HI, "tools": [WEATHER], "max_tokens": 200}
    done = client.chat.completions.create(**asked, tool_choice="required")
    call = done.choices[0].message.tool_calls[0]
    assert done.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    named = {"type": "function", "function": {"name": "get_weather"}}
    with client.chat.completions.stream(**asked, tool_choice=named) as stream:
        final = stream.get_final_completion()
    again = final.choices[0].message.tool_calls[0]
    assert again.function.arguments == call.function.arguments


def test_a_call_and_its_result_are_read_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(
        model="tiny", messages=HI, tools=[WEATHER], tool_choice="required", max_tokens=200
    )
    message = first.choices[0].message
    dialog = [*HI, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id,
                             "content": "3 C"}]  # fmt: skip
    done = client.chat.completions.create(
        model="tiny", messages=dialog, tools=[WEATHER], max_tokens=4
    )
    assert done.usage.prompt_tokens > first.usage.prompt_tokens


def test_structured_outputs_are_parsed(client: openai.OpenAI) -> None:
    done = client.chat.completions.parse(
        model="tiny", messages=HI, response_format=Person, max_tokens=300
    )
    assert isinstance(done.choices[0].message.parsed, Person)


def test_fields_that_ask_for_what_is_done_anyway_are_taken(client: openai.OpenAI) -> None:
    asked = {"model": "other", "max_tokens": 2, "messages": HI}
    guess = {"type": "content", "content": "Hi"}
    done = client.chat.completions.create(
        **asked, reasoning_effort="none", verbosity="medium", prediction=guess
    )
    assert done.usage.completion_tokens == 2
    with pytest.raises(openai.UnprocessableEntityError, match="reasoning_effort"):
        client.chat.completions.create(**asked, reasoning_effort="high")
    client.responses.create(
        model="other", input="Hi", reasoning={"effort": "none"}, max_output_tokens=2
    )


def test_json_mode_gives_an_object(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="tiny", messages=HI, response_format={"type": "json_object"}, max_tokens=300
    )
    assert isinstance(json.loads(done.choices[0].message.content), dict)


def test_logprobs_stand_for_every_token(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="other", messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    told = done.choices[0].logprobs.content
    assert len(told) == 6
    assert all(len(entry.top_logprobs) == 3 for entry in told)
    assert all(entry.logprob == max(t.logprob for t in entry.top_logprobs) for entry in told)


def test_a_bias_forbids_a_token(client: openai.OpenAI) -> None:
    asked = {"model": "other", "messages": HI, "max_tokens": 1, "temperature": 0, "logprobs": True}
    first = client.chat.completions.create(**asked).choices[0].logprobs.content[0]
    token = str(first.model_extra["id"])
    second = client.chat.completions.create(**asked, logit_bias={token: -100})
    assert str(second.choices[0].logprobs.content[0].model_extra["id"]) != token


def test_completions_echo_their_prompt_with_logprobs(client: openai.OpenAI) -> None:
    done = client.completions.create(
        model="other", prompt=["Hi", "Ho"], max_tokens=3, echo=True, logprobs=2, n=2
    )
    assert [choice.text[:2] for choice in done.choices] == ["Hi", "Hi", "Ho", "Ho"]
    told = done.choices[2].logprobs
    assert told.token_logprobs[0] is None  # nothing precedes begin-of-text
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 3 + 3
    stream = client.completions.create(model="other", prompt="Hi", max_tokens=6, stream=True)
    whole = client.completions.create(model="other", prompt="Hi", max_tokens=6)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


def test_best_of_answers_the_likeliest(client: openai.OpenAI) -> None:
    done = client.completions.create(
        model="other", prompt="Hi", max_tokens=4, best_of=3, n=1, temperature=1.0, seed=1
    )
    assert len(done.choices) == 1
    assert done.usage.completion_tokens == 12


def test_a_response_is_continued_by_its_id(client: openai.OpenAI) -> None:
    first = client.responses.create(
        model="other", input="Hi", instructions="Be brief.", max_output_tokens=6
    )
    assert first.status == "incomplete"
    assert first.incomplete_details.reason == "max_output_tokens"
    assert first.output[0].type == "message"
    second = client.responses.create(
        model="other", input="And?", previous_response_id=first.id, max_output_tokens=6
    )
    assert second.usage.input_tokens > first.usage.input_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    listed = client.responses.input_items.list(first.id)
    assert [item.content[0].text for item in listed] == ["Hi"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_streamed_response_says_what_one_piece_says(client: openai.OpenAI) -> None:
    asked = {"model": "other", "input": "Hi", "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[-1] == "response.incomplete"  # as the whole one: 12 tokens were the limit
    final = events[-1].response
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert final.output_text == whole.output_text
    assert [event.sequence_number for event in events] == sorted(
        event.sequence_number for event in events
    )


def test_a_response_calls_functions(client: openai.OpenAI) -> None:
    tool = {"type": "function", **WEATHER["function"]}
    asked = {"model": "tiny", "input": "Weather?", "tools": [tool], "tool_choice": "required",
             "parallel_tool_calls": False}  # fmt: skip
    done = client.responses.create(**asked, max_output_tokens=200)
    call = done.output[0]
    assert call.type == "function_call"
    assert "city" in json.loads(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "3 C"}
    items = [{"role": "user", "content": "Weather?"}, call.model_dump(), result]
    after = client.responses.create(model="tiny", input=items, tools=[tool], max_output_tokens=4)
    assert after.usage.input_tokens > done.usage.input_tokens


def test_embeddings_have_length_one_in_both_encodings(client: openai.OpenAI) -> None:
    texts = ["a river", "a mountain"]
    packed = client.embeddings.create(model="tiny", input=texts)
    plain = client.embeddings.create(model="tiny", input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert sum(value**2 for value in one.embedding) == pytest.approx(1, abs=1e-5)
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


def test_a_batch_answers_each_line_in_order(client: openai.OpenAI) -> None:
    bodies = [{"model": "other", "messages": HI, "max_tokens": 3}, {"model": "nobody",
              "messages": HI}, {"model": "other", "messages": HI, "max_tokens": 2}]  # fmt: skip
    lines = [
        {"custom_id": f"line-{at}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for at, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    sent = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert client.files.content(sent.id).read() == content
    batch = client.batches.create(
        input_file_id=sent.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    until = time.monotonic() + 20
    while batch.status not in ("completed", "failed") and time.monotonic() < until:
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", batch.errors
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    found = client.files.content(batch.output_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in found] == ["line-0", "line-2"]
    wrong = json.loads(client.files.content(batch.error_file_id).text)
    assert wrong["response"]["status_code"] == 404
    client.files.delete(sent.id)
    assert sent.id not in [file.id for file in client.files.list()]


def test_a_batch_of_broken_lines_fails_and_names_them(client: openai.OpenAI) -> None:
    sent = client.files.create(file=("in.jsonl", b"{}\nnothing\n"), purpose="batch")
    batch = client.batches.create(
        input_file_id=sent.id, endpoint="/v1/completions", completion_window="24h"
    )
    until = time.monotonic() + 10
    while batch.status != "failed" and time.monotonic() < until:
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    assert [error.line for error in batch.errors.data] == [1, 2]


def test_a_prompt_that_is_too_long_is_an_error_with_both_counts(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x" * 2000}]
        )
    assert caught.value.code == "context_length_exceeded"
    assert str(CONTEXT) in caught.value.message
    assert "20" in caught.value.message


def test_the_server_runs_its_own_tools_only_when_asked(client: openai.OpenAI) -> None:
    call = (
        {"control": "<|python_tag|>"},
        'calculator.call(query="12 * 34")',
        {"control": "<|eom_id|>"},
    )
    asked = {"model": "tiny", "messages": HI, "max_tokens": 64}
    told = {"scripted_answer": list(call)}
    plain = client.chat.completions.create(**asked, extra_body=told)
    assert plain.choices[0].message.tool_calls is None
    chunks = client.chat.completions.create(
        **asked, stream=True, extra_body={**told, "server_tools": ["calculator"]}
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    results = [delta.content for delta in deltas if delta.role == "tool"]
    assert results
    assert set(results) == {"408"}
    assert [d.role for d in deltas if d.role][:3] == ["assistant", "tool", "assistant"]
    with pytest.raises(openai.BadRequestError, match="its operator allows calculator"):
        client.chat.completions.create(**asked, extra_body={"server_tools": ["code_interpreter"]})


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").model_extra["max_model_len"] == CONTEXT
    with pytest.raises(openai.NotFoundError, match="the models are tiny, other"):
        client.models.retrieve("nobody")


def test_afterwards_every_page_is_back(live: Live) -> None:
    assert live.is_idle()
