"""One address, one spelling; and what is read from a page's tags."""

import pytest

from ingest.links import canonical_url
from ingest.tags import read_tags


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.ORG:80", "http://example.org/"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("http://example.org:8080/a#part", "http://example.org:8080/a"),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/../../a", "http://example.org/a"),
        ("http://example.org/%7euser/%c3%a9", "http://example.org/~user/%C3%A9"),
        ("http://example.org/é b", "http://example.org/%C3%A9%20b"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.org/?utm_source=x&b=1&fbclid=2", "http://example.org/?b=1"),
        ("http://example.org/?", "http://example.org/"),
        ("http://example.org./a", "http://example.org/a"),
        ("mailto:desk@example.org", None),
        ("javascript:void(0)", None),
        ("http://user:pass@example.org/", None),
        ("http://exa mple.org/", None),
        ("http://[::1", None),
        ("http://example.org:99999/", None),
        ("http://example.org/" + "a" * 3000, None),
        ("", None),
    ],
)
def test_canonical(url: str, expected: str | None) -> None:
    assert canonical_url(url) == expected
    if expected:
        assert canonical_url(expected) == expected


def test_tags_of_a_page() -> None:
    page = """<html><head><base href="/deep/"><link rel="license" href="https://l.example/by">
    </head><body><a href="a.html">a</a> <a href="a.html#x">again</a>
    <a rel="nofollow noopener" href="/no">n</a> <a>none</a><a href="https://other.example/">o</a>"""
    tags = read_tags(page, "http://x.example/start")
    assert tags.links == ("http://x.example/deep/a.html", "https://other.example/")


def test_comment_openers_do_not_stall_the_link_reader() -> None:
    page = "<!--" * 40_000 + "<a href='/x'>x</a>"
    read_tags(page, "http://x.example/")  # quadratic parsers need over ten seconds for this
