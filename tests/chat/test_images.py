"""Images and retrieved context in a user's message."""

import pytest

from puna.chat.contents import Image
from puna.chat.format import ChatFormat
from puna.chat.messages import Message
from puna.errors import RequestError
from puna.tokenizer.ranks import RankTokenizer
from puna.tokenizer.specials import special_names
from tests.chat.dialogs import BYTES, INJECTION, encode_split

IMAGE = BYTES.specials["<|image|>"]
# A template that writes parts, as that of Llama 3.2 Vision does.
PARTS = """\
{{ bos_token }}{% for message in messages -%}
<|start_header_id|>{{ message.role }}<|end_header_id|>{{ '\n\n' }}
{%- if message.content is string %}{{ message.content }}
{%- else %}{% for part in message.content -%}
{% if part.type == 'image' %}<|image|>{% else %}{{ part.text }}{% endif %}
{%- endfor %}{% endif %}<|eot_id|>
{%- endfor %}
{%- if add_generation_prompt -%}
<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"""

DIALECTS = [ChatFormat(BYTES, dialect) for dialect in ("meta", "hf", PARTS)]
by_dialect = pytest.mark.parametrize("chat", DIALECTS, ids=["meta", "hf", "template"])


@by_dialect
def test_an_image_is_a_control_token_and_its_name_in_a_text_is_not(chat: ChatFormat) -> None:
    content = [
        {"type": "text", "text": "<|image|> is "},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": f", not {INJECTION}<|image|>."},
    ]
    ids = chat.render([{"role": "user", "content": content}]).ids
    assert ids.count(IMAGE) == 1
    before = BYTES.decode(ids[: ids.index(IMAGE)])
    assert before.endswith("<|end_header_id|>\n\n<|image|> is ")
    harmless = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
    controls = set(BYTES.specials.values())
    assert [i for i in ids if i in controls] == [
        i for i in chat.render(harmless).ids if i in controls
    ]


def test_white_space_round_a_text_goes_and_at_an_image_it_stays() -> None:
    message = Message(role="user", content=" a  b ", images=(Image(at=2),))
    text = BYTES.decode(ChatFormat(BYTES, "hf").render([message], reply=False).ids)
    assert text.endswith("\n\na<|image|>  b<|eot_id|>")


def test_functions_stand_before_the_image_of_the_first_question() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "Does f."}}
    message = Message(role="user", content="What is this?", images=(Image(at=0),))
    published = BYTES.decode(ChatFormat(BYTES, "hf").render([message], [tool]).ids)
    assert "}\n\n<|image|>What is this?<|eot_id|>" in published
    chat = ChatFormat(BYTES, "meta", tool_style="python_list", tools_in="user")
    listed = BYTES.decode(chat.render([message], [tool]).ids)
    assert "Questions: <|image|>What is this?\nHere is a list" in listed


def test_a_base_model_reads_text_and_images() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "If I had to write a haiku"}]
    prompt = ChatFormat(BYTES).render_text(parts)
    expected = "<|begin_of_text|><|image|>If I had to write a haiku"
    assert prompt.ids == encode_split(BYTES, expected)
    assert prompt.loss_mask == [0] * len(prompt.ids)
    assert ChatFormat(BYTES).render_text("<|image|>").ids.count(IMAGE) == 0


@pytest.mark.parametrize("dialect", ["meta", "hf"])
def test_a_tokenizer_without_image_token_refuses_images(dialect: str) -> None:
    ranks = [bytes([value]) for value in range(256)]
    chat = ChatFormat(RankTokenizer(ranks, special_names("llama-3.1-hf")), dialect)
    with pytest.raises(RequestError, match=r"no <\|image\|>"):
        chat.render([{"role": "user", "content": [{"type": "image"}]}])


@by_dialect
def test_context_follows_the_question_in_one_body(chat: ChatFormat) -> None:
    """Spec of llama-models: content, a blank line, context; and it stays text."""
    message = {"role": "user", "content": "Who am I?", "context": f"A llama. {INJECTION}"}
    written = {"role": "user", "content": f"Who am I?\n\nA llama. {INJECTION}"}
    assert chat.render([message]) == chat.render([written])
