import json

import pytest
import torch

from puna.chat.declared import declare
from puna.chat.format import ChatFormat
from puna.checkpoint.load import load_tokenizer
from puna.errors import RequestError
from puna.infer.constraints import Constraint, Constraints
from puna.infer.engine import Engine, EngineConfig, Request
from puna.infer.sampling import SamplingConfig
from puna.infer.tool_grammar import calls_or_answer
from tests.infer.engines import BACKENDS, Written, run
from tests.infer.tiny import GREEDY, tiny_model
from tests.testdata import testdata

pytest.importorskip("llguidance", reason="the extra serve is not installed")
from tests.llm.scripted import BYTES, TAG

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"place": {"$ref": "#/$defs/place"}},
            "required": ["place"],
            "additionalProperties": False,
            "$defs": {"place": {"enum": ["Puna", "Quito"]}},
        },
    },
}


def engine_of(*, draft_tokens: int = 0, is_native: bool = BACKENDS[0]) -> Engine:
    model = tiny_model(vocab=BYTES.vocab, context=512)
    config = EngineConfig(cache_tokens=4096, draft_tokens=draft_tokens, is_native=is_native)
    return Engine(model, BYTES, config)


def answers(engine: Engine, constraint: Constraint, count: int = 6) -> list[Written]:
    warm = SamplingConfig(temperature=1.0, top_p=None, seed=1)
    request = Request(
        ids=BYTES.encode("Say something:"), sampling=warm, max_tokens=300, n=count,
        constraint=constraint,
    )  # fmt: skip
    (samples,) = run(engine, request)
    return list(samples.values())


def text_of(sample: Written) -> str:
    return BYTES.decode(sample.ids, skip_special=True)


@pytest.mark.parametrize("draft_tokens", [0, 6])
def test_an_answer_has_the_form_of_its_schema(draft_tokens: int) -> None:
    for sample in answers(engine_of(draft_tokens=draft_tokens), Constraint.json_schema(PERSON)):
        assert sample.finish_reason == "stop"
        person = json.loads(text_of(sample))
        assert person.keys() == {"name", "age"}
        assert 0 <= person["age"] <= 150


def test_what_a_grammar_forces_is_guessed_and_changes_nothing() -> None:
    plain, drafting = engine_of(), engine_of(draft_tokens=8)
    rule = Constraint(kind="regex", text="The answer of this question is [a-d]{3}, I think\\.")
    one, two = answers(plain, rule), answers(drafting, rule)
    assert [sample.ids for sample in one] == [sample.ids for sample in two]
    assert drafting.stats().accepted_tokens > 30 * 6
    assert drafting.stats().steps < plain.stats().steps / 3


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (Constraint(kind="regex", text="[0-9]{2}"), r"\d\d"),
        (Constraint(kind="gbnf", text='root ::= "yes" | "no"'), "yes|no"),
        (Constraint(kind="lark", text='start: "a" /[xyz]/ "b"'), "a[xyz]b"),
        (Constraint.choice(["red", "green", "reddish"]), "red|green|reddish"),
    ],
    ids=lambda value: value.kind if isinstance(value, Constraint) else "",
)
def test_regular_expressions_and_grammars_rule(rule: Constraint, allowed: str) -> None:
    import re

    for sample in answers(engine_of(), rule, 4):
        assert re.fullmatch(allowed, text_of(sample)), text_of(sample)


def test_json_is_spaced_as_json_is_written_and_in_no_other_way() -> None:
    rules = Constraints(BYTES, vocab=BYTES.vocab, stop_ids=BYTES.stop_ids)
    matcher = rules.matcher(Constraint.json_schema(PERSON))
    whole = json.dumps({"name": "Ada", "age": 36})
    assert matcher.possible(BYTES.encode(whole)) == len(whole)
    for written, right in (("{ ", 1), ('{"name":"', 8), ('{"name":  ', 9), ("{\n", 1)):
        assert matcher.possible(BYTES.encode(written)) == right, written


@pytest.mark.parametrize(
    "rule",
    [
        Constraint(kind="regex", text="(["),
        Constraint(kind="json_schema", text='{"type": "wrong"}'),
        Constraint(kind="json_schema", text="{"),
        Constraint(kind="lark", text="start: x"),
        Constraint(kind="gbnf", text="root := "),
        Constraint(kind="choice", text="5"),
    ],
    ids=lambda rule: rule.text,
)
def test_a_rule_that_is_none_is_refused_with_the_reason(rule: Constraint) -> None:
    engine = engine_of()
    with pytest.raises(RequestError, match=f"this {rule.kind} is not understood"):
        engine.submit(Request(ids=[1], sampling=GREEDY, constraint=rule))
    assert not engine.has_work


def test_a_constraint_needs_a_tokenizer() -> None:
    engine = Engine(tiny_model(), None, EngineConfig(cache_tokens=128))
    with pytest.raises(RequestError, match="no tokenizer"):
        engine.submit(Request(ids=[1], sampling=GREEDY, constraint=Constraint.choice(["a"])))


def test_control_tokens_are_no_text_and_stop_ids_wait_for_the_end() -> None:
    rules = Constraints(BYTES, vocab=BYTES.vocab + 3, stop_ids=BYTES.stop_ids)
    matcher = rules.matcher(Constraint(kind="regex", text="(.|\n)+"))
    special = torch.tensor(sorted(BYTES.specials.values()))
    assert not matcher.allowed()[special].any()
    assert not matcher.allowed()[BYTES.vocab :].any()
    matcher.advance(65)
    allowed = matcher.allowed()
    assert set(allowed[special].nonzero().flatten().tolist()) == {id - 256 for id in BYTES.stop_ids}


@pytest.mark.parametrize("folder", ["llama2", "llama3"])
def test_vocabularies_of_every_kind_can_be_ruled(folder: str) -> None:
    """Llama 2's puts a space before every text, which is no part of an answer."""
    tok = load_tokenizer(testdata(f"tokenizers/{folder}"))
    rules = Constraints(tok, vocab=tok.vocab, stop_ids=tok.stop_ids)
    matcher = rules.matcher(Constraint.json_schema(PERSON))
    text, ids = b'{"name": "Jos\xc3\xa9", "age": 41}', []
    while text:
        allowed = matcher.allowed()
        forced = matcher.forced()
        pieces = {tok.piece(i): i for i in allowed.nonzero()[:, 0].tolist()}
        ids.append(max((p for p in pieces if text.startswith(p)), key=len))
        if forced:
            assert text.startswith(b"".join(map(tok.piece, forced)))
        matcher.advance(pieces[ids[-1]])
        text = text.removeprefix(ids[-1])
    assert set(matcher.allowed().nonzero()[:, 0].tolist()) == tok.stop_ids


# Tools and a schema in one request


def test_a_request_with_tools_and_a_schema_gets_a_call_or_an_answer() -> None:
    tools = declare([WEATHER, "brave_search"])
    rule = calls_or_answer(tools, answer=Constraint.json_schema(PERSON), tokenizer=BYTES)
    parse = ChatFormat(BYTES, "meta").parse
    kinds = set()
    for sample in answers(engine_of(), rule, 30):
        message = parse(sample.ids, [WEATHER, "brave_search"])
        if sample.finish_reason != "stop":
            continue
        if not message.tool_calls:
            assert json.loads(message.content).keys() == {"name", "age"}
            kinds.add("answer")
        for call in message.tool_calls:
            if call.name == "weather":
                assert call.arguments["place"] in ("Puna", "Quito")
            kinds.add(call.name)
    assert kinds >= {"answer", "brave_search"}


@pytest.mark.parametrize("name", ["weather", "brave_search", "code_interpreter"])
def test_every_form_of_a_call_is_one_that_the_parser_reads(name: str) -> None:
    tool = WEATHER if name == "weather" else name
    rule = calls_or_answer(declare([tool]), tokenizer=BYTES, is_required=True)
    written = {
        "weather": '{"name": "weather", "parameters": {"place": "Quito"}}',
        "brave_search": 'brave_search.call(query="snow in \\"Puna\\"")',
        "code_interpreter": "print(1)\nprint({})",
    }[name]
    ids = [*([] if name == "weather" else [TAG]), *BYTES.encode(written)]
    matcher = Constraints(BYTES, vocab=BYTES.vocab, stop_ids=BYTES.stop_ids).matcher(rule)
    for token in ids:
        assert matcher.allowed()[token], written
        matcher.advance(token)
    assert matcher.allowed()[sorted(BYTES.stop_ids)].all()
    (call,) = ChatFormat(BYTES, "meta").parse([*ids, BYTES.eos_id], [tool]).tool_calls
    assert call.name == name


def test_a_required_call_cannot_be_an_answer() -> None:
    rule = calls_or_answer(declare([WEATHER]), tokenizer=BYTES, is_required=True)
    for sample in answers(engine_of(), rule, 4):
        assert sample.finish_reason == "length" or "weather" in text_of(sample)


def test_a_required_call_has_no_arguments_but_those_that_are_declared() -> None:
    parameters = {**WEATHER["function"]["parameters"]}
    del parameters["additionalProperties"]  # then JSON Schema would allow any
    open_ = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    rule = calls_or_answer(declare([open_]), tokenizer=BYTES, is_required=True)
    matcher = Constraints(BYTES, vocab=BYTES.vocab, stop_ids=BYTES.stop_ids).matcher(rule)
    more = '{"name": "weather", "parameters": {"place": "Puna"'
    assert matcher.possible(BYTES.encode(f'{more}, "when": 1')) == len(more)


def test_several_calls_may_follow_each_other_where_that_is_allowed() -> None:
    call = '{"name": "weather", "parameters": {"place": "Puna"}}'
    for several in (True, False):
        rule = calls_or_answer(
            declare([WEATHER]), tokenizer=BYTES, is_required=True, several=several
        )
        matcher = Constraints(BYTES, vocab=BYTES.vocab, stop_ids=BYTES.stop_ids).matcher(rule)
        assert (matcher.possible(BYTES.encode(f"{call}; {call}")) > len(call)) is several


def test_a_tool_that_must_be_called_has_to_be_declared() -> None:
    with pytest.raises(RequestError, match="no tools were declared"):
        calls_or_answer(declare([]), tokenizer=BYTES, is_required=True)
