"""The full-text index over a folder."""

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import NotFoundError, RequestError
from puna.tools import search_files
from puna.tools.search import web_search
from puna.tools.search_index import SearchIndex
from puna.tools.search_words import for_index, for_reader


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "home"
    monkeypatch.setenv("PUNA_HOME", str(kept))
    return kept


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    (docs / "birds").mkdir(parents=True)
    (docs / "birds" / "owl.txt").write_text("The owl\n\nAn owl hunts mice at night, silently.\n")
    (docs / "lion.md").write_text("# The lion\n\nA lion *sleeps* for twenty hours a day.\n")
    lines = [
        {"text": "Penguins swim but never fly.", "url": "https://zoo.example/penguin"},
        {"text": "Der Müller hört die Eule."},
        {"text": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย"},
        {"text": "भारत की राजधानी नई दिल्ली है।"},
    ]
    (docs / "more.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return docs


def found(folder: Path, query: str) -> list[str]:
    index = SearchIndex(folder)
    index.update()
    return [hit.url for hit in index.search(query, limit=5)]


def test_documents_are_found_by_their_words(folder: Path) -> None:
    assert found(folder, "What hunts at night?") == ["birds/owl.txt"]
    assert found(folder, "penguin") == ["https://zoo.example/penguin"]
    assert found(folder, "sleeping lions") == ["lion.md"]


def test_words_are_found_in_every_script(folder: Path) -> None:
    assert found(folder, "muller") == ["more.jsonl#2"]
    assert found(folder, "เมืองหลวง") == ["more.jsonl#3"]
    assert found(folder, "เมืองหลวงของไทย") == ["more.jsonl#3"]
    assert found(folder, "दिल्ली") == ["more.jsonl#4"]


def test_a_hit_has_a_title_and_a_snippet_on_one_line(folder: Path) -> None:
    index = SearchIndex(folder)
    index.update()
    (hit,) = index.search("mice", limit=5)
    assert hit.title == "The owl"
    assert hit.snippet == "The owl An owl hunts mice at night, silently."
    (thai,) = index.search("ประเทศไทย", limit=5)
    assert "เมืองหลวงของประเทศไทย" in thai.snippet


def test_a_web_page_is_titled_as_it_says(folder: Path) -> None:
    pytest.importorskip("trafilatura")
    page = "<title>Zebras &amp; stripes</title><p>A zebra has stripes against flies.</p>"
    (folder / "zebra.html").write_text(f"<html><body>{page}</body></html>")
    index = SearchIndex(folder)
    index.update()
    (hit,) = index.search("zebra stripes", limit=5)
    assert hit.title == "Zebras & stripes"
    assert hit.url == "zebra.html"


def test_the_document_with_all_words_comes_first(folder: Path) -> None:
    (folder / "a.txt").write_text("lion lion lion lion")
    (folder / "b.txt").write_text("a lion that met an owl")
    assert found(folder, "lion owl")[0] == "b.txt"
    assert len(found(folder, "lion owl")) == 4


def test_the_beginning_of_a_word_is_enough(folder: Path) -> None:
    assert found(folder, "peng") == ["https://zoo.example/penguin"]


def test_only_files_that_changed_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, read = SearchIndex(folder), list[str]()
    index.update()

    def remember(where: Path, name: str) -> search_files.Found:
        read.append(name)
        return search_files.read_file(where, name)

    monkeypatch.setattr("puna.tools.search_index.read_file", remember)
    index.update()
    assert read == []
    (folder / "lion.md").write_text("A lion roars.")
    (folder / "new.txt").write_text("A newt swims.")
    (folder / "birds" / "owl.txt").unlink()
    index.update()
    assert read == ["lion.md", "new.txt"]
    hits = index.search("roars newt mice sleeps", limit=9)
    assert {hit.url for hit in hits} == {"new.txt", "lion.md"}


def test_an_update_that_runs_out_of_time_goes_on_at_the_next(folder: Path) -> None:
    index = SearchIndex(folder)
    assert index.update(limit_s=-1.0).files == 0
    assert index.update().files == 3


def test_a_damaged_file_stops_nothing(folder: Path) -> None:
    (folder / "binary.txt").write_bytes(b"\0\1\2")
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / "half.jsonl").write_text('{"text": "A gecko climbs."}\n{"text": ')
    index = SearchIndex(folder)
    held = index.update()
    assert (held.files, held.unread) == (6, 3)
    assert [hit.url for hit in index.search("gecko", limit=5)] == ["half.jsonl#1"]


def test_nothing_outside_the_folder_is_shown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("the password is platypus")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "more.txt").write_text("another platypus")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "private")
    (folder / ".hidden.txt").write_text("a hidden platypus")
    assert found(folder, "platypus") == []


def test_a_damaged_index_is_built_anew(folder: Path, home: Path) -> None:
    found(folder, "owl")
    (path,) = (home / "search").glob("*.sqlite3")
    path.write_bytes(b"not a database " * 100)
    assert found(folder, "mice") == ["birds/owl.txt"]


def test_an_index_of_another_version_is_built_anew(folder: Path, home: Path) -> None:
    found(folder, "owl")
    (path,) = (home / "search").glob("*.sqlite3")
    with sqlite3.connect(path) as index:
        index.execute("PRAGMA user_version = 999")
    index.close()
    assert found(folder, "mice") == ["birds/owl.txt"]


def test_the_index_can_be_read_by_its_owner_only(folder: Path, home: Path) -> None:
    found(folder, "owl")
    (path,) = (home / "search").glob("*.sqlite3")
    assert path.stat().st_mode & 0o077 == 0


def test_threads_may_search_while_the_folder_changes(folder: Path) -> None:
    index, failed = SearchIndex(folder), list[BaseException]()

    def work(number: int) -> None:
        try:
            (folder / f"{number}.txt").write_text(f"gnu number {number}")
            index.update()
            assert index.search("gnu", limit=20)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(index.search("gnu", limit=20)) == 4


HOSTILE = [
    '"',
    "''\"\"",
    "owl AND",
    "NEAR(owl mice, 2)",
    "title:owl",
    "owl*",
    "^owl",
    "-owl",
    "{title body}: owl",
    "owl\0mice",
    "\ud800 owl",
    "') DROP TABLE files; --",
    "owl " * 250_000,
    "o" * 1_000_000,
    '"' * 1_000_000,
    "ก" * 100_000,
    "𝔬𝔴𝔩 🦉",
]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_query_is_a_query(folder: Path, query: str) -> None:
    said = web_search(folder)(query=query)
    assert said.startswith("error: brave_search: ") or "top_k" in json.loads(said)
    assert len(said) < 10_000
    json.dumps(said).encode()


@given(st.text(max_size=60))
@settings(max_examples=200)
def test_stored_text_reads_as_it_was_but_for_spaces(text: str) -> None:
    valid = text.encode(errors="replace").decode().replace("\0", " ").replace("\u200b", "")
    assert for_reader(for_index(text)) == " ".join(valid.split())


def test_the_tool_answers_in_the_shape_that_llama_knows(folder: Path) -> None:
    tool = web_search(folder)
    assert (tool.name, tool.is_builtin, tool.needs_consent) == ("brave_search", True, False)
    table = json.loads(tool(query="owl"))
    assert table["query"] == "owl"
    assert table["top_k"][0].keys() == {"title", "url", "snippet"}


def test_the_tool_sees_documents_that_come_later(folder: Path) -> None:
    tool = web_search(folder)
    assert json.loads(tool(query="yak"))["top_k"] == []
    (folder / "yak.txt").write_text("A yak gives milk.")
    assert json.loads(tool(query="yak"))["top_k"][0]["url"] == "yak.txt"


@pytest.mark.parametrize("arguments", [{}, {"query": 3}, {"query": " "}, {"query": "a", "k": 1}])
def test_wrong_arguments_are_told_to_the_model(folder: Path, arguments: dict[str, object]) -> None:
    assert web_search(folder)(**arguments).startswith("error: brave_search: ")


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        web_search(tmp_path / "nowhere")


def test_without_a_folder_or_a_key_nothing_is_searched() -> None:
    with pytest.raises(RequestError, match="BRAVE_API_KEY"):
        web_search(environment={})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_an_error_for_the_model(folder: Path, home: Path) -> None:
    tool = web_search(folder)
    home.joinpath("search").chmod(0o500)
    assert tool(query="owl").startswith("error: ")
