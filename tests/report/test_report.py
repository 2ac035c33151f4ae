"""The report card: one page from whatever a run folder holds, and nothing made up."""

import itertools
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from puna.errors import FormatError, NotFoundError
from puna.report.page import write_report
from puna.report.quantities import count, duration, size
from tests.report.synthetic import write_metrics, write_run

VOID = {"meta", "br", "img", "link", "input"}


class Checker(HTMLParser):
    """Collects what a browser would see: ids, headings, references, unbalanced elements."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.references: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for key, value in attrs:
            if key == "id":
                self.ids.append(str(value))
            if key in ("src", "href", "xlink:href", "srcset", "data"):
                self.references.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> closes another element"


def check(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_run(tmp_path_factory.mktemp("run"))
    path = write_report(folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(whole: str) -> None:
    checker = check(whole)
    assert all(reference.startswith("#") for reference in checker.references)
    assert "script" not in checker.tags
    assert "@import" not in whole
    assert "url(http" not in whole
    assert len(checker.ids) == len(set(checker.ids))


def test_headings_go_down_one_level_at_a_time(whole: str) -> None:
    levels = check(whole).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_every_plot_says_what_it_shows(whole: str) -> None:
    plots = re.findall(r'<svg role="img" aria-label="([^"]+)"', whole)
    assert len(plots) == 4
    assert plots[0].startswith("Loss: pretrain ends at")


def test_plots_follow_the_colours_of_the_page(whole: str) -> None:
    assert "#01010" not in whole
    assert "var(--c1)" in whole
    assert "prefers-color-scheme: dark" in whole
    assert "@media print" in whole


def test_the_card_shows_what_was_measured(whole: str) -> None:
    text = unescape(re.sub(r"<[^>]+>", "", whole)).replace("\N{NO-BREAK SPACE}", " ")
    shown = ("1.48", "2.02", "96 %", "9 min 47 s", "Test CPU <7>", "4.1 Wh", "1.77 GiB", "12 K")
    assert [part for part in shown if part not in text] == []


def test_the_share_of_the_peak_follows_from_measurements(whole: str) -> None:
    """2,000 tokens/s x 3.6e7 operations / 1.9e11 a second = 38 % for the first phase."""
    assert "38&nbsp;%" in whole


def test_a_tool_call_is_visible(whole: str) -> None:
    assert "calculator.call(query=&quot;1234 * 5678&quot;)" in whole
    assert "<code>7006652</code>" in whole


def test_messages_of_openai_make_the_same_bubbles(tmp_path: Path) -> None:
    function = {"name": "calculator", "arguments": json.dumps({"query": "1 + 2"})}
    messages = [
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "The answer is 3."},
    ]
    write_metrics(tmp_path)
    (tmp_path / "samples.json").write_text(json.dumps([{"messages": messages}]))
    page = write_report(tmp_path).read_text()
    kinds = re.findall(r'<li class="(\w+)"', page)
    assert kinds == ["user", "call", "tool", "assistant"]
    assert "calculator.call(query=&quot;1 + 2&quot;)" in page


def test_text_of_the_model_cannot_become_markup(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    evil = {"question": "<script>x</script>", "answer": '"><img src=//a>'}
    (tmp_path / "samples.json").write_text(json.dumps([evil]))
    checker = check(write_report(tmp_path).read_text())
    assert "script" not in checker.tags
    assert "img" not in checker.tags


def test_a_run_of_one_stage_shows_that_stage_and_names_the_rest(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    page = write_report(tmp_path).read_text()
    check(page)
    assert '<h2 id="training">' in page
    assert "Not in this run: conversation, evaluation, needle test" in page
    assert "not measured" in page
    assert "0&nbsp;%" not in page


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="run folder"):
        write_report(tmp_path)
    with pytest.raises(NotFoundError, match="no such folder"):
        write_report(tmp_path / "absent")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_metrics(tmp_path)
    (tmp_path / "samples.json").write_text("[{")
    with pytest.raises(FormatError, match=r"samples\.json: not JSON"):
        write_report(tmp_path)


def test_quantities_are_written_for_people() -> None:
    plain = [
        text.replace("&nbsp;", " ")
        for text in (count(5_310_000), count(812), duration(463.2), duration(7.25), size(1.5e9))
    ]
    assert plain == ["5.31 M", "812", "7 min 43 s", "7.2 s", "1.4 GiB"]
