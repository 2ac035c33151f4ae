"""Where in a template's text the assistant speaks: the spans that training learns.

A template does not say which part is the assistant's. Two ways find it: the header that the
template writes before an answer (what `add_generation_prompt` adds) stands before every answer; and
a dialog rendered up to a turn is the beginning of the dialog rendered beyond it.
"""

import re
from collections.abc import Callable, Collection, Sequence

from puna.errors import RequestError

Span = tuple[int, int]
Prefix = Callable[[int, bool], str]  # number of messages, whether an answer follows -> text


def trained_spans(
    text: str,
    turns: Sequence[int],
    prefix: Prefix,
    *,
    length: int,
    controls: re.Pattern[str],
    stops: Collection[str],
    reply: bool,
) -> list[Span]:
    """Return start and end of every assistant body in `text`, its terminator included.

    Args:
        text: the rendered dialog.
        turns: the places of the assistant's messages in the dialog.
        prefix: renders the beginning of the dialog.
        length: number of messages in the dialog.
        controls: matches a control token.
        stops: the control tokens that end an answer.
        reply: whether `text` ends with the header of an answer to come.
    Raises:
        RequestError: neither way finds them, and `reply` is False: such a text is for training. A
            text to be answered needs no spans, and has none then.
    """
    if not turns:
        return []
    headed, bare = prefix(length, True), prefix(length, False)
    spans = _after_headers(text, len(turns), headed, bare, controls, stops)
    spans = spans or _between_prefixes(text, turns, prefix)
    if spans is None and not reply:
        raise RequestError(
            "chat template: the assistant's part of the rendered dialog cannot be told from the "
            "rest, so no loss mask can be made. Use the dialect 'meta' or 'hf' for training."
        )
    return spans or []


def _after_headers(
    text: str,
    count: int,
    with_header: str,
    without: str,
    controls: re.Pattern[str],
    stops: Collection[str],
) -> list[Span] | None:
    """Find the answers by the header before them, where it holds a control token."""
    header = with_header.removeprefix(without)
    if not with_header.startswith(without) or not controls.search(header):
        return None  # a header of mere text could also stand in a message
    spans: list[Span] = []
    at = text.find(header)
    while at >= 0 and at + len(header) < len(text):
        start = at + len(header)
        end = next((m.end() for m in controls.finditer(text, start) if m.group() in stops), None)
        if end is None:
            return None
        spans.append((start, end))
        at = text.find(header, end)
    return spans if len(spans) == count else None


def _between_prefixes(text: str, turns: Sequence[int], prefix: Prefix) -> list[Span] | None:
    """Find the answers by rendering the dialog up to each of them."""
    spans: list[Span] = []
    for turn in turns:
        try:
            before, after = prefix(turn, True), prefix(turn + 1, False)
        except RequestError:
            return None  # the template refuses the beginning of a dialog
        if not (after.startswith(before) and text.startswith(after)):
            return None
        spans.append((len(before), len(after)))
    return spans
