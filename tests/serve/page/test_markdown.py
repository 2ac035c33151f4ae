from typing import Any

import pytest

from tests.serve.page.acting import render, skeleton

TEXTS = [
    ("Hello *world*, **this** is `code`.", "p(Hello em(world), strong(this) is code(code).)"),
    ("***both***", "p(em(strong(both)))"),
    ("snake_case_name and 2*3*4", "p(snake_case_name and 2em(3)4)"),
    ("~~gone~~ ~kept~", "p(del(gone) ~kept~)"),
    ("two\nlines", "p(twobr()lines)"),
    (r"\*plain\* and *open", "p(*plain* and *open)"),
    ("`` a`b ``", "p(code(a`b))"),
    ("## Two\n\nSetext\n===", "h3(Two) h2(Setext)"),
    ("> a\n> b\n\nc", "blockquote(p(abr()b)) p(c)"),
    ("- a\n- b\n  - c", "ul(li(a)li(bul(li(c))))"),
    ("1. a\n2. b\n3. c", "ol(li(a)li(b)li(c))"),
    ("1. a\n   - b\n2. c", "ol(li(aul(li(b)))li(c))"),
    ("- a\n\n- b", "ul(li(p(a))li(p(b)))"),
    ("- a\n\n  more", "ul(li(p(a)p(more)))"),
    ("a\n- b", "p(a) ul(li(b))"),
    ("In 1998. It was", "p(In 1998. It was)"),
    ("***\na", "hr() p(a)"),
    ("<https://a.b/c>", "p(a(https://a.b/c))"),
    ("see https://a.b/c_(d). Then", "p(see a(https://a.b/c_(d)). Then)"),
    ("[a *b*](https://c.d/(e) 'title')", "p(a(a em(b)))"),
    ("[no link] [x](", "p([no link] [x]()"),
    ("a<br>b <b>c</b>", "p(abr()b <b>c</b>)"),
    ("![a cat](https://cat.s/1.png)", "p(a(a cat))"),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_markdown_becomes_these_elements(sheet: Any, text: str, expected: str) -> None:
    assert skeleton(sheet, text) == expected


def test_a_table_keeps_its_columns_and_their_sides(sheet: Any) -> None:
    probe = render(sheet, "| a | b |\n|:--|--:|\n| `x|y` | 2 |\n| 3 \\| 4 |\n\nafter")
    rows = probe.locator("tr").all_inner_texts()
    assert rows == ["a\tb", "x|y\t2", "3 | 4\t"]
    assert probe.locator("td").nth(1).get_attribute("class") == "right"
    assert probe.locator("p").inner_text() == "after"


def test_a_task_list_says_what_is_done(sheet: Any) -> None:
    probe = render(sheet, "- [x] one\n- [ ] two")
    names = [box.get_attribute("aria-label") for box in probe.locator(".box").all()]
    assert names == ["done", "open"]


def test_a_list_may_begin_at_any_number(sheet: Any) -> None:
    assert render(sheet, "4. four\n5. five").locator("ol").get_attribute("start") == "4"


def test_a_fence_keeps_its_text_and_colours_it(sheet: Any) -> None:
    source = 'def f(x):\n    return "<b>" * x  # twice'
    probe = render(
        sheet, f"- item\n\n  ```python\n  {source.replace(chr(10), chr(10) + '  ')}\n  ```"
    )
    assert probe.locator("pre").inner_text() == source
    kinds = {"word": "def", "function": "f", "string": '"<b>"', "comment": "# twice"}
    for kind, text in kinds.items():
        assert probe.locator(f".hl-{kind}").first.inner_text() == text


def test_a_fence_that_is_not_closed_yet_is_code_already(sheet: Any) -> None:
    assert render(sheet, "```js\nlet a = 1;").locator("pre").inner_text() == "let a = 1;"


LANGUAGES = [
    ("bash", 'echo "$HOME" # home', "hl-comment"),
    ("json", '{"a": [1, true]}', "hl-property"),
    ("sql", "SELECT a FROM t -- all", "hl-word"),
    ("rust", "fn main() { let x = 'a'; }", "hl-function"),
    ("html", '<a href="x">y</a>', "hl-string"),
    ("diff", "+new\n-old", "hl-added"),
    ("toml", "[a]\nb = 'c'", "hl-property"),
    ("unheard", "x = 1", ""),
]


@pytest.mark.parametrize(("language", "source", "kind"), LANGUAGES)
def test_highlighting_never_changes_code(sheet: Any, language: str, source: str, kind: str) -> None:
    probe = render(sheet, f"```{language}\n{source}\n```")
    assert probe.locator("pre").inner_text() == source
    assert not kind or probe.locator(f".{kind}").count()


def test_copying_gives_the_source(sheet: Any) -> None:
    render(sheet, "```c\nint a;\n```").locator(".copy").click()
    sheet.wait_for_selector("text=Copied")
    assert sheet.evaluate("navigator.clipboard.readText()") == "int a;"


def test_growing_text_ends_as_the_whole_text_and_keeps_what_stood(sheet: Any) -> None:
    """Every prefix of an answer is shown on the way; finished blocks keep their nodes."""
    text = (
        "# Head\n\nSome **bold** text.\n\n- a\n- b\n  1. c\n\n"
        "```python\nx = [1, 2]\nprint(x)\n```\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n$$x^2$$\n\n> quote\n\nend `code"
    )
    same, kept = sheet.evaluate(
        """async (text) => {
          const { liveMarkdown } = await import("./markdown/live.js");
          const { renderMarkdown } = await import("./markdown/render.js");
          const [grown, whole] = [document.createElement("div"), document.createElement("div")];
          const show = liveMarkdown(grown);
          let first = null;
          for (let end = 1; end <= text.length; end += 1) {
            show(text.slice(0, end));
            if (end === 20) first = grown.firstChild;
          }
          whole.append(...renderMarkdown(text));
          return [grown.isEqualNode(whole), grown.firstChild === first];
        }""",
        text,
    )
    assert same and kept
