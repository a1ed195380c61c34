"""robots.txt rules, with cases of our own (RFC 9309)."""

import pytest

from ingest.robots import allowed, parse


@pytest.mark.parametrize(
    ("lines", "agent", "path", "expected"),
    [
        ("User-agent: *\nDisallow: /a/", "rootbot", "/a/x", False),
        ("User-agent: *\nDisallow: /a/", "rootbot", "/b/x", True),
        ("User-agent: *\nDisallow:", "rootbot", "/a/x", True),
        ("User-agent: *\nDisallow: /\nAllow: /open", "rootbot", "/open/1", True),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "rootbot", "/a", True),
        ("User-agent: *\nDisallow: /*.pdf$", "rootbot", "/x/y.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "rootbot", "/x/y.pdf?print", True),
        ("User-agent: *\nDisallow: /a*b*c", "rootbot", "/a1b2c3", False),
        ("User-agent: *\nDisallow: /a*b*c", "rootbot", "/a1c2b3", True),
        ("User-agent: *\nDisallow: /a*a$", "rootbot", "/a", True),
        (
            "User-agent: *\nDisallow: /\n\nUser-agent: rootbot\nAllow: /",
            "rootbot/2 (x)",
            "/a",
            True,
        ),
        ("User-agent: RootBot\nDisallow: /", "rootbot", "/a", False),
        ("User-agent: root\nDisallow: /", "rootbot", "/a", True),
        ("User-agent: a\nUser-agent: rootbot\nDisallow: /", "rootbot", "/a", False),
        ("User-agent: rootbot\nAllow: /x\nUser-agent: *\nDisallow: /", "rootbot", "/a", True),
        ("User-agent: *\nDisallow: /q?id=", "rootbot", "/q?id=7", False),
        ("User-agent: *\nDisallow: /caf\u00e9", "rootbot", "/caf%c3%A9", False),
        ("User-agent: *\nDisallow: / # all", "rootbot", "/a", False),
        ("User-agent: *\nDisallow: /", "rootbot", "/robots.txt", True),
        ("Disallow: /", "rootbot", "/a", True),
        ("user-agent : *\r\ndisallow : /a\r\n", "rootbot", "/a", False),
    ],
)
def test_rules(lines: str, agent: str, path: str, expected: bool) -> None:
    assert allowed(lines.encode(), agent, f"http://x.example{path}") is expected


def test_groups_of_one_agent_are_merged() -> None:
    text = b"User-agent: rootbot\nDisallow: /a\n\nUser-agent: other\nDisallow:\n"
    text += b"User-agent: rootbot\nDisallow: /b"
    assert not allowed(text, "rootbot", "http://x.example/a")
    assert not allowed(text, "rootbot", "http://x.example/b")


def test_crawl_delay_sitemaps_and_signals() -> None:
    rules = parse(
        b"\xef\xbb\xbfSitemap: http://x.example/s.xml\nUser-agent: *\nCrawl-delay: 2.5\n"
        b"Content-Signal: search=yes, ai-train=no\nDisallow: /a\nCrawl-delay: nonsense\n"
    )
    assert rules.crawl_delay("rootbot") == 2.5
    assert rules.sitemaps == ("http://x.example/s.xml",)
    assert rules.signal("rootbot", "ai-train") == "no"
    assert not rules.allows("rootbot", "http://x.example/a")


def test_a_hostile_pattern_does_not_explode() -> None:
    pattern = "/" + "*a" * 5_000
    text = f"User-agent: *\nDisallow: {pattern}b$".encode()
    assert allowed(text, "rootbot", "http://x.example/" + "a" * 2_000)


def test_junk_is_passed_over() -> None:
    assert allowed(bytes(range(256)) * 40, "rootbot", "http://x.example/a")
