"""The user's own documents: every format, in order, and nothing lost without a word."""

import gzip
import json
import random
from pathlib import Path

import pytest
import zstandard

from puna.data.document import Document
from puna.data.readers import read_pages
from puna.errors import NotFoundError, RequestError
from tests.testdata import testdata


def read(*paths: Path, workers: int = 1) -> tuple[dict[str, Document], dict[str, str]]:
    failures: dict[str, str] = {}
    documents = list(read_pages(paths, failures, workers=workers))
    assert len({document.id for document in documents}) == len(documents)
    return {document.id: document for document in documents}, failures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    (root / "b").mkdir(parents=True)
    (root / "a.html").write_text("<p>one page of text</p>")
    (root / "b" / "note.md").write_text("# Two\n\n*words*\n")
    (root / "b" / "plain.txt.gz").write_bytes(gzip.compress("drei Wörter hier\r\n".encode()))
    (root / "c.jsonl.zst").write_bytes(
        zstandard.compress(b'{"text": "four"}\n\n{"txt": "?"}\n{"text": "five", "url": "u"}\nno\n')
    )
    (root / "code.py").write_text("x = 6\n")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (root / "noise.txt").write_bytes(b"abc\0\xff")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / ".hidden.txt").write_text("hidden")
    return root


def test_every_format_is_read_in_sorted_order(folder: Path) -> None:
    documents, _ = read(folder)
    assert {name: document.text for name, document in documents.items()} == {
        "mine/a.html": "one page of text\n",
        "mine/b/note.md": "Two\n\nwords\n",
        "mine/b/plain.txt.gz": "drei Wörter hier\n",
        "mine/c.jsonl.zst#1": "four",
        "mine/c.jsonl.zst#4": "five",
        "mine/code.py": "x = 6\n",
    }
    assert list(documents) == sorted(documents)
    assert documents["mine/code.py"].source == "code"
    assert documents["mine/c.jsonl.zst#4"].metadata == {"url": "u"}
    assert all("markup" not in document.metadata for document in documents.values())


def test_what_cannot_be_read_is_named_with_the_reason(folder: Path) -> None:
    _, failures = read(folder)
    assert set(failures) == {
        "mine/c.jsonl.zst#3",
        "mine/c.jsonl.zst#5",
        "mine/picture.png",
        "mine/noise.txt",
        "mine/latin.txt",
    }
    assert failures["mine/picture.png"] == "unknown kind of file '.png'"
    assert failures["mine/noise.txt"] == "binary, not text"
    assert "not UTF-8" in failures["mine/latin.txt"]
    assert "'text'" in failures["mine/c.jsonl.zst#3"]


def test_two_processes_read_what_one_reads(folder: Path) -> None:
    assert read(folder, workers=2) == read(folder)


def test_folders_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "docs").mkdir(parents=True)
        (tmp_path / parent / "docs" / "a.txt").write_text(parent)
    documents, _ = read(tmp_path / "x" / "docs", tmp_path / "y" / "docs")
    assert {name: d.text for name, d in documents.items()} == {
        "docs/a.txt": "x",
        "docs~2/a.txt": "y",
    }


def test_a_missing_path_and_an_empty_set_are_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file or folder"):
        read(tmp_path / "nothing")
    with pytest.raises(RequestError, match="no readable document"):
        read(tmp_path)
    (tmp_path / "a.png").write_bytes(b"\0")
    with pytest.raises(RequestError, match=r"a\.png \(unknown kind of file"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_whole_lines_before_a_cut_are_kept(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(0)
    lines = [json.dumps({"text": f"line {rng.getrandbits(400)}"}) for _ in range(4_000)]
    data = "\n".join(lines).encode()
    packed = gzip.compress(data) if suffix == ".gz" else zstandard.compress(data)
    path = tmp_path / f"cut.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    (tmp_path / "whole.txt").write_text("whole")
    documents, failures = read(tmp_path)
    kept = [document.text for name, document in documents.items() if ".jsonl" in name]
    assert kept == [json.loads(line)["text"] for line in lines[: len(kept)]]
    assert 1_000 < len(kept) < 4_000
    name = f"{tmp_path.name}/cut.jsonl{suffix}"
    assert "damaged or cut off" in failures[name]


def test_a_cut_page_is_no_document(tmp_path: Path) -> None:
    path = tmp_path / "page.html.gz"
    packed = gzip.compress(b"<p>" + bytes(range(97, 123)) * 90 + b"</p>")
    path.write_bytes(packed[:-12])
    (tmp_path / "whole.txt").write_text("whole")
    documents, failures = read(tmp_path)
    assert list(documents) == [f"{tmp_path.name}/whole.txt"]
    assert len(failures) == 1


def test_web_archives_give_their_pages_with_address_and_date() -> None:
    documents, failures = read(testdata("web/warc"))
    assert failures.pop("warc/example-trunc.warc") == (
        "damaged after 3 records: Invalid WARC header"
    )
    assert all("unknown kind" in reason for reason in failures.values())
    assert set(documents) == {
        "warc/example-bad-non-chunked.warc.gz#3",  # says chunked, is not
        "warc/example-iana.org-chunked.warc#2",
        "warc/example-resource.warc.gz#3",
        "warc/example-trunc.warc#3",
        "warc/example-wget-bad-target-uri.warc.gz#3",  # address in angle brackets
        "warc/example-wrong-chunks.warc.gz#1",
        "warc/example.warc#3",
        "warc/example.warc.gz#3",
    }
    page = documents["warc/example-wget-bad-target-uri.warc.gz#3"]
    assert page.metadata == {"url": "http://example.com/", "date": "2018-02-09T15:12:11Z"}
    assert page.text.startswith("This domain is established to be used for illustrative examples")


@pytest.mark.parametrize(("share", "pages"), [(0.5, 0), (0.7, 1), (0.99, 1)])
@pytest.mark.parametrize("name", ["example.warc", "example.warc.gz"])
def test_a_cut_archive_gives_its_whole_pages_and_says_where_it_ends(
    tmp_path: Path, name: str, share: float, pages: int
) -> None:
    data = (testdata("web/warc") / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * share)])
    (tmp_path / "whole.txt").write_text("whole")
    documents, failures = read(tmp_path)
    assert sum(name in each for each in documents) == pages
    if (name, share) != ("example.warc.gz", 0.7):  # this cut falls between two records
        assert "cut off after" in failures[f"{tmp_path.name}/{name}"]


def test_a_page_cut_off_at_capture_is_left_out(tmp_path: Path) -> None:
    data = (testdata("web/warc") / "example.warc").read_bytes()
    marked = data.replace(
        b"WARC-Type: response\r\n", b"WARC-Type: response\r\nWARC-Truncated: length\r\n"
    )
    assert marked != data
    (tmp_path / "a.warc").write_bytes(marked)
    (tmp_path / "whole.txt").write_text("whole")
    documents, failures = read(tmp_path)
    assert list(documents) == [f"{tmp_path.name}/whole.txt"]
    assert "cut off when it was captured" in failures[f"{tmp_path.name}/a.warc#3"]
