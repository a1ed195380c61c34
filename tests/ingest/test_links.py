"""One address, one spelling; and what is read from a page's tags."""

import pytest

from ingest.links import canonical_url, resolved
from ingest.tags import metas_of, parse_page, read_tags

SEARCH = "http://example.org/?sid=14&s=long-range-weather-2026"


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
        ("http://example.org/?gclid=1&PHPSESSID=8a7f&q=2", "http://example.org/?q=2"),
        ("http://example.org/?sid=0123456789abcdef0123", "http://example.org/"),
        (SEARCH, SEARCH),  # short names are sessions only with a value that looks like one
        ("http://example.org/a;jsessionid=1A2B?q=1", "http://example.org/a?q=1"),
        ("http://example.org/(S(lit3py55t21z5v55))/a.aspx", "http://example.org/a.aspx"),
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


def test_metas_alone_are_those_of_all_tags() -> None:
    page = """<head><base href="/deep/"><meta name="Robots" content="noai"><meta name=robots
    content=none><meta http-equiv=refresh content="0; url=/b"><link rel=license href=l.xml
    type="application/rsl+xml"></head><a rel=license type="application/RSL+xml" href="../m.xml">m
    </a><a rel=license href=/by>by</a><meta name=tdm-reservation content=1>"""
    metas = metas_of(parse_page(page), "http://x.example/start")
    assert metas == read_tags(page, "http://x.example/start").metas
    assert metas["robots"] == "noai,none"
    assert metas["rsl"] == "http://x.example/deep/l.xml,http://x.example/m.xml"


@pytest.mark.parametrize(
    ("href", "base"),
    [
        ("/a/b.html", "http://x.example/deep/page"),
        ("/a/../b", "http://x.example/"),
        ("/a//b", "http://x.example/"),
        ("//y.example/a", "http://x.example/p"),
        ("c.html", "http://x.example/deep/page"),
        ("?page=2", "http://x.example/list?page=1"),
        ("https://Y.example:443/a#b", "http://x.example/"),
        ("/" + "a" * 3000, "http://x.example/"),
        ("/é", "https://x.example:8443/"),
    ],
)
def test_the_quick_way_gives_the_same_address(href: str, base: str) -> None:
    assert resolved(href, base) == canonical_url(href, base)


def test_where_a_page_belongs_what_it_feeds_and_where_it_sends() -> None:
    page = """<html><head><link rel="canonical" href="/true?utm_source=x">
    <link rel="alternate" type="application/atom+xml" href="/feed">
    <link rel="alternate" hreflang="fr" href="/fr">
    <meta http-equiv="Refresh" content="3; URL=/next"></head>
    <body><map><area href="/area"></map><a href="#here">h</a><a href="mailto:a@x.example">m"""
    tags = read_tags(page, "http://x.example/start?id=1")
    assert tags.canonical == "http://x.example/true"
    assert tags.feeds == ("http://x.example/feed",)
    assert tags.links == ("http://x.example/next", "http://x.example/area")


@pytest.mark.parametrize(
    "page", ["", "\0", "<?xml version='1.0' encoding='x'?><a href=/x>", "\ud800"]
)
def test_odd_pages_have_tags_too(page: str) -> None:
    assert len(read_tags(page, "http://x.example/").links) == ("href" in page)


def test_comment_openers_do_not_stall_the_link_reader() -> None:
    page = "<!--" * 40_000 + "<a href='/x'>x</a>"
    read_tags(page, "http://x.example/")  # quadratic parsers need over ten seconds for this
