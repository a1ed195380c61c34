"""Every refusal that is implemented is seen, and nothing else is taken for one."""

import pytest

from ingest.links import read_tags
from ingest.optout import from_headers, from_metas, from_robots
from ingest.robots import parse

URL = "http://x.example/a"


@pytest.mark.parametrize(
    "tag",
    [
        '<meta name="robots" content="noai">',
        '<META NAME="ROBOTS" CONTENT="index, NOAI, follow">',
        '<meta content="noindex" name="robots">',
        '<meta name="robots" content="none">',
        '<meta name="commonroot" content="noai">',
        '<meta name="tdm-reservation" content="1">',
        '<meta name="robots" content="follow"><meta name="robots" content="noai">',
    ],
)
def test_meta_tags_that_refuse(tag: str) -> None:
    tags = read_tags(f"<html><head>{tag}</head><body>x</body></html>", URL)
    assert from_metas(tags.metas, "commonroot") is not None


@pytest.mark.parametrize(
    "tag",
    [
        '<meta name="robots" content="index, follow, noimageai, nofollow">',
        '<meta name="otherbot" content="noai">',
        '<meta name="tdm-reservation" content="0">',
        '<meta name="description" content="noai noindex none">',
        '<!-- <meta name="robots" content="noai"> -->',
    ],
)
def test_meta_tags_that_do_not(tag: str) -> None:
    tags = read_tags(f"<html><head>{tag}</head><body>x</body></html>", URL)
    assert from_metas(tags.metas, "commonroot") is None


@pytest.mark.parametrize(
    ("headers", "refuses"),
    [
        ([("X-Robots-Tag", "noai")], True),
        ([("x-robots-tag", "nofollow, NoIndex")], True),
        ([("X-Robots-Tag", "commonroot: none")], True),
        ([("X-Robots-Tag", "otherbot: noindex")], False),
        ([("X-Robots-Tag", "otherbot: noindex"), ("X-Robots-Tag", "noai")], True),
        ([("X-Robots-Tag", "unavailable_after: 25 Jun 2010, noai")], True),
        ([("TDM-Reservation", "1")], True),
        ([("TDM-Reservation", "0"), ("X-Robots-Tag", "all")], False),
    ],
)
def test_headers(headers: list[tuple[str, str]], refuses: bool) -> None:
    assert (from_headers(headers, "commonroot") is not None) is refuses


def test_turning_an_ai_agent_away_by_name_turns_us_away() -> None:
    rules = parse(b"User-agent: GPTBot\nDisallow: /essays/\n\nUser-agent: *\nDisallow: /private/")
    refused = from_robots(rules, "commonroot", "http://x.example/essays/1")
    assert refused is not None
    assert refused.signal == "GPTBot"
    assert from_robots(rules, "commonroot", "http://x.example/news/1") is None
    signal = parse(b"User-agent: *\nContent-Signal: ai-train=no\nAllow: /")
    assert from_robots(signal, "commonroot", URL) is not None
