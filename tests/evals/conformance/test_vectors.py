"""The vector files are what their schema and README say, and stand without puna."""

import json
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

import puna.evals.conformance.vectors as module
from puna.errors import RequestError
from puna.evals.conformance.segments import from_ids, from_json, split, to_ids, to_json
from puna.evals.conformance.shapes import BYTES
from puna.evals.conformance.vectors import GROUPS, load
from puna.tokenizer.ranks import RankTokenizer, read_ranks
from tests.testdata import testdata

FOLDER = Path(module.__file__).parent / "vectors"
TEXT = {group: (FOLDER / f"{group}.jsonl").read_text("utf-8") for group in GROUPS}


@pytest.mark.parametrize("group", GROUPS)
def test_every_vector_fits_the_schema(group: str) -> None:
    checker = jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text()))
    for line in TEXT[group].splitlines():
        row = json.loads(line)
        errors = [error.message for error in checker.iter_errors(row)]
        assert not errors, f"{row['id']}: {errors[0]}"
        assert row["group"] == group


def test_no_two_vectors_have_one_id_or_one_question() -> None:
    rows = [json.loads(line) for text in TEXT.values() for line in text.splitlines()]
    ids = Counter(row["id"] for row in rows)
    assert max(ids.values()) == 1
    asked = Counter(json.dumps([row["group"], row["input"]], sort_keys=True) for row in rows)
    assert [question for question, count in asked.items() if count > 1] == []
    assert len(rows) > 200


def test_the_readme_names_every_file_and_every_check() -> None:
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"`{path.name}`" in readme for path in FOLDER.iterdir() if path.suffix != ".md")
    for vector in load("requests"):
        assert f"`{vector.input['check']}`" in readme


def test_every_pitfall_of_tools_and_chat_has_a_vector() -> None:
    guarded = {pitfall for group in GROUPS for v in load(group) for pitfall in v.pitfalls}
    assert {f"T{n}" for n in range(1, 14)} <= guarded
    assert {f"B{n}" for n in range(1, 12)} <= guarded


def test_ids_of_prompts_are_those_of_llama_3() -> None:
    tok = RankTokenizer(read_ranks(testdata("tokenizers/llama3/tokenizer.model")))
    golden = [v for v in load("prompts") if "llama3_ids" in v.expect.get("meta", {})]
    assert golden
    for vector in golden:
        meta = vector.expect["meta"]
        assert from_ids(tok, meta["llama3_ids"]) == split(meta["text"])


def test_an_unknown_group_is_an_error() -> None:
    with pytest.raises(RequestError, match="no group 'poems'"):
        load("poems")


def test_segments_survive_json_and_ids() -> None:
    for vector in load("answers"):
        segments = from_json(vector.input["answer"])
        assert from_json(to_json(segments)) == segments
        assert from_ids(BYTES, to_ids(BYTES, segments)) == segments
