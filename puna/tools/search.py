"""Search, as Llama 3.1 calls it: `brave_search.call(query="...")`.

Two back-ends give the same JSON. With a folder, a full-text index over its documents answers, and
nothing leaves the machine. Without one, Brave's web search does, if its key is in the environment.
"""

import html
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from puna.errors import RequestError, StateError
from puna.log import note
from puna.tools.http_get import Answer, get
from puna.tools.query import PARAMETERS, answering
from puna.tools.search_index import Hit, SearchIndex
from puna.tools.search_words import MAX_WORDS, words_of
from puna.tools.tool import Tool

NAME = "brave_search"
RESULTS = 5
REFRESH_S = 5.0  # of one call, for documents that changed since the last one
TIMEOUT_S = 15.0

# Source: Brave's Web Search API reference, query parameters q and count, header of the key.
BRAVE = "https://api.search.brave.com/res/v1/web/search"
MAX_QUERY = 400  # characters
MAX_QUERY_WORDS = 50
_AFTER_LIMIT_S = 1.1  # the free plan allows one request a second

_TAG = re.compile(r"<[^<>]{0,200}>")
_TITLE_LETTERS = 200
_SNIPPET_LETTERS = 600


def web_search(
    folder: Path | str | None = None,
    *,
    address: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Tool:
    """Return the search tool: over a folder, or over the web where `BRAVE_API_KEY` is set.

    Args:
        folder: documents to search; read here, before the first question.
        address: where Brave's API is, instead of `PUNA_BRAVE_URL` or Brave's own address.
    Raises:
        RequestError: neither a folder nor a key is given.
        NotFoundError: the folder does not exist.
    """
    key = environment.get("BRAVE_API_KEY", "").strip()
    if folder is not None:
        index = SearchIndex(Path(folder))
        held = index.update()
        unread = f"; {held.unread} files could not be read" if held.unread else ""
        note(f"search {index.folder.name}: {held.pages} documents of {held.files} files{unread}")
        call = answering(NAME, lambda query: search_folder(index, query))
        what = "Searches a collection of documents."
    elif key:
        brave = address or environment.get("PUNA_BRAVE_URL") or BRAVE
        call = answering(NAME, lambda query: search_brave(query, key=key, address=brave))
        what = "Searches the web."
    else:
        raise RequestError(
            "search: neither a folder nor the variable BRAVE_API_KEY is given; give the folder of "
            "your documents (search:FOLDER), or set the key of Brave's API to search the web."
        )
    return Tool(
        name=NAME,
        description=what,
        call=call,
        is_builtin=True,
        parameters=PARAMETERS,
        timeout=2 * TIMEOUT_S + 5.0,  # it may ask twice
    )


def search_folder(index: SearchIndex, query: str) -> str:
    """Answer from a folder's documents, which are looked at again first."""
    index.update(limit_s=REFRESH_S)
    words = words_of(query)
    if not words:
        raise RequestError("the query holds no words or numbers.")
    remark = f"only the first {MAX_WORDS} words were used" if len(words) == MAX_WORDS else ""
    return _results(query, index.search(query, limit=RESULTS), remark)


def search_brave(query: str, *, key: str, address: str = BRAVE) -> str:
    """Answer from Brave's web search.

    Raises:
        RequestError: the query is longer than Brave reads.
        StateError: Brave cannot be reached, refuses, or answers with something else.
    """
    query = " ".join(query.split())
    if len(query) > MAX_QUERY or query.count(" ") >= MAX_QUERY_WORDS:
        raise RequestError(
            f"the query has {len(query):,} characters; at most {MAX_QUERY} and "
            f"{MAX_QUERY_WORDS} words are read. Ask in fewer words."
        )
    parameters = {
        "q": query,
        "count": str(RESULTS),
        "result_filter": "web",
        "text_decorations": "false",
    }
    headers = {"Accept": "application/json", "X-Subscription-Token": key}
    answer = get(address, parameters, headers=headers, timeout_s=TIMEOUT_S)
    if answer.status == 429:
        time.sleep(_AFTER_LIMIT_S)
        answer = get(address, parameters, headers=headers, timeout_s=TIMEOUT_S)
    return _results(query, _web_hits(answer))


def _web_hits(answer: Answer) -> list[Hit]:
    """Read Brave's answer. Source: Brave's Web Search API reference, WebSearchApiResponse."""
    if answer.status in (401, 403, 422):  # 422 is also Brave's answer to an unknown key
        raise StateError(f"the service refused the request or its key (HTTP {answer.status}).")
    if answer.status == 429:
        raise StateError("too many requests; try again later, or answer without searching.")
    if answer.status != 200:
        raise StateError(f"the service failed (HTTP {answer.status}); try again later.")
    try:
        results = (json.loads(answer.text).get("web") or {}).get("results") or []
        return [_web_hit(result) for result in results[:RESULTS]]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise StateError("the service answered with something that is no result.") from error


def _web_hit(result: Mapping[str, Any]) -> Hit:
    return Hit(
        title=_plain(result.get("title"))[:_TITLE_LETTERS],
        url=str(result["url"]),
        snippet=_plain(result.get("description"))[:_SNIPPET_LETTERS],
    )


def _plain(text: Any) -> str:
    """Return text without the tags and entities that Brave marks words with."""
    return " ".join(html.unescape(_TAG.sub("", str(text or ""))).split())


def _results(query: str, hits: Sequence[Hit], remark: str = "") -> str:
    """Write results as Llama 3.1 was shown them; a long query is not repeated in full."""
    table: dict[str, Any] = {
        "query": query if len(query) <= MAX_QUERY else query[:MAX_QUERY] + " ...",
        "top_k": [{"title": hit.title, "url": hit.url, "snippet": hit.snippet} for hit in hits],
    }
    if not hits:
        table["note"] = "nothing was found; other words may find more"
    elif remark:
        table["note"] = remark
    return json.dumps(table, ensure_ascii=False)
