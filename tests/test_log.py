"""What a person sees: notes and progress on stderr, nothing anywhere unless it is asked for."""

import io
import logging
import sys

import pytest

from puna import log
from puna.log import note, progress, show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_library_is_silent_unless_the_display_is_on(capsys) -> None:
    note("a note")
    with progress(total=2, title="work") as bar:
        bar.advance(2, "half")
    with show(False):
        note("quiet")
    assert capsys.readouterr() == ("", "")


def test_notes_go_to_stderr_and_to_the_log(capsys, caplog) -> None:
    with show(), caplog.at_level(logging.INFO, logger="puna"):
        note("100% done")
    assert capsys.readouterr() == ("", "100% done\n")
    assert caplog.messages == ["100% done"]


def test_without_a_terminal_progress_is_a_line_at_times_and_one_at_the_end(
    capsys, monkeypatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 11.0, 12.0, 13.0])
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    with show(), progress(total=1200, title="train") as bar:
        bar.advance(400, "loss 5")
        bar.advance(400, "loss 4")
        bar.advance(400)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 800/1,200  loss 4  (11 s)",
        "train: 1,200/1,200  loss 4  (13 s)",
    ]


@pytest.mark.parametrize("total", [None, 10])
def test_work_that_ends_early_still_says_how_far_it_came(total, capsys) -> None:
    with pytest.raises(KeyError), show(), progress(total=total, title="read") as bar:
        bar.advance(3)
        raise KeyError
    assert capsys.readouterr().err.startswith("read: 3")


def test_a_note_with_brackets_is_shown_as_it_is(monkeypatch) -> None:
    """rich would take `[/x]` for markup and fail."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with show(), progress(total=3, title="a[/b]") as bar:
        bar.advance(1, "page[/x]")
    assert "page[/x]" in terminal.getvalue()
    assert "a[/b]" in terminal.getvalue()


def test_bars_may_stand_inside_one_another(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with show(), progress(total=2, title="outer") as outer:
        with progress(total=5, title="inner") as inner:
            inner.advance(5)
        outer.advance(1)
        with progress(total=5, title="again") as again:
            again.advance(5)
    shown = terminal.getvalue()
    assert "outer" in shown
    assert "inner" in shown
    with show(), progress(total=1, title="later") as bar:
        bar.advance()
    assert "later" in terminal.getvalue()
