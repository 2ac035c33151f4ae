"""A right template passes, what a template does wrong is found, and a refusal is no fault."""

import json
from pathlib import Path

import pytest

from puna.chat.format import ChatFormat
from puna.errors import FormatError, NotFoundError
from puna.evals.conformance.outcome import Report
from puna.evals.conformance.prompts import OWN_WORDING, check_renderer
from puna.evals.conformance.renderers import (
    FormatRenderer,
    Refusal,
    Renderer,
    TemplateRenderer,
    open_template,
)
from puna.evals.conformance.shapes import BYTES
from puna.evals.conformance.vectors import Question
from tests.testdata import testdata

# A template of the tests' own in the frame of Llama 3: whole, with functions and results of tools.
FRAME = """\
{{- bos_token }}
{%- set ns = namespace(system="", rest=messages) %}
{%- if messages[0].role == "system" %}
    {%- set ns.system = messages[0].content %}
    {%- set ns.rest = messages[1:] %}
{%- endif %}
{%- if ns.system or tools %}
    {{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
    {%- for tool in tools or [] %}{{- tool | tojson + "\\n" }}{%- endfor %}
    {{- ns.system + "<|eot_id|>" }}
{%- endif %}
{%- for message in ns.rest %}
    {%- set role = "ipython" if message.role == "tool" else message.role %}
    {{- "<|start_header_id|>" + role + "<|end_header_id|>\\n\\n" + (message.content or "") }}
    {%- if message.content and message.tool_calls %}{{- "<|python_tag|>" }}{%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '{"name": "' + call.function.name + '", "parameters": ' }}
        {{- call.function.arguments | tojson + "}" }}
        {%- if not loop.last %}{{- "; " }}{%- endif %}
    {%- endfor %}
    {{- "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""


def check(text: str) -> Report:
    return check_renderer(TemplateRenderer(text), subject="template")


def of(report: Report, status: str) -> dict[str, str]:
    return {o.id: o.detail for o in report.outcomes if o.status == status}


@pytest.mark.parametrize("dialect", ["meta", "hf", "hf3"])
def test_puna_s_own_dialects_pass_every_exact_vector(dialect: str) -> None:
    report = check_renderer(FormatRenderer(BYTES, dialect), subject="puna", dialect=dialect)
    assert of(report, "failed") == {}
    assert of(report, "refused") == {}
    assert report.count("passed") >= {"meta": 70, "hf": 62, "hf3": 30}[dialect]


@pytest.mark.parametrize("dialect", ["meta", "hf", "hf3"])
def test_puna_s_own_dialects_are_told_apart(dialect: str) -> None:
    report = check_renderer(FormatRenderer(BYTES, dialect), subject="puna")
    assert report.facts["dialect"].split()[0] == dialect
    assert of(report, "failed") == {}


def test_the_published_template_passes_but_for_the_text_that_it_drops() -> None:
    """It drops text beside a call: a defect of the template, which puna's own dialect refuses."""
    path = testdata("templates/llama-3.1-8b-instruct.jinja")
    report = check_renderer(open_template(path), subject="published")
    assert report.facts["dialect"].startswith("hf ")
    assert set(of(report, "failed")) == {"prompts.call-after-text"}
    assert "'Let me look.' is not in it" in of(report, "failed")["prompts.call-after-text"]
    assert report.count("passed") >= 55
    assert report.facts["images"] == "no"


def test_puna_renders_the_published_template_and_keeps_texts_apart() -> None:
    text = testdata("templates/llama-3.1-8b-instruct.jinja").read_text()
    report = check_renderer(FormatRenderer(BYTES, text), subject="published, on ids", dialect="hf")
    assert "prompts.chat" not in of(report, "failed")
    assert not [name for name in of(report, "failed") if name.startswith("injection")]


def test_a_template_with_its_own_wording_passes_by_its_frame() -> None:
    report = check(FRAME)
    assert report.facts["dialect"].startswith("frame ")
    assert of(report, "failed") == {}
    assert report.facts["built-in tools"] == "no"
    assert "prompts.several-calls" in of(report, "passed")
    assert report.facts["functions"] == "yes"


def test_wording_of_dates_and_tools_is_a_template_s_own() -> None:
    published = testdata("templates/llama-3.1-8b-instruct.jinja").read_text()
    text = published.replace("You have access to the following functions.", "Here are functions.")
    report = check(text)
    assert of(report, "passed")["prompts.functions-in-system"] == OWN_WORDING
    strict = check_renderer(TemplateRenderer(text), subject="template", dialect="hf")
    assert "'Here are functions." in of(strict, "failed")["prompts.functions-in-system"]


@pytest.mark.parametrize(("pad", "status"), [("<|eot_id|>", "failed"), ("<|pad|>", "passed")])
def test_padding_that_ends_answers_is_found(tmp_path: Path, pad: str, status: str) -> None:
    """B3: what fills short rows is left out of the loss, and so is never learned."""
    config = {"chat_template": FRAME, "pad_token": {"content": pad}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    report = check_renderer(open_template(tmp_path), subject="folder")
    assert "prompts.padding" in of(report, status)
    assert report.facts["the token for padding named"] == "yes"
    assert "prompts.padding" in of(check(FRAME), "skipped")


def test_a_mask_that_leaves_out_the_terminators_is_found() -> None:
    class Forgetful(FormatRenderer):
        def learned(self, question: Question) -> str | Refusal:
            learned = super().learned(question)
            return learned if isinstance(learned, Refusal) else learned.replace("<|eot_id|>", "")

    report = check_renderer(Forgetful(BYTES, "meta"), subject="forgetful", dialect="meta")
    assert "<|eot_id|>" in of(report, "failed")["prompts.learned"]


# what is changed in the template, into what, and the vector that finds it
BROKEN = {
    "no-begin-of-text": ("{{- bos_token }}", "", "prompts.begin-of-text"),
    "begin-of-text-twice": ("{{- bos_token }}", "{{- bos_token + bos_token }}", "prompts.chat"),
    "blank-line": ("<|end_header_id|>\\n\\n\" + (", "<|end_header_id|>\\n\" + (", "prompts.chat"),
    "role-tool": ('"ipython" if message.role == "tool" else message.role', "message.role",
                  "prompts.result-text"),
    "result-twice": ("(message.content or \"\")",
                     "((message.content | tojson | tojson) if message.role == 'tool'"
                     " else message.content or \"\")", "prompts.result-text"),
    "trimmed-inside": ("(message.content or \"\")",
                       "(message.content or \"\").split() | join(\" \")", "prompts.inner-space"),
    "first-call": ("message.tool_calls or []", "(message.tool_calls or [])[:1]",
                   "prompts.several-calls"),
    "escapes": ("tool | tojson +", "tool | tojson | e +", "prompts.function-markup"),
    "ascii": ("tool | tojson +", "tool | tojson(ensure_ascii=True) +", "prompts.function-scripts"),
    "no-answer": ("{%- if add_generation_prompt %}", "{%- if false %}", "prompts.chat"),
    "looks-inside": ("(message.content or \"\")",
                     "(message.content or \"\").split(\"</think>\")[-1]", "injection.think"),
    "drops-names": ("(message.content or \"\")",
                    "(message.content or \"\") | replace(\"<|eot_id|>\", \"\")", "injection.user"),
    "python-repr": ("call.function.arguments | tojson", "call.function.arguments | string",
                    "prompts.function-call-kinds"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_of_a_template_is_found(fault: str) -> None:
    right, wrong, vector = BROKEN[fault]
    assert right in FRAME
    report = check(FRAME.replace(right, wrong))
    assert not report.is_well
    assert vector in of(report, "failed"), of(report, "failed")


def test_the_first_wrong_character_is_shown() -> None:
    report = check_renderer(
        TemplateRenderer(FRAME.replace('" + role + "', '" + role + " ')),
        subject="template",
        dialect="meta",
    )
    detail = of(report, "failed")["prompts.no-system"]
    assert detail.startswith("character 40, after ")
    assert "' <|end_header_id|>" in detail


def test_a_frozen_date_is_no_argument() -> None:
    """Where a date changes nothing the capability is not there; a hidden clock is one."""
    published = testdata("templates/llama-3.1-8b-instruct.jinja").read_text()
    frozen = check(published.replace("+ date_string +", '+ "26 Jul 2024" +'))
    assert frozen.facts["dates"] == "no"
    assert of(frozen, "skipped")["prompts.date"] == "dates: no"
    clock = published.replace("+ date_string +", '+ strftime_now("%d %b %Y") +')
    assert check(clock).facts["dates"] == "yes"


def test_a_refusal_is_told_apart_from_a_fault() -> None:
    refusing = FRAME.replace(
        "{{- bos_token }}",
        "{{- bos_token }}{%- for m in messages %}{%- if (m.tool_calls or []) | length > 1 %}"
        '{{- raise_exception("one call at a time") }}{%- endif %}{%- endfor %}',
    )
    report = check(refusing)
    assert of(report, "refused") == {"prompts.several-calls": "one call at a time"}
    assert report.is_well


def test_a_template_that_breaks_is_no_refusal() -> None:
    report = check(FRAME.replace("call.function.name +", "call.function.name + 7 +"))
    assert "TypeError" in of(report, "failed")["prompts.function-call-empty"]


def test_another_format_gets_no_verdict() -> None:
    chatml = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    report = check(chatml)
    assert report.facts["dialect"].startswith("none ")
    assert not report.is_well
    assert report.count("skipped") == len(report.outcomes)


def test_templates_are_found_in_what_holds_them(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": FRAME}]
    configs = {
        "plain": {"chat_template": FRAME, "bos_token": {"content": "<|begin_of_text|>"}},
        "named": {"chat_template": named, "bos_token": None},
    }
    for name, config in configs.items():
        path = tmp_path / name / "tokenizer_config.json"
        path.parent.mkdir()
        path.write_text(json.dumps(config))
        for given in (path, path.parent):
            assert check_renderer(open_template(given), subject=name).is_well
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "chat_template.jinja").write_text(FRAME)
    assert check_renderer(open_template(tmp_path / "own"), subject="own").is_well


def test_what_holds_no_template_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        open_template(tmp_path / "none.jinja")
    with pytest.raises(FormatError, match="no chat_template in it"):
        open_template(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text("[1]")
    with pytest.raises(FormatError, match="list given"):
        open_template(path)
    path.write_text("{")
    with pytest.raises(FormatError, match="no JSON"):
        open_template(path)


def test_a_template_on_ids_knows_control_tokens() -> None:
    """The same template, run by puna on ids, keeps apart what a text cannot."""
    renderer: Renderer = FormatRenderer(BYTES, FRAME)
    assert renderer.knows_controls
    report = check_renderer(renderer, subject="on ids")
    assert "injection.user" in of(report, "passed")
    assert ChatFormat(BYTES, FRAME)
