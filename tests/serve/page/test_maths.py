from typing import Any

import pytest

from tests.serve.page.acting import render

# One source of each kind, and the MathML elements that must come of it.
SOURCES = [
    (r"\frac{a}{b}", "mfrac"),
    (r"\sqrt[3]{x}", "mroot"),
    (r"\sqrt x", "msqrt"),
    (r"x_i^2", "msubsup"),
    (r"f''(x)", "msup"),
    (r"\hat{x} + \vec v", "mover"),
    (r"\underbrace{a+b}_{c}", "munder"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "mtable"),
    (r"\begin{cases} 0 & x < 0 \\ 1 & \text{else} \end{cases}", "mtable"),
    (r"\begin{aligned} a &= b \\ &= c \end{aligned}", "mtable"),
    (r"\left( \frac12 \middle| x \right]", "mo"),
    (r"\binom{n}{k}", "mfrac"),
    (r"a \over b", "mfrac"),
    (r"\xrightarrow{f}", "mover"),
    (r"\operatorname*{arg\,min}_x", "mi"),
    (r"p(x \mid y) \propto \mathcal{N}(\mu, \sigma^2)", "mi"),
    (r"\not= \quad \pmod{n}", "mo"),
    (r"\mathbf{x}^\top \boldsymbol\beta", "msup"),
    (r"a, b \in \{1, 2\}", "mo"),
    (r"1{,}000 + 12,345.67", "mn"),
]


@pytest.mark.parametrize(("source", "tag"), SOURCES)
def test_latex_is_set_as_mathml(sheet: Any, source: str, tag: str) -> None:
    probe = render(sheet, f"$${source}$$")
    assert probe.locator("math").count() == 1, source
    assert probe.locator(f"math {tag}").count() >= 1
    assert probe.locator("annotation").text_content() == source


def test_limits_stand_below_in_a_display_and_beside_in_a_line(sheet: Any) -> None:
    assert render(sheet, r"$$\sum_{i=1}^n i$$").locator("munderover").count() == 1
    assert render(sheet, r"so $\sum_{i=1}^n i$").locator("msubsup").count() == 1
    assert render(sheet, r"$$\int_0^1 x$$").locator("msubsup").count() == 1


@pytest.mark.parametrize("text", [r"\(x\)", "$x$", r"\[x\]", "$$x$$", "```math\nx\n```"])
def test_every_way_to_mark_mathematics_is_read(sheet: Any, text: str) -> None:
    assert render(sheet, text).locator("math").count() == 1


@pytest.mark.parametrize("text", ["costs $5 and $6", "US$5/$6", "`$x$`", "$ x $", "a $5", r"\$x\$"])
def test_money_is_no_mathematics(sheet: Any, text: str) -> None:
    assert render(sheet, text).locator("math").count() == 0


@pytest.mark.parametrize(
    "source", [r"\frac{a", r"\unheard{x}", r"\left( x", "a^b^c", "}", r"\begin{pmatrix} 1", "x^"]
)
def test_what_is_not_understood_is_shown_as_it_was_written(sheet: Any, source: str) -> None:
    probe = render(sheet, f"$${source}$$")
    assert probe.locator("math").count() == 0
    assert source in probe.inner_text()


def test_letters_of_other_alphabets_are_unicode(sheet: Any) -> None:
    text = render(sheet, r"$\mathbb{R}\mathcal{L}\mathbf{x}\mathfrak{g}$").locator("math mi")
    assert "".join(text.all_text_contents()) == "ℝℒ𝐱𝔤"
