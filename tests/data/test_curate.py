"""Curation as a whole: the same bytes for any workers, a clean split, every loss named."""

import dataclasses
import json
from pathlib import Path

import pytest

from puna.data.account import CurateReport
from puna.data.curate import CurateConfig, curate
from puna.data.document import Document, read_split
from puna.data.filters import FilterLimits
from puna.data.lines import LineLimit, line_hashes
from puna.data.mixture import MixConfig
from puna.data.split import HeldOutConfig
from puna.errors import ConfigError, RequestError

SEEDS = CurateConfig(
    packages=("json", "textwrap", "csv", "heapq", "dis", "shlex", "string", "copy"),
    budget_bytes=120_000,
    shard_bytes=40_000,
    held_out=HeldOutConfig(share=0.3, max_bytes=40_000, generated_documents=3),
    lines=LineLimit(most=3),
    workers=1,
)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[CurateReport, Path]:
    folder = tmp_path_factory.mktemp("curate") / "documents"
    return curate(SEEDS, folder), folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_workers_write_the_bytes_that_one_writes(
    seeds: tuple[CurateReport, Path], tmp_path: Path
) -> None:
    curate(dataclasses.replace(SEEDS, workers=2), tmp_path / "again")
    assert files(tmp_path / "again") == files(seeds[1])


def test_the_folder_holds_shards_the_held_out_file_and_the_report(
    seeds: tuple[CurateReport, Path],
) -> None:
    names = list(files(seeds[1]))
    assert names[0] == "heldout.jsonl.zst" and names[1] == "report.json"
    assert names[2:] == [f"train-{i:05d}.jsonl.zst" for i in range(len(names) - 2)]
    assert len(names) > 3
    report = json.loads((seeds[1] / "report.json").read_text())
    train = list(read_split(seeds[1], "train"))
    assert sum(report["train"].values()) == len(train)
    assert sum(report["train_bytes"].values()) == sum(document.bytes for document in train)
    assert report["config"]["seed"] == 0 and "workers" not in report["config"]


def test_the_mix_has_all_sources_in_their_shares(seeds: tuple[CurateReport, Path]) -> None:
    mix = MixConfig()
    tokens = {
        source: size / mix.bytes_per_token[source] for source, size in seeds[0].train_bytes.items()
    }
    assert set(tokens) == {"general", "code", "maths", "multilingual"}
    # Whole documents are taken, so a small mix is only about right.
    assert tokens["general"] / sum(tokens.values()) == pytest.approx(0.5, abs=0.12)


def test_every_found_document_is_accounted_for(seeds: tuple[CurateReport, Path]) -> None:
    report = seeds[0]
    for source in ("general", "code"):
        removed = sum(report.removed[source].values())
        assert report.train[source] + report.heldout[source] + removed <= report.found[source]
    assert report.found["general"] >= len(SEEDS.packages)
    assert all(len(samples) <= 3 for samples in report.samples.values())


def test_a_group_is_whole_on_one_side(seeds: tuple[CurateReport, Path]) -> None:
    train = {document.group for document in read_split(seeds[1], "train")}
    heldout = {document.group for document in read_split(seeds[1], "heldout")}
    assert train and heldout and train.isdisjoint(heldout)
    assert {"maths", "multilingual"} <= {d.source for d in read_split(seeds[1], "heldout")}


def test_no_held_out_line_of_substance_stands_in_training(
    seeds: tuple[CurateReport, Path],
) -> None:
    known: set[int] = set()
    for document in read_split(seeds[1], "train"):
        known.update(line_hashes(document.text, min_chars=16).tolist())
    for document in read_split(seeds[1], "heldout"):
        if document.source == "general":
            lines = set(line_hashes(document.text, min_chars=16).tolist()) - {0}
            assert lines and known.isdisjoint(lines)


def test_held_out_pages_share_hardly_any_long_phrase_with_training(
    seeds: tuple[CurateReport, Path],
) -> None:
    def grams(document: Document) -> set[tuple[str, ...]]:
        words = document.text.split()
        return set(zip(*(words[i:] for i in range(13)), strict=False))

    # 13 words: the overlap that Brown et al. 2020 (arXiv:2005.14165) call contamination.
    known = set().union(*map(grams, read_split(seeds[1], "train")))
    pages = [d for d in read_split(seeds[1], "heldout") if d.source == "general"]
    held = set().union(*map(grams, pages))
    assert len(held & known) <= 0.01 * len(held)


STORY = """In the year {n} the ship {name} left the harbour with a cargo of {cargo} and bad maps.
Its captain trusted the {cargo} merchants more than the stars, and that was the first mistake.
When the {name} was found again, the crew of {n} had planted a garden on the deck, they said.
Nobody has explained how {cargo} could grow there, but the {name} never went to sea again.
"""
NAMES = ["Aurora", "Borealis", "Ceres", "Doris", "Electra", "Fortuna", "Galatea", "Halcyon"]
CARGO = ["tea", "salt", "cotton", "amber", "copper", "pepper", "silk", "timber"]


def write_pages(folder: Path) -> Path:
    """Eight different stories with one shared line, an older capture, a copy, and a fragment."""
    folder.mkdir()
    lines = []
    for i, (name, cargo) in enumerate(zip(NAMES, CARGO, strict=True)):
        own = " ".join(f"{cargo}{name}{k}" for k in range(60))
        text = STORY.format(n=1800 + i, name=name, cargo=cargo) + f"The log says {own}.\n"
        lines.append(
            {"text": "Read more stories here\n" + text, "url": f"http://x/{i}", "date": "2"}
        )
    lines.append({"text": "An old capture. " * 30, "url": "http://x/1/", "date": "1"})
    lines.append({"text": lines[3]["text"] + "\nA last word.", "url": "http://y/"})
    lines.append({"text": "too small"})
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "pages.jsonl").write_text(text)
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\0")
    return folder


PAGES = CurateConfig(
    budget_bytes=20_000,
    lines=LineLimit(most=6),
    held_out=HeldOutConfig(share=0.2, generated_documents=2),
    filters=FilterLimits(),
    workers=1,
)


def test_the_user_s_pages_take_the_place_of_the_seeds(tmp_path: Path) -> None:
    report = curate(PAGES, tmp_path / "out", [write_pages(tmp_path / "in")])
    assert report.found == {"general": 11}
    assert report.removed["general"] == {"older_capture": 1, "near_duplicate": 1, "too_short": 1}
    assert report.unreadable == {"in/photo.jpg": "unknown kind of file '.jpg'"}
    assert report.lines_dropped["general"] == 8
    documents = [*read_split(tmp_path / "out", "train"), *read_split(tmp_path / "out", "heldout")]
    stories = [document for document in documents if document.source == "general"]
    assert len(stories) == 8
    assert not any("Read more" in document.text for document in stories)
    assert all(document.language == "en" for document in stories)
    assert {document.source for document in documents} == {"general", "maths"}


def test_the_survivors_do_not_depend_on_the_order_of_the_lines(tmp_path: Path) -> None:
    folder = write_pages(tmp_path / "in")
    report = curate(PAGES, tmp_path / "one", [folder])
    lines = (folder / "pages.jsonl").read_text().splitlines()
    (folder / "pages.jsonl").write_text("\n".join(lines[::-1]))
    other = curate(PAGES, tmp_path / "two", [folder])
    assert report.removed == other.removed
    one, two = (
        {d.text for split in ("train", "heldout") for d in read_split(tmp_path / name, split)}
        for name in ("one", "two")
    )
    stories = [{text for text in texts if "harbour" in text} for texts in (one, two)]
    assert stories[0] == stories[1] and len(stories[0]) == 8


def test_curating_what_was_curated_removes_nothing(tmp_path: Path) -> None:
    curate(PAGES, tmp_path / "one", [write_pages(tmp_path / "in")])
    (tmp_path / "again").mkdir()
    with (tmp_path / "again" / "a.jsonl").open("w") as file:
        for split in ("train", "heldout"):
            for document in read_split(tmp_path / "one", split):
                if document.source == "general":
                    file.write(json.dumps({"text": document.text}) + "\n")
    report = curate(PAGES, tmp_path / "two", [tmp_path / "again"])
    assert report.found == {"general": 8}
    assert not sum(sum(reasons.values()) for reasons in report.removed.values())
    assert report.lines_dropped["general"] == 0


def test_pages_of_which_nothing_is_left_are_an_error_with_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("nothing much")
    with pytest.raises(RequestError, match=r"1 documents were found and none is left.*too_short 1"):
        curate(PAGES, tmp_path / "out", [tmp_path / "in"])
    assert not (tmp_path / "out").exists()


def test_a_single_document_is_for_training(tmp_path: Path) -> None:
    folder = write_pages(tmp_path / "in")
    lines = (folder / "pages.jsonl").read_text().splitlines()
    (folder / "pages.jsonl").write_text(lines[0])
    config = dataclasses.replace(PAGES, held_out=HeldOutConfig(share=0.99, generated_documents=1))
    report = curate(config, tmp_path / "out", [folder])
    assert report.train["general"] == 1 and report.heldout["general"] == 0


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="budget_bytes=0"):
        CurateConfig(budget_bytes=0)
    with pytest.raises(ConfigError, match="with_pages holds 'general'"):
        CurateConfig(with_pages=("general",))
    with pytest.raises(ConfigError, match="share=1"):
        HeldOutConfig(share=1.0)
