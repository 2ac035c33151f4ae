"""What a person does on the page, for tests that read like one."""

from typing import Any

DONE = ".answer[aria-busy=false] .turn-foot > *"


def ask(page: Any, text: str) -> None:
    """Send a message and wait until its answer has ended."""
    before = page.locator(".answer").count()
    page.fill("#draft", text)
    page.press("#draft", "Enter")
    page.wait_for_function(
        "count => document.querySelectorAll('.answer').length > count", arg=before
    )
    settle(page)


def settle(page: Any) -> None:
    """Wait until no answer is being written."""
    page.wait_for_selector(".answer[aria-busy=true]", state="detached")
    page.wait_for_selector("#send[aria-label=Send]")


def answer(page: Any) -> str:
    """Return the text of the last answer."""
    text: str = page.locator(".answer .answer-body").last.inner_text()
    return text


def render(page: Any, text: str) -> Any:
    """Render Markdown into an element of its own and return it."""
    page.evaluate(
        """async (text) => {
          const { renderMarkdown } = await import("./markdown/render.js");
          document.querySelector("#probe")?.remove();
          const probe = document.createElement("div");
          probe.id = "probe";
          probe.className = "prose";
          probe.append(...renderMarkdown(text));
          document.querySelector("#turns").append(probe);
        }""",
        text,
    )
    return page.locator("#probe")


def skeleton(page: Any, text: str) -> str:
    """Return the tags and texts of rendered Markdown, without attributes: `p(a em(b))`."""
    render(page, text)
    found: str = page.evaluate(
        """() => {
          const walk = (node) => {
            if (node.nodeType === Node.TEXT_NODE) return node.data;
            const inner = [...node.childNodes].map(walk).join("");
            return `${node.localName}(${inner})`;
          };
          return [...document.querySelector("#probe").childNodes].map(walk).join(" ");
        }"""
    )
    return found
