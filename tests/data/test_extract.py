"""Text of pages: the article without its furniture, code and mathematics as written."""

import gzip
import json
import re
from collections import Counter

from puna.data.extract import article_text, decode_html, markdown_text, page_text
from tests.testdata import testdata

PAGE = """<html><head><title>Sorting</title></head><body>
<nav><a href="/">home</a> <a href="/blog">blog</a></nav>
<article><h1>How to sort</h1>
<p>Sorting a list is a <b>common</b> task in every program, and Python has <code>sorted</code> for
it, which returns a new list that is stable.</p>
<p>The following function sorts pairs by the second item and prints each of them on a line.</p>
<pre><code>def by_second(pairs):
    for key, value in sorted(pairs):
        print(key,   value)

    return None</code></pre>
<ul><li>It is stable, which means that equal items keep their order.</li>
<li>It takes any iterable and never changes what it was given.</li></ul>
<table><tr><th>name</th><th>time</th></tr><tr><td>sorted</td><td>n log n</td></tr></table>
<p>The cost is \\(n \\log n\\) comparisons for every list, sorted or not, that is given to it.</p>
</article>
<footer>Copyright 2020 All rights reserved. <a href="x">privacy</a></footer></body></html>"""


def test_an_article_loses_its_furniture_and_keeps_its_structure() -> None:
    text = article_text(PAGE)
    assert "home" not in text and "Copyright" not in text
    assert "    for key, value in sorted(pairs):\n        print(key,   value)\n\n" in text
    assert "\nIt is stable, which" in text  # a list item without its bullet
    assert "sorted\tn log n" in text
    assert "\\(n \\log n\\)" in text
    assert not re.search(r"^[-*#|] ", text, re.MULTILINE)


def test_a_whole_page_keeps_everything_and_unbreakable_spaces_become_plain() -> None:
    text = page_text("<p>a&nbsp;b</p><table><tr><td>c</td><td>d</td></tr></table>")
    assert text == "a b\nc\td\n" or text == "a b\n\nc\td\n"


def test_a_page_without_an_article_is_taken_whole() -> None:
    assert article_text("<p>tiny</p>") == "tiny\n"
    assert article_text("<html></html>") == ""


def test_markdown_loses_its_markers_and_keeps_its_code() -> None:
    text = markdown_text(
        "---\na: b\n---\n# Title\n\n*One* `two`.\n\n```py\nx = [\n    1,\n]\n```\n"
    )
    assert text.startswith("Title\n\nOne two.\n")
    assert "x = [\n    1,\n]" in text
    assert "```" not in text and "a: b" not in text


def test_a_page_is_decoded_as_it_declares() -> None:
    page = '<meta charset="iso-8859-1"><p>caf\xe9 au lait, d\xe9j\xe0 vu, \xeatre</p>'
    assert "caf\xe9" in decode_html(page.encode("latin-1"))
    assert "नमस्ते" in decode_html("<p>नमस्ते</p>".encode())


def test_twenty_gold_articles_are_found_with_high_precision_and_recall() -> None:
    folder = testdata("web/articles")
    gold = json.loads((folder / "ground-truth.json").read_text(encoding="utf-8"))
    precision = recall = 0.0
    names = sorted(gold)[:20]
    for name in names:
        page = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes())
        found = words(article_text(decode_html(page)))
        expected = words(gold[name]["articleBody"])
        common = sum((found & expected).values())
        precision += common / max(1, sum(found.values())) / len(names)
        recall += common / sum(expected.values()) / len(names)
    # The specification asks for 0.9 and 0.9; all ninety articles give 0.955 and 0.982.
    assert precision >= 0.93 and recall >= 0.95


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))
