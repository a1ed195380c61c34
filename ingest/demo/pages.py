"""The demo site as a table: (host, target) -> the answer that the server gives."""

import gzip
import random
from collections.abc import Iterator

from ingest.demo import annex
from ingest.demo.annex import Answer
from ingest.demo.plan import ATLAS, SIGNALS, WIKI, Planned
from ingest.demo.templates import Links, View, listing, render

__all__ = ["Answer", "Table", "build"]

Table = dict[tuple[str, str], "Answer"]

NAMES = {ATLAS: "The Loopback Atlas", WIKI: "The Loopback Encyclopedia"}
PER_LIST = 60
ROBOTS = """# The demo site of commonroot: everything here is on loopback.
User-agent: *
Disallow: /private/
Disallow: /drafts/*.html$
Disallow: /search
Allow: /private/open.html
Content-Usage: /columns/ train-ai=n

User-agent: GPTBot
User-agent: CCBot
Disallow: /members/

Sitemap: http://{host}/sitemap.xml
License: http://{host}/license.xml
"""
TDMREP = b"""[
  {"location": "/", "tdm-reservation": 0},
  {"location": "/reserved/*", "tdm-reservation": 1}
]
"""
AI_TXT = b"""User-Agent: *
Disallow: /studio/
Disallow: *.jpg
"""
RSL = b"""<?xml version="1.0" encoding="UTF-8"?>
<rsl xmlns="https://rslstandard.org/rsl">
  <content url="/"><license><permits type="usage">all</permits></license></content>
  <content url="/licensed/"><license>
    <permits type="usage">search</permits><prohibits type="usage">ai-train</prohibits>
  </license></content>
</rsl>
"""


def build(pages: list[Planned], seed: int) -> Table:
    """Every address of the site; the same for the same arguments."""
    table: Table = {}
    for host in (ATLAS, WIKI):
        own = [page for page in pages if page.host == host]
        for page in own:
            draw = random.Random(f"{seed}/{page.url}")
            related = [(other.path, other.article.title) for other in draw.sample(own, 5)]
            table[host, page.path] = _article(page, related)
        table.update(_listings(host, own))
        table.update(_trouble(host, own))
        table[host, "/robots.txt"] = Answer(
            ROBOTS.format(host=host).encode(), headers={"Content-Type": "text/plain"}
        )
        table[host, "/sitemap.xml"] = _sitemap(own)
        for path, body, kind in (
            ("/.well-known/tdmrep.json", TDMREP, "application/json"),
            ("/ai.txt", AI_TXT, "text/plain"),
            ("/license.xml", RSL, "application/rsl+xml"),
        ):
            table[host, path] = Answer(body, headers={"Content-Type": kind})
    table.update(annex.annex(next(page.url for page in pages if page.kind == "article")))
    table.update(
        ((page.host, page.path), _article(page, ())) for page in pages if page.host in annex.HOSTS
    )
    return table


def _article(page: Planned, related: Links) -> Answer:
    rare = annex.SIGNALS.get(page.signal, ("", "", {}))[1:]
    head, extra = SIGNALS.get(page.signal, rare)
    if page.host == WIKI:
        head += '<link rel="license" href="https://creativecommons.org/licenses/by-sa/4.0/">\n'
    here = page.host in NAMES
    view = View(
        NAMES.get(page.host, page.host), page.article.title, page.article.language,
        page.article.sections, _nav(page.host) if here else (), related,
        _footer() if here else (), head,
    )
    text = render(view, page.template)
    body, content_type = text.encode(), "text/html; charset=utf-8"
    if page.signal == "latin":  # says UTF-8, is windows-1252
        body = text.encode("cp1252", "xmlcharrefreplace")
    elif page.signal == "utf8":  # says ISO-8859-1, is UTF-8
        content_type = "text/html; charset=iso-8859-1"
        body = text.replace('charset="utf-8"', 'charset="iso-8859-1"').encode()
    return Answer(body, headers={"Content-Type": content_type, **extra})


def _listings(host: str, pages: list[Planned]) -> Iterator[tuple[tuple[str, str], Answer]]:
    links = [(page.path, page.article.title) for page in pages] + _curiosities(pages)
    parts = [links[i : i + PER_LIST] for i in range(0, len(links), PER_LIST)]
    lists = [(f"/lists/{i}.html", f"Pages, part {i}") for i in range(1, len(parts) + 1)]
    view = View(NAMES[host], "All pages", "en", (), _nav(host), (), _footer())
    yield (host, "/"), Answer(listing(view, lists).encode())
    for (path, _), part in zip(lists, parts, strict=True):
        yield (host, path), Answer(listing(view, part).encode())


def _curiosities(pages: list[Planned]) -> list[tuple[str, str]]:
    moved = [(f"/old/{i}", f"Moved page {i}") for i in range(_moved(pages))]
    return [*moved, *((path, path.strip("/")) for path in (
        "/go/hidden", "/go/loop-a", "/go/chain-1", "/go/away", "/gone.html", "/missing.html",
        "/broken.html", "/files/report.pdf", "/files/data.html", "/files/huge.html",
        "/private/open.html", "/search?q=rivers", "/?utm_source=list",
    ))]


def _trouble(host: str, pages: list[Planned]) -> Iterator[tuple[tuple[str, str], Answer]]:
    """Redirects good and bad, errors, and what is not a page."""
    articles = [page for page in pages if page.kind == "article"]
    hidden = [page for page in pages if page.kind == "disallowed"]
    for index in range(_moved(pages)):
        yield (host, f"/old/{index}"), _redirect(articles[index % len(articles)].path, 301)
    yield (host, "/go/hidden"), _redirect(hidden[0].path if hidden else "/private/x.html", 302)
    yield (host, "/go/loop-a"), _redirect("/go/loop-b", 302)
    yield (host, "/go/loop-b"), _redirect("/go/loop-a", 302)
    yield (host, "/go/chain-1"), _redirect("/go/chain-2", 307)
    yield (host, "/go/chain-2"), _redirect(articles[0].path, 308)
    yield (host, "/go/away"), _redirect("http://10.0.0.1/admin", 302)
    yield (host, "/gone.html"), Answer(b"<p>Gone.</p>", 410)
    yield (host, "/broken.html"), Answer(b"<p>Something broke.</p>", 500)
    yield (host, "/files/report.pdf"), Answer(
        b"%PDF-1.4\n" + bytes(range(256)) * 40, headers={"Content-Type": "application/pdf"}
    )
    yield (host, "/files/data.html"), Answer(
        bytes(range(256)) * 40, headers={"Content-Type": "application/octet-stream"}
    )
    yield (host, "/files/huge.html"), Answer(
        gzip.compress(b"<p>" + b"a" * 20_000_000, mtime=0),
        headers={"Content-Type": "text/html", "Content-Encoding": "gzip"},
    )
    yield (host, "/private/open.html"), Answer(b"<p>This one page of the folder is open.</p>")


def _sitemap(pages: list[Planned]) -> Answer:
    """Every other page, and one that robots.txt disallows: sitemaps do err."""
    listed = [page for index, page in enumerate(pages) if index % 2 == 0]
    listed += [page for page in pages if page.kind == "disallowed"][:1]
    urls = "".join(f"<url><loc>{page.url}</loc></url>\n" for page in listed)
    xml = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'
    return Answer(xml.encode(), headers={"Content-Type": "application/xml"})


def _moved(pages: list[Planned]) -> int:
    return max(2, len(pages) // 100)


def _redirect(target: str, status: int) -> Answer:
    return Answer(b"", status, {"Content-Type": "text/html", "Location": target})


def _nav(host: str) -> Links:
    other = WIKI if host == ATLAS else ATLAS
    return (
        ("/", "Home"), ("/lists/1.html", "All pages"), (f"http://{other}/", NAMES[other]),
        ("/search?q=", "Search"), ("/private/staff.html", "Staff"),
        ("mailto:desk@example.org", "Mail"),
    )


def _footer() -> Links:
    return (
        ("/terms.html", "Terms of use"), ("/private/imprint.html", "Imprint"), ("#top", "Top"),
        ("javascript:void(0)", "Cookie settings"),
    )
