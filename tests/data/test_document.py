"""Documents survive their files, and damaged files say so."""

from pathlib import Path

import pytest

from puna.data.document import Document, read_documents, read_split, write_documents
from puna.errors import FormatError, NotFoundError

DOCUMENTS = [
    Document(text="Grüße\n\u2028 and a 'quote'\n", id="a", source="general", language="de"),
    Document(text="x = 1\n", id="b", source="code", metadata={"group": "os", "date": "2020"}),
    Document(text="", id="c", source="maths"),
]


def test_documents_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.jsonl.zst"
    assert write_documents(path, DOCUMENTS) == 3
    assert list(read_documents(path)) == DOCUMENTS
    assert list(read_split(tmp_path, "train")) == DOCUMENTS


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_documents(tmp_path / name, DOCUMENTS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_document_without_a_group_is_its_own_group() -> None:
    assert [document.group for document in DOCUMENTS] == ["a", "os", "c"]


def test_a_shard_of_other_json_is_refused_by_line(tmp_path: Path) -> None:
    from puna.data.document import open_writer

    path = tmp_path / "x.jsonl.zst"
    with open_writer(path) as file:
        file.write('{"words": 1}\n')
    with pytest.raises(FormatError, match=r"x\.jsonl\.zst:1: not a document"):
        list(read_documents(path))


def test_noise_is_not_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(b"not zstd at all")
    with pytest.raises(FormatError, match="damaged"):
        list(read_documents(path))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no heldout documents"):
        list(read_split(tmp_path, "heldout"))
