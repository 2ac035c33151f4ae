"""What a model says is untrusted: no script of it runs, nothing is asked of another server."""

from typing import Any

import pytest

from tests.serve.page.acting import ask, render, settle
from tests.serve.page.standin import StandIn, called, chunk, measured, ran, spoken

MARKUP = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked=1'>",
    "<svg onload=window.hacked=1><iframe srcdoc='<script>parent.hacked=1</script>'></iframe></svg>",
    "[x](javascript:window.hacked=1)",
    "[x](JaVaScRiPt&#58;window.hacked=1) [y](\tjavascript:window.hacked=1)",
    "[x](data:text/html,<script>window.hacked=1</script>) [y](vbscript:x) [z](blob:x) [f](file:///etc)",
    '<javascript:window.hacked=1> <https://a.b/"onmouseover="window.hacked=1>',
    '![x](x" onerror="window.hacked=1)',
    '[x](https://a.b/"onclick="window.hacked=1")',
    '```html" onmouseover="window.hacked=1\n<script>window.hacked=1</script>\n```',
    "| <img src=x onerror=window.hacked=1> |\n|---|\n| <script>window.hacked=1</script> |",
    r"$$\href{javascript:window.hacked=1}{x} \text{<img src=x onerror=window.hacked=1>}$$",
    r"$$\text{</annotation></semantics></math><script>window.hacked=1</script>}$$",
    r"\(\style{background:url(https://evil.test)}{x} \class{x}{y} \unicode{x41}\)",
    "<style>body{display:none}</style><link rel=stylesheet href=https://evil.test/x.css>",
    "<base href=https://evil.test/><form action=https://evil.test><meta http-equiv=refresh>",
    "__proto__ [constructor](constructor) ```__proto__\nx\n```",
]


@pytest.mark.parametrize("text", MARKUP)
def test_markup_of_a_model_stays_text(sheet: Any, text: str) -> None:
    probe = render(sheet, text)
    made = probe.evaluate(
        """(probe) => [...probe.querySelectorAll("*")].flatMap((node) => [
          node.localName, ...[...node.attributes].map(({ name }) => `@${name}`),
          ...(node.href ? [node.href] : []),
        ])"""
    )
    banned = {"script", "img", "iframe", "style", "link", "base", "form", "meta", "object", "embed"}
    assert not banned & set(made)
    assert not [
        name for name in made if name.startswith("@on") or name in ("@style", "@id", "@src")
    ]
    assert not [name for name in made if ":" in name and not name.startswith("https://")]
    assert sheet.evaluate("window.hacked") is None


def test_links_tell_the_other_side_nothing(sheet: Any) -> None:
    link = render(sheet, "[bank](https://evil.test/)").locator("a")
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert link.get_attribute("target") == "_blank"
    assert link.get_attribute("title") == "https://evil.test/"


def test_an_answer_asks_no_server_for_anything(page: Any, server: StandIn) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    text = (
        "\n\n".join(MARKUP) + "\n\n![pixel](https://evil.test/p.png) <img src='https://evil.test'>"
    )
    server.reply = lambda body: spoken(text, size=200)
    ask(page, "hello")
    assert [url for url in asked if not url.startswith(server.url)] == []
    assert page.evaluate("window.hacked") is None


def test_tools_and_tokens_are_as_untrusted_as_words(page: Any, server: StandIn) -> None:
    evil = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
    page.evaluate("localStorage['puna.settings'] = JSON.stringify({showsTokens: true})")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    steps = [ran(evil, {"code": evil}, evil), *measured([(evil, 0.5, [(evil + "2", 0.4)])])]
    server.reply = lambda body: steps
    ask(page, evil)
    page.hover(".token")
    server.reply = lambda body: called(evil, '{"' + "a" * 9 + '": "<script>"}')
    ask(page, "again")
    assert page.locator("#turns :is(img, script), #token-card img").count() == 0
    assert page.evaluate("window.hacked") is None


def test_code_that_turns_its_direction_is_shown_so(sheet: Any) -> None:
    probe = render(sheet, "```python\nif admin:\u202e # \u2066 begin\n```")
    assert probe.locator(".turned").all_inner_texts() == ["U+202E", "U+2066"]


HEAVY = {
    "quotes": ">" * 20_000 + " x",
    "lists": "\n".join(" " * depth + "- x" for depth in range(400)),
    "stars": "*a **b " * 4_000,
    "closers": "a* b** " * 4_000,
    "brackets": "[" * 20_000,
    "links": "[a](" * 8_000,
    "images": "![" * 10_000 + "](x" * 10_000,
    "ticks": "".join("`" * (run % 50 + 1) + "a" for run in range(2_000)),
    "dollars": "$a " * 15_000,
    "parens": "\\(" * 15_000,
    "braces": "$$" + "{" * 3_000 + "}" * 3_000 + "$$",
    "hats": "$$" + r"\hat" * 1_900 + "x$$",
    "scripts": "$$" + "x^{" * 2_000 + "}" * 2_000 + "$$",
    "tables": "|" * 5_000 + "\n" + "|-" * 5_000,
    "table rows": "a|b\n-|-\n" + "1|2\n" * 3_000,
    "addresses": "https://" + "a(" * 10_000,
    "code": "```python\n" + "'" * 40_000 + "\n```",
    "markup": "```html\n" + "<a b='" * 8_000 + "\n```",
    "comments": "```html\n" + "<!--" * 10_000 + "\n```",
    "spaces": "a" + " " * 50_000 + "b",
    "rules": "- " * 20_000,
}


@pytest.mark.parametrize("name", HEAVY)
def test_no_text_makes_the_page_slow(sheet: Any, name: str) -> None:
    """Hostile input of some 50,000 characters; the limit leaves room for a busy machine."""
    took_ms = sheet.evaluate(
        """async (text) => {
          const { renderMarkdown } = await import("./markdown/render.js");
          const begun = performance.now();
          renderMarkdown(text);
          return performance.now() - begun;
        }""",
        HEAVY[name],
    )
    assert took_ms < 1500


def test_a_flood_of_calls_is_bounded(page: Any, server: StandIn) -> None:
    many = [{"index": 10**6, "id": "x", "function": {"name": "f", "arguments": "{}"}}]
    server.reply = lambda body: [chunk({"tool_calls": many}), chunk({}, "tool_calls")]
    page.fill("#draft", "go")
    page.press("#draft", "Enter")
    settle(page)
    assert page.locator(".call").count() <= 129
