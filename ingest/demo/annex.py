"""Three small hosts beside the demo's two: what troubles a crawler, and rarer ways to refuse.

annex: packed sitemaps, feeds, pages that belong elsewhere, shells that need JavaScript, a calendar
and a shop without end. closed: robots.txt refuses training. lapsed: its licence is gone.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from ingest.demo.texts import Article

__all__ = ["ANNEX", "CLOSED", "HOSTS", "LAPSED", "SIGNALS", "Answer", "annex", "refused"]

ANNEX, CLOSED, LAPSED = HOSTS = "annex.example", "closed.example", "lapsed.example"
SIGNALS: dict[str, tuple[str, str, dict[str, str]]] = {
    "header-none": (ANNEX, "", {"X-Robots-Tag": "none"}),
    "header-agent": (ANNEX, "", {"X-Robots-Tag": "otherbot: all, commonroot: noai"}),
    "header-bots": (ANNEX, "", {"Content-Usage": "bots=n"}),
    "meta-agent": (ANNEX, '<meta name="commonroot" content="noai">\n', {}),
    "robots-content-signal": (CLOSED, "", {}),
    "robots-rsl-missing": (LAPSED, "", {}),
}
"""Ways to refuse training -> (host, tags for the head, response headers)."""

YEARS, COLOURS, SIZES, ORDERS = range(2031, 2043), 6, 5, 5
"""144 months and 150 views of one shop: more than a pattern of addresses may give for nothing."""
ROBOTS = {
    ANNEX: "User-agent: *\nDisallow:\nSitemap: http://annex.example/sitemaps.xml\n",
    CLOSED: "User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n",
    LAPSED: "License: http://lapsed.example/licence.xml\nUser-agent: *\nDisallow:\n",
}
SHELL = """<!DOCTYPE html><html lang="en"><head><title>The Loopback Viewer</title>
<script defer src="/static/bundle.4f3a91.js"></script></head><body>
<noscript>You need to enable JavaScript to run this app.</noscript><div id="root"></div>
</body></html>
"""
XML = {"Content-Type": "application/xml"}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(
        default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"}
    )


def refused() -> Iterator[tuple[str, str, str, Article]]:
    """(host, path, signal, text) of pages that refuse; the texts would pass any quality rule."""
    for signal, (host, _, _) in SIGNALS.items():
        text = (
            f"This page stands for all those whose authors said no in the manner called {signal}. "
            "It is written in whole sentences, so that nothing but its refusal keeps it out of a "
            "corpus, and whoever finds a line of it there knows that the crawler did not listen. "
            "The people of the harbour wrote such pages for their neighbours and for visitors, "
            "and they were glad of every reader who came to the library in the evening to read."
        )
        texts = tuple(f"{text} That was so in the {which} year." for which in ("first", "second"))
        article = Article(f"annex/{signal}", f"A refusal, {signal}", "en", (("", texts),))
        yield host, f"/refusals/{signal}.html" if host == ANNEX else "/", signal, article


def annex(twin: str) -> Iterator[tuple[tuple[str, str], Answer]]:
    """All answers but the refused pages; `twin` is an article that a page here belongs to."""
    for host, rules in ROBOTS.items():
        yield (host, "/robots.txt"), Answer(rules.encode(), headers={"Content-Type": "text/plain"})
    years, views = [f"/calendar/{year}/" for year in YEARS], list(_views())
    refusals = [path for host, path, *_ in refused() if host == ANNEX]
    yield (ANNEX, "/"), _links(
        [
            "/viewer/", "/copy/of-an-article.html", "/post/3.html?PHPSESSID=0123456789abcdef",
            "/post/3.html?utm_campaign=annex", *years, *views[:1], *refusals,
        ],
        '<link rel="alternate" type="application/atom+xml" href="/feed.atom">'
        '<link rel="alternate" type="application/rss+xml" href="/feed.rss">',
    )
    yield from _listings()
    yield (ANNEX, "/viewer/"), Answer(SHELL.encode())
    yield (ANNEX, "/copy/of-an-article.html"), _links([], f'<link rel="canonical" href="{twin}">')
    for path in years:
        months = [f"{path}{month:02d}.html" for month in range(1, 13)]
        yield (ANNEX, path), _links(months)
        for month in months:
            yield (ANNEX, month), _links([*months, *years])
    for view in views:
        yield (ANNEX, view), _links(views)


def _listings() -> Iterator[tuple[tuple[str, str], Answer]]:
    index = f"<sitemapindex><sitemap><loc>http://{ANNEX}/pages.xml.gz</loc></sitemap></sitemapindex>"
    pages = f"<urlset><url><loc>http://{ANNEX}/post/0.html</loc></url></urlset>"
    atom = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>Annex</title>'
        '<entry><link rel="alternate" href="/post/1.html"/></entry></feed>'
    )
    rss = (
        "<rss version='2.0'><channel><title>Annex</title>"
        f"<item><link>http://{ANNEX}/post/2.html</link></item></channel></rss>"
    )
    yield (ANNEX, "/sitemaps.xml"), Answer(index.encode(), headers=XML)
    yield (ANNEX, "/pages.xml.gz"), Answer(
        gzip.compress(pages.encode(), mtime=0), headers={"Content-Type": "application/gzip"}
    )
    yield (ANNEX, "/feed.atom"), Answer(
        atom.encode(), headers={"Content-Type": "application/atom+xml"}
    )
    yield (ANNEX, "/feed.rss"), Answer(rss.encode(), headers={"Content-Type": "text/xml"})
    for number in range(4):
        yield (ANNEX, f"/post/{number}.html"), Answer(f"<p>Post {number} is short.</p>".encode())


def _views() -> Iterator[str]:
    for colour, size, order in product(range(COLOURS), range(SIZES), range(ORDERS)):
        yield f"/shop?colour={colour}&size={size}&order={order}"


def _links(paths: list[str], head: str = "") -> Answer:
    items = "".join(f'<li><a href="{path.replace("&", "&amp;")}">x</a></li>' for path in paths)
    return Answer(f"<!DOCTYPE html><html><head>{head}</head><body><ul>{items}</ul>".encode())
