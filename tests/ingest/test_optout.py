"""Every refusal that is implemented is seen, and nothing else is taken for one."""

import pytest

from ingest.optout import from_headers, from_metas, from_robots
from ingest.reservations import AI_TXT, TDMREP, refusal, site_reservations
from ingest.robots import parse
from ingest.tags import read_tags

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
        '<link rel="license" type="application/rsl+xml" href="/terms.xml">',
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
        '<link rel="license" href="https://creativecommons.org/licenses/by/4.0/">',
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
        ([("Content-Usage", "train-ai=n")], True),
        ([("content-usage", "bots=n")], True),
        ([("Content-Usage", "bots=n, train-ai=y")], False),
        ([("Content-Usage", "bots=y;x=1, Train-AI=n;y")], True),
        ([("Content-Usage", "search=n")], False),
        ([("Content-Signal", "search=yes, ai-train=no")], True),
        ([("Content-Signal", "ai-train=yes")], False),
        ([("Link", '</t.xml>; rel="license"; type="application/rsl+xml"')], True),
        ([("Link", '<https://creativecommons.org/licenses/by/4.0/>; rel="license"')], False),
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


def test_content_usage_in_robots_goes_by_path() -> None:
    rules = parse(
        b"User-agent: *\nAllow: /\nContent-Usage: bots=y, train-ai=n\n"
        b"Content-Usage: /open/ train-ai=y\nContent-Usage: /open/*.pdf train-ai=n"
    )
    refused = {
        path: from_robots(rules, "commonroot", f"http://x.example{path}") is not None
        for path in ("/a", "/open/a", "/open/a.pdf")
    }
    assert refused == {"/a": True, "/open/a": False, "/open/a.pdf": True}


RSL = """<rsl xmlns="https://rslstandard.org/rsl"><content url="{url}">{licences}</content></rsl>"""
LICENCE = "<license>{}</license>"
FOR_ALL = LICENCE.format('<permits type="usage">all</permits>')
FOR_SEARCH = LICENCE.format('<permits type="usage">search</permits>')
PRICED = LICENCE.format('<permits type="usage">ai-train</permits><payment type="purchase"/>')
CREDITED = LICENCE.format(
    '<permits type="usage">ai-train search</permits><payment type="attribution"/>'
)
PROHIBITED = LICENCE.format('<prohibits type="usage">ai-all</prohibits>')
OTHER = LICENCE.format('<prohibits type="user">commercial</prohibits>')


@pytest.mark.parametrize(
    ("name", "body", "refused"),
    [
        (TDMREP, '[{"location": "/", "tdm-reservation": 1}]', "/a /docs/b"),
        (TDMREP, '[{"location": "/docs/*", "tdm-reservation": 1}]', "/docs/b"),
        (
            TDMREP,
            '[{"location": "/docs/", "tdm-reservation": 1},{"location":"/","tdm-reservation":0}]',
            "/docs/b",
        ),
        (TDMREP, '{"location": "/", "tdm-reservation": "1"}', "/a /docs/b"),
        (TDMREP, '[{"location": 3}, null, {"tdm-reservation": 1}]', ""),
        (TDMREP, "not json", ""),
        (TDMREP, "[" * 100_000, ""),
        (AI_TXT, "User-Agent: *\nDisallow: /", "/a /docs/b"),
        (AI_TXT, "User-Agent: *\nDisallow: /docs/", "/docs/b"),
        (AI_TXT, "User-Agent: *\nDisallow: *.html\nAllow: *.jpg", "/a /docs/b"),
        (AI_TXT, "User-Agent: *\nDisallow: *.jpg\nAllow: *.txt", ""),
        (AI_TXT, "User-Agent: otherbot\nDisallow: /", ""),
        ("x", RSL.format(url="/", licences=FOR_ALL), ""),
        ("x", RSL.format(url="/docs/", licences=FOR_SEARCH), "/docs/b"),
        ("x", RSL.format(url="http://x.example/docs/*", licences=PROHIBITED), "/docs/b"),
        ("x", RSL.format(url="/", licences=PRICED), "/a /docs/b"),
        ("x", RSL.format(url="/", licences=PRICED + CREDITED), ""),
        ("x", RSL.format(url="/", licences=OTHER), ""),
        ("x", RSL.format(url="/", licences=""), ""),
        ("x", "<rsl><content", "/a /docs/b"),
        ("x", "", "/a /docs/b"),
    ],
)
def test_files_beside_robots(name: str, body: str, refused: str) -> None:
    found = site_reservations({name: body.encode()}, "commonroot")
    said = [path for path in ("/a", "/docs/b") if refusal(found, f"http://x.example{path}")]
    assert said == refused.split()


def test_of_two_as_specific_statements_the_refusal_counts() -> None:
    for values in ("n", "y"), ("y", "n"):
        lines = "".join(f"Content-Usage: /a train-ai={value}\n" for value in values)
        rules = parse(f"User-agent: *\n{lines}".encode())
        assert from_robots(rules, "commonroot", "http://x.example/a") is not None
        rows = ",".join(f'{{"location": "/a", "tdm-reservation": {v == "n":d}}}' for v in values)
        found = site_reservations({TDMREP: f"[{rows}]".encode()}, "commonroot")
        assert refusal(found, "http://x.example/a") is not None


def test_one_file_that_allows_does_not_answer_for_another() -> None:
    files = {
        TDMREP: b'[{"location": "/docs/b", "tdm-reservation": 0}]',
        AI_TXT: b"User-Agent: *\nDisallow: /docs/",
    }
    refused = refusal(site_reservations(files, "commonroot"), "http://x.example/docs/b")
    assert refused is not None
    assert (refused.signal, refused.where) == ("ai.txt", AI_TXT)
