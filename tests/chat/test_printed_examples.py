"""Every example printed in Meta's documents: its prompt and its answer, byte for byte."""

import re

import pytest

from puna.chat.messages import Message
from puna.tokenizer.interface import Tokenizer
from puna.tokenizer.ranks import RankTokenizer, read_ranks
from tests.chat.dialogs import BYTES, encode_split, examples, trained_text
from tests.chat.printed import DOCUMENTS, Example, table
from tests.testdata import testdata

ENDS = ("<|eot_id|>", "<|eom_id|>")


def test_the_table_has_every_example_of_the_documents() -> None:
    """Every fenced block of a document is the prompt or the answer of one row, and stands once."""
    rows = table()
    for document in DOCUMENTS:
        text = testdata(f"reference/{document}").read_text()
        blocks = re.findall(r"^```\n(.*?)\n```$", text, re.M | re.S)
        printed = [part for example in examples(document) for part in example]
        assert blocks == printed
        assert text.count("```") == 2 * len(blocks)
        assert [row.number for row in rows if row.document == document] == [
            *range(len(blocks) // 2)
        ]
    assert len(rows) == 18


@pytest.fixture(scope="module")
def llama_3() -> RankTokenizer:
    return RankTokenizer(read_ranks(testdata("tokenizers/llama3/tokenizer.model")))


def _answered(row: Example, tok: Tokenizer) -> Message:
    """Parse the printed answer."""
    _, answer = row.printed
    return row.chat(tok).parse(encode_split(tok, answer), row.tools)


def _name(number: int) -> str:
    """Name a row without reading the documents, which may be absent."""
    return f"row {number}"


@pytest.mark.parametrize("number", range(18), ids=_name)
def test_a_printed_prompt_comes_from_its_dialog(number: int, llama_3: RankTokenizer) -> None:
    """The text of it, and its ids: control tokens where they are printed, and text between them."""
    row = table()[number]
    prompt, _ = row.printed
    for tok in (BYTES, llama_3):
        rendered = row.render(tok)
        assert tok.decode(rendered.ids) == prompt
    assert row.render(BYTES).ids == encode_split(BYTES, prompt)
    controls = [token for token in encode_split(llama_3, prompt) if token >= 128_000]
    assert [token for token in row.render(llama_3).ids if token >= 128_000] == controls


@pytest.mark.parametrize("number", range(18), ids=_name)
def test_a_printed_answer_is_written_back_and_learned(number: int) -> None:
    """It follows the prompt; the loss is on it and on the earlier messages of the assistant."""
    row = table()[number]
    prompt, answer = row.printed
    if row.text is not None:  # a base model goes on; nobody answers
        assert not any(row.render(BYTES).loss_mask)
        assert not answer.endswith(ENDS)
        return
    said = re.findall(r"assistant<\|end_header_id\|>\n\n(.+?<\|eo[tm]_id\|>)", prompt, re.S)
    asked = row.render(BYTES)
    assert trained_text(BYTES, asked.ids, asked.loss_mask) == "".join(said)
    learned = row.render(BYTES, _answered(row, BYTES))
    assert learned.ids == encode_split(BYTES, prompt + answer)
    assert trained_text(BYTES, learned.ids, learned.loss_mask) == "".join([*said, answer])
