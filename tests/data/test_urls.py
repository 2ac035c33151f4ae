"""One page has one address, and of its captures the newest stays."""

import pytest

from puna.data.urls import newest, normalise_url


@pytest.mark.parametrize(
    "url",
    [
        "http://Example.COM/a/b/",
        "https://example.com:443/a/b",
        "http://example.com:80/a/b#part",
        "https://example.com/a/b?utm_source=x&gclid=9",
        "<http://example.com/a/b>",
    ],
)
def test_spellings_of_one_address_are_equal(url: str) -> None:
    assert normalise_url(url) == "//example.com/a/b"


@pytest.mark.parametrize(
    "url",
    ["http://example.com/A/b", "http://example.com:8080/a/b", "http://example.com/a/b?page=2"],
)
def test_other_addresses_stay_apart(url: str) -> None:
    assert normalise_url(url) != "//example.com/a/b"


@pytest.mark.parametrize("url", ["", "http://[bad", "no address"])
def test_what_is_no_address_is_left_alone(url: str) -> None:
    assert normalise_url(url) == url


def test_the_newest_capture_stays_whatever_the_order() -> None:
    captures = [
        ("u", "2020-01-01", 9, "a"),
        ("u", "2021-01-01", 5, "b"),
        ("", "", 1, "c"),
        ("", "", 1, "d"),
    ]
    assert newest(captures) == [1, 2, 3]
    assert newest(captures[::-1]) == [0, 1, 2]
    assert newest([("u", "2020", 5, "a"), ("u", "2020", 6, "b")]) == [1]
