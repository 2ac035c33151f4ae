"""The Python face: completions, dialogs, streams, logits (pitfalls B1, B2, B4, B10, I3, I9)."""

import dataclasses
import time

import pytest
import torch

import puna
from puna.errors import ContextError, RequestError
from puna.infer.sampling import SamplingConfig
from puna.llm import LLM, ChatStyle, load
from puna.tools.calculator import CALCULATOR
from tests.infer.tiny import prompts_of, tiny_model
from tests.llm.scripted import BYTES, EOM, EOT, TAG, ids_of, scripted

PLAIN = ChatStyle(dialect=None, source="the test", is_instruct=False)
BOS = BYTES.bos_id


def tiny_llm(*, tokenizer=BYTES, vocab: int = 512, context: int = 64) -> LLM:
    return LLM(tiny_model(vocab=vocab, context=context), tokenizer, style=PLAIN)


def test_text_gets_bos_exactly_once() -> None:
    llm = tiny_llm()
    assert llm.prompt_ids("Hi") == [BOS, *b"Hi"]
    assert llm.prompt_ids("") == [BOS]
    assert llm.prompt_ids([BOS, 5]) == [BOS, 5]


def test_a_dialog_gets_bos_exactly_once() -> None:
    llm = scripted(ids_of("Hello", EOT))
    llm.chat([{"role": "user", "content": "Hi"}], temperature=0)
    [prompt] = llm.model.prompts
    assert prompt[0] == BOS
    assert prompt.count(BOS) == 1


def test_one_prompt_gives_a_completion_and_a_list_gives_a_list() -> None:
    llm = tiny_llm()
    single = llm.generate("abc", max_tokens=7, temperature=0)
    several = llm.generate(["abc", [BOS, 1, 2], "longer text"], max_tokens=7, temperature=0)
    assert several[0] == single
    assert len(several) == 3
    assert llm.generate(["abc"], max_tokens=7, temperature=0) == [single]
    assert llm.generate([], max_tokens=7) == []


def test_a_row_of_a_sampled_batch_equals_its_single_run() -> None:
    llm = tiny_llm()
    batch = llm.generate(["abc", "de", "fghij"], max_tokens=9, temperature=1.0, seed=3)
    assert batch[1] == llm.generate("de", max_tokens=9, temperature=1.0, seed=3)


def test_seeds_may_differ_within_a_batch() -> None:
    llm = tiny_llm()
    one, two, again = llm.generate(["abc"] * 3, max_tokens=9, temperature=1.5, seed=[1, 2, 1])
    assert one == again
    assert one.ids != two.ids
    with pytest.raises(RequestError, match="2 seeds were given for 3 prompts"):
        llm.generate(["abc"] * 3, seed=[1, 2])


def test_usage_counts_the_ids() -> None:
    llm, [ids] = tiny_llm(), prompts_of([11])
    done = llm.generate(ids, max_tokens=5, temperature=0)
    assert done.usage.prompt_tokens == len(ids)
    assert done.usage.completion_tokens == len(done.ids) == 5
    assert done.usage.total_tokens == 16


def test_without_a_tokenizer_a_model_runs_on_ids_alone() -> None:
    llm = tiny_llm(tokenizer=None)
    done = llm.generate([1, 2, 3], max_tokens=4, temperature=0)
    assert len(done.ids) == 4
    assert done.text is None
    assert llm.logits([1, 2, 3]).shape == (3, 512)


@pytest.mark.parametrize(
    "ask",
    [
        lambda llm: llm.generate("text", max_tokens=2),
        lambda llm: llm.generate([1], max_tokens=2, stop="x"),
        lambda llm: llm.stream([1], max_tokens=2),
        lambda llm: llm.chat([{"role": "user", "content": "Hi"}]),
        lambda llm: llm.tokenizer,
    ],
)
def test_text_without_a_tokenizer_is_an_error_that_says_what_to_pass(ask) -> None:
    with pytest.raises(RequestError, match="tokenizer=FILE"):
        ask(tiny_llm(tokenizer=None))


def test_logits_are_those_of_the_model() -> None:
    llm, [ids] = tiny_llm(), prompts_of([9])
    expected = llm.model(torch.tensor([ids]))[0]
    assert torch.equal(llm.logits(ids), expected)
    assert torch.equal(llm.logits(torch.tensor(ids)), expected)
    assert llm.logits(ids).dtype == torch.float32


def test_a_stop_string_ends_a_row_and_is_left_out() -> None:
    llm = scripted(ids_of("one STOP two", EOT))
    done = llm.generate("x", stop="STOP", temperature=0)
    assert (done.text, done.finish_reason) == ("one ", "stop")
    assert done.usage.completion_tokens == len("one STOP")


def test_stop_ids_end_the_text_and_ignore_eos_writes_on() -> None:
    llm = scripted(ids_of("a", EOT, "b"), ids_of("a", EOT, "b"))
    done = llm.generate("x", max_tokens=3, temperature=0)
    assert (done.text, done.ids, done.finish_reason) == ("a", ids_of("a", EOT), "stop")
    free = llm.generate("x", max_tokens=3, temperature=0, ignore_eos=True)
    assert (free.ids, free.finish_reason) == (ids_of("a", EOT, "b"), "length")


@pytest.mark.parametrize("stop", sorted(BYTES.stop_ids))
def test_each_of_the_three_stop_ids_ends_an_answer(stop: int) -> None:
    llm = scripted(ids_of("a", stop, "b"))
    message = llm.chat([{"role": "user", "content": "Hi"}], temperature=0)
    assert message.content == "a"
    assert message.finish_reason == ("tool_calls" if stop == EOM else "stop")


def test_an_answer_carries_usage_and_why_it_ended() -> None:
    llm = scripted(ids_of("Hello", EOT))
    message = llm.chat([{"role": "user", "content": "Hi"}], max_tokens=3, temperature=0)
    assert (message.content, message.finish_reason) == ("Hel", "length")
    assert message.usage.prompt_tokens == len(llm.model.prompts[0])
    assert message.usage.completion_tokens == 3


def test_a_tool_call_is_read_and_not_shown_as_text() -> None:
    script = ids_of(TAG, 'calculator.call(query="12 * 34")', EOM)
    llm = scripted(script, script)
    dialog = [{"role": "user", "content": "What is 12 * 34?"}]
    message = llm.chat(dialog, tools=["calculator"], temperature=0)
    assert [(c.name, c.arguments) for c in message.tool_calls] == [
        ("calculator", {"query": "12 * 34"})
    ]
    assert (message.content, message.finish_reason) == ("", "tool_calls")
    assert "".join(llm.stream(dialog, tools=["calculator"], temperature=0)) == ""


def test_a_tool_object_is_run_until_the_answer() -> None:
    call = ids_of(TAG, 'calculator.call(query="12 * 34")', EOM)
    llm = scripted(call, ids_of("It is 408.", EOT))
    message = llm.chat(
        [{"role": "user", "content": "What is 12 * 34?"}], tools=[CALCULATOR], temperature=0
    )
    assert (message.content, message.finish_reason) == ("It is 408.", "stop")
    assert "408" in BYTES.decode(llm.model.prompts[1])
    assert all(prompt.count(BOS) == 1 for prompt in llm.model.prompts)


JSON_CALL = ids_of(
    TAG, '{"type": "function", "name": "add", "parameters": {"a": "2", "b": 3}}', EOM
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def test_a_function_is_declared_run_and_answered() -> None:
    llm = scripted(JSON_CALL, ids_of("It is 5.", EOT), context=2048)
    message = llm.chat([{"role": "user", "content": "2 + 3?"}], tools=[add], temperature=0)
    assert (message.content, message.finish_reason) == ("It is 5.", "stop")
    first, second = (BYTES.decode(prompt) for prompt in llm.model.prompts)
    assert "Add two numbers." in first
    assert "<|start_header_id|>ipython<|end_header_id|>\n\n5<|eot_id|>" in second


def test_a_call_of_a_declaration_comes_back_beside_tools_that_run() -> None:
    search = ids_of(TAG, 'brave_search.call(query="gold")', EOM)
    llm = scripted(JSON_CALL, search, context=2048)
    ran: list[int] = []

    @puna.tool(name="add")
    def counted(a: int, b: int) -> int:
        ran.append(a)
        return a + b

    message = llm.chat(
        [{"role": "user", "content": "q"}], tools=[counted, "brave_search"], temperature=0
    )
    assert [call.name for call in message.tool_calls] == ["brave_search"]
    assert message.finish_reason == "tool_calls"
    assert ran == [2]


def test_a_model_that_only_calls_is_stopped_after_its_steps() -> None:
    llm = scripted(*[JSON_CALL] * 3, context=2048)
    message = llm.chat([{"role": "user", "content": "q"}], tools=[add], max_steps=2, temperature=0)
    assert message.tool_calls
    assert len(llm.model.prompts) == 2


def test_consent_is_asked_and_a_tool_has_its_time() -> None:
    asked: list[str] = []

    @puna.tool(name="add", needs_consent=True)
    def slow(a: int, b: int) -> None:
        """Wait."""
        time.sleep(5)

    llm = scripted(JSON_CALL, ids_of("ok", EOT), context=2048)
    llm.chat(
        [{"role": "user", "content": "q"}],
        tools=[slow],
        tool_timeout=0.05,
        consent=lambda call, tool: bool(asked.append(call.name)) or True,
        temperature=0,
    )
    assert asked == ["add"]
    assert "add was stopped after 0.05 seconds" in BYTES.decode(llm.model.prompts[1])


def test_the_chat_format_is_made_once_and_follows_the_style() -> None:
    llm = scripted()
    assert llm.format is llm.format
    llm.style = dataclasses.replace(llm.style, dialect="hf")
    assert llm.format.dialect == "hf"


def test_a_completion_is_a_public_name() -> None:
    assert isinstance(tiny_llm().generate("abc", max_tokens=2), puna.Completion)


def test_a_stream_joins_to_the_answer_and_splits_no_character() -> None:
    text = "né ß 你好 🦙 STO"
    llm = scripted(ids_of(text, EOT), ids_of(text, EOT))
    dialog = [{"role": "user", "content": "Hi"}]
    answer = llm.stream(dialog, temperature=0, stop=["STOP"])
    pieces = list(answer)
    assert len(pieces) > 5
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) == answer.message.content == text
    assert llm.chat(dialog, temperature=0).content == text


def test_a_stop_string_is_held_back_in_a_stream() -> None:
    llm = scripted(ids_of("go STOP on", EOT))
    answer = llm.stream([{"role": "user", "content": "Hi"}], temperature=0, stop=["STOP"])
    assert "".join(answer) == "go "
    assert answer.message.content == "go "
    assert answer.message.finish_reason == "stop"


def test_an_abandoned_stream_keeps_what_was_said() -> None:
    llm = scripted(ids_of("one two three", EOT))
    answer = llm.stream([{"role": "user", "content": "Hi"}], temperature=0)
    assert "".join(piece for piece, _ in zip(answer, range(3), strict=False)) == "one"
    assert "one".startswith(answer.message.content[:3])
    assert answer.usage.completion_tokens == len(answer.ids) < 13


def test_a_text_may_be_streamed_too() -> None:
    llm = tiny_llm()
    done = llm.generate("abc", max_tokens=12, temperature=0)
    assert "".join(llm.stream("abc", max_tokens=12, temperature=0)) == done.text


def test_a_prompt_may_be_sent_as_a_message() -> None:
    llm = scripted(ids_of("Hello", EOT))
    assert llm.generate("Hi", raw=False, temperature=0).text == "Hello"
    rendered = llm.format.render([{"role": "user", "content": "Hi"}]).ids
    assert llm.model.prompts == [rendered]


def test_a_dialog_beyond_the_context_is_an_error_with_the_counts() -> None:
    llm = scripted(ids_of("x"), context=40)
    with pytest.raises(ContextError, match=r"\d+ tokens; the model's context is 40"):
        llm.chat([{"role": "user", "content": "word " * 20}])


def test_a_model_without_a_chat_format_says_so() -> None:
    with pytest.raises(RequestError, match="no chat format is known"):
        tiny_llm().chat([{"role": "user", "content": "Hi"}])


def test_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RequestError, match=r"'temprature'.*'temperature'"):
        tiny_llm().generate("x", temprature=0)


@pytest.mark.parametrize("wrong", [[], [["nested"]], [{"role": "user", "content": "Hi"}], [1.5]])
def test_what_is_no_prompt_is_refused(wrong) -> None:
    with pytest.raises(RequestError, match="generate"):
        tiny_llm().generate([wrong], max_tokens=1)


@pytest.mark.parametrize("wrong", [3, None, b"text", {"role": "user", "content": "Hi"}])
def test_what_holds_no_prompts_is_refused(wrong) -> None:
    with pytest.raises(RequestError, match=f"{type(wrong).__name__} was given; text or a list"):
        tiny_llm().generate(wrong, max_tokens=1)


@pytest.mark.parametrize(
    "option", [{"max_tokens": 2.5}, {"max_tokens": "3"}, {"stop": 3}, {"seed": 1.5}, {"seed": "a"}]
)
def test_an_option_of_the_wrong_kind_is_refused(option) -> None:
    [(name, value)] = option.items()
    with pytest.raises(RequestError, match=rf"{name}.*{value}.* was given"):
        tiny_llm().generate("x", **option)


def test_a_text_is_no_dialog() -> None:
    with pytest.raises(RequestError, match="str given; a list of messages is expected"):
        tiny_llm().chat("Hi")


def test_defaults_of_a_model_are_configurable() -> None:
    assert tiny_llm().sampling == SamplingConfig(temperature=0.6, top_p=0.9)
    llm = tiny_llm()
    llm.sampling = SamplingConfig(temperature=0)
    assert llm.generate("abc", max_tokens=8) == llm.generate("abc", max_tokens=8, seed=5)


def test_an_unknown_number_of_bits_is_refused_in_a_sentence(tmp_path) -> None:
    with pytest.raises(RequestError, match=r"quantize='int3' was given; 'int8', 'int4' or 'fp8'"):
        load(tmp_path, quantize="int3")
