"""Where a crawl stops: scope, budgets, pages without end, pages that belong elsewhere, shells."""

import gzip
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from commonroot.errors import DataError
from ingest import gather
from ingest.archive import Stored, read_archive
from ingest.gather import GatherConfig
from ingest.sources.shell import needs_javascript
from ingest.sources.traps import circular, pattern_of
from ingest.sources.web import WebConfig
from ingest.tags import parse_page, tags_of
from tests.ingest.webserver import HOST, Site

PARAGRAPH = "<p>" + "Rivers carry sand and stones from the hills to the sea. " * 5 + "</p>"
TEXT = {"Content-Type": "text/plain"}
XML = {"Content-Type": "application/xml"}


def _run(site: Site, folder: Path, **settings: Any) -> dict[str, dict[str, Any]]:
    values = {"seeds": (f"http://{HOST}/",), "connect": site.connect, "retries": 0, **settings}
    web = gather.run(GatherConfig(web=WebConfig(**values)), folder)
    lines = (web.path / gather.FETCHES).read_text("utf-8").splitlines()
    return {r["url"].removeprefix(f"http://{HOST}"): r for r in map(json.loads, lines)}


def _links(*paths: str) -> str:
    return "".join(f"<a href='{path}'>x</a>" for path in paths)


def test_scope_by_path(site: Site, tmp_path: Path) -> None:
    site.routes |= {
        "/": PARAGRAPH + _links("/docs/a.html", "/docs/b.pdf", "/blog/c.html", "/docs/old/d.html"),
        "/docs/a.html": PARAGRAPH,
        "/docs/listed.html": PARAGRAPH,
        "/robots.txt": (200, TEXT, f"Sitemap: http://{HOST}/index.xml".encode()),
        "/index.xml": (200, XML, f"<sitemapindex><sitemap><loc>http://{HOST}/map.xml</loc>".encode()
                       + b"</sitemap></sitemapindex>"),
        "/map.xml": (200, XML, f"<urlset><url><loc>http://{HOST}/docs/listed.html</loc></url><url>"
                     f"<loc>http://{HOST}/blog/listed.html</loc></url></urlset>".encode()),
    }
    found = _run(site, tmp_path, paths=("/docs/*.html$",), skip_paths=("/docs/old/",))
    assert set(found) == {"/", "/docs/a.html", "/docs/listed.html", "/index.xml", "/map.xml"}


def test_a_host_has_a_budget_of_its_own(site: Site, tmp_path: Path) -> None:
    other = {f"other.example:{80}": f"127.0.0.1:{site.port}"}
    paths = [f"/page-{name}" for name in "abcdef"]
    site.routes |= {"/": PARAGRAPH + _links(*paths, "http://other.example/page-a")}
    site.routes |= dict.fromkeys(paths, PARAGRAPH)
    found = _run(
        site, tmp_path, host_pages=4, hosts=("other.example",), connect=site.connect | other
    )
    decided = [found[path]["decision"] for path in paths]
    assert decided == ["kept"] * 3 + ["host-budget"] * 3
    assert found["http://other.example/page-a"]["decision"] == "kept"


def test_feeds_and_packed_sitemaps_also_as_seeds(site: Site, tmp_path: Path) -> None:
    entry = f"<entry><link href='http://{HOST}/from-feed'/></entry>"
    packed = gzip.compress(f"<urlset><url><loc>http://{HOST}/from-map</loc></url></urlset>".encode())
    alternate = "<link rel='alternate' type='application/rss+xml' href='/news'>"
    site.routes |= {
        "/": f"<html><head>{alternate}</head>{PARAGRAPH}",
        "/news": (200, XML, f"<rss><item><link>http://{HOST}/n</link></item></rss>".encode()),
        "/feed": (200, {"Content-Type": "application/atom+xml"}, f"<feed>{entry}</feed>".encode()),
        "/maps.xml.gz": (200, {"Content-Type": "application/x-gzip"}, packed),
        "/data.xml": (200, XML, b"<things/>"),
        **dict.fromkeys(("/from-feed", "/from-map", "/n"), PARAGRAPH),
    }
    seeds = [f"http://{HOST}{path}" for path in ("/", "/feed", "/maps.xml.gz", "/data.xml")]
    found = _run(site, tmp_path / "a", seeds=seeds)
    assert {path: record["decision"] for path, record in found.items()} == {
        "/": "kept", "/news": "feed", "/feed": "feed", "/maps.xml.gz": "sitemap",
        "/data.xml": "not-a-listing", "/from-feed": "kept", "/from-map": "kept", "/n": "kept",
        "/sitemap.xml": "http-404",
    }
    assert "/news" not in _run(site, tmp_path / "b", feeds=False)


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("http://x.example/calendar/2031/03", "x.example/calendar/0/0"),
        ("http://x.example/list?b=1&a=2", "x.example/list?"),
        ("http://x.example/c/9f86d081-884c-7d65/x", "x.example/c/0/x"),
        ("http://x.example/deadbeef/facade", None),
        ("http://x.example/rivers-of-france.html", None),
    ],
)
def test_patterns(url: str, pattern: str | None) -> None:
    assert pattern_of(url) == pattern


@pytest.mark.parametrize(
    ("path", "circles"),
    [
        ("/a/b/a/b/a/b", True), ("/en/en/en/page", True), ("/x/" + "y/z/" * 20, True),
        ("/a/b/a/b", False), ("/2024/05/05/page", False), ("/", False),
    ],
)
def test_paths_in_circles(path: str, circles: bool) -> None:
    assert circular(f"http://x.example{path}") is circles


def test_a_calendar_ends_and_an_archive_with_new_text_does_not(site: Site, tmp_path: Path) -> None:
    def text(number: int) -> str:
        name = "abcdefghij"[number % 10] * (number + 1)
        return f"<p>The story of the ship {name} begins on a morning in winter.</p>"

    days = {f"/calendar/{i:02d}": "<p>No event is planned for day 5.</p>" for i in range(40)}
    stories = {f"/story/{i:02d}": text(i) for i in range(40)}
    site.routes |= {"/": PARAGRAPH + _links(*days, *stories), **days, **stories}
    found = _run(site, tmp_path, trap_pages=6)
    assert [found[path]["decision"] for path in days].count("trap") == 33
    assert "pages without new text" in found["/calendar/39"]["detail"]
    assert {found[path]["decision"] for path in stories} == {"kept"}
    assert not {"/calendar/39"} & set(site.seen)


def test_pages_that_belong_elsewhere(site: Site, tmp_path: Path) -> None:
    def page(canonical: str) -> str:
        return f"<html><head><link rel=canonical href='{canonical}'></head>{PARAGRAPH}"

    site.routes |= {
        "/": PARAGRAPH + _links("/copy", "/lost", "/loop-a", "/loop-b", "/own", "/away", "/b-gone"),
        "/copy": page("/true"), "/true": page("/true"), "/own": page("/own?utm_source=x"),
        "/away": page("http://elsewhere.example/"),
        "/loop-a": page("/loop-b"), "/loop-b": page("/loop-a"), "/lost": page("/b-gone"),
    }
    found = _run(site, tmp_path)
    said = {path: found[path]["decision"] for path in ("/copy", "/true", "/own", "/away", "/lost")}
    assert said == {
        "/copy": "canonical-elsewhere", "/true": "kept", "/own": "kept", "/away": "kept",
        "/lost": "kept",  # its better address had been asked for already, and is not there
    }
    assert found["/copy"]["detail"] == f"http://{HOST}/true"
    loop = sorted(found[path]["decision"] for path in ("/loop-a", "/loop-b"))
    assert loop == ["canonical-elsewhere", "kept"]
    items = read_archive(tmp_path / gather.FOLDER / gather.ARCHIVE)
    kept = {item.url for item in items if isinstance(item, Stored) and item.body}
    assert f"http://{HOST}/copy" not in kept


@pytest.mark.parametrize(
    ("body", "shell"),
    [
        ("<div id=root></div><script src=/b.js></script>", True),
        ("<app-root></app-root><script src=/b.js></script>", True),
        ("<script src=/b.js></script>", True),
        ("<noscript>Please enable JavaScript to view this page.</noscript><script>go()</script>",
         True),
        (PARAGRAPH + "<div id=root></div><script src=/b.js></script>", False),
        ("<p>This page is still empty.</p><script src=/b.js></script>", False),
        ("<div id=root></div>", False),
        ("<noscript><img src=/pixel></noscript><p>Short.</p><script>count()</script>", False),
    ],
)
def test_shells(body: str, shell: bool) -> None:
    assert needs_javascript(parse_page(f"<html><title>A page</title><body>{body}")) is shell


def test_a_shell_is_counted_and_its_links_are_followed(site: Site, tmp_path: Path) -> None:
    site.routes |= {
        "/": "<a href=/a>a</a><div id=app></div><script src=/bundle.js></script>", "/a": PARAGRAPH,
    }
    found = _run(site, tmp_path)
    assert found["/"]["decision"] == "needs-javascript"
    assert found["/a"]["decision"] == "kept"


def test_a_page_that_breaks_the_reader_costs_one_page(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingest.sources import outcome

    def broken(tree: Any, url: str) -> Any:
        if url.endswith("/bad"):
            raise ValueError("no parser is perfect")
        return tags_of(tree, url)

    monkeypatch.setattr(outcome, "tags_of", broken)
    site.routes |= {"/": PARAGRAPH + _links("/bad", "/good"), "/bad": "x", "/good": PARAGRAPH}
    found = _run(site, tmp_path)
    assert (found["/bad"]["decision"], found["/bad"]["detail"]) == ("unreadable", "ValueError")
    assert found["/good"]["decision"] == "kept"


def _tagged(site: Site, path: str, tag: str, body: str, extra: str = "") -> None:
    def route(handler: BaseHTTPRequestHandler) -> None:
        known = handler.headers["If-None-Match"] == tag
        status = "304 Not Modified" if known else "200 OK"
        head = f"HTTP/1.1 {status}\r\nETag: {tag}\r\n{extra}Content-Type: text/html\r\n\r\n"
        handler.wfile.write(head.encode() + (b"" if known else body.encode()))
        site.answers[path] = status[:3]  # type: ignore[attr-defined]

    site.routes[path] = route


def test_what_did_not_change_is_not_sent_again(site: Site, tmp_path: Path) -> None:
    site.answers = {}  # type: ignore[attr-defined]
    site.routes |= {"/plain": PARAGRAPH}
    _tagged(site, "/", '"1"', PARAGRAPH + _links("/a", "/b", "/c", "/plain"))
    for name in "abc":
        _tagged(site, f"/{name}", '"1"', PARAGRAPH + name)
    first = _run(site, tmp_path / "june")
    _tagged(site, "/b", '"2"', PARAGRAPH + "changed")
    _tagged(site, "/c", '"1"', PARAGRAPH + "c", "X-Robots-Tag: noai\r\n")
    second = _run(site, tmp_path / "july", earlier=str(tmp_path / "june"))
    assert site.answers == {"/": "304", "/a": "304", "/b": "200", "/c": "304"}  # type: ignore[attr-defined]
    assert second["/a"] == first["/a"]
    assert second["/b"]["sha256"] != first["/b"]["sha256"]
    assert second["/c"]["decision"] == "opt-out"  # what the 304 says counts
    july = gather.load_artifact(tmp_path / "july" / gather.FOLDER, gather.KIND)
    assert july.notes["confirmed"] == 3
    third = _run(site, tmp_path / "whole")
    whole = gather.load_artifact(tmp_path / "whole" / gather.FOLDER, gather.KIND)
    assert third == second
    assert july.digest == whole.digest
    _archive_is_whole(july.path / gather.ARCHIVE)


def _archive_is_whole(path: Path) -> None:
    from warcio.archiveiterator import ArchiveIterator

    stored = {item.url: item for item in read_archive(path) if isinstance(item, Stored)}
    assert b"Rivers" in stored[f"http://{HOST}/a"].body
    with open(path, "rb") as file:
        names = [
            (record.rec_type, record.rec_headers.get_header("WARC-Target-URI"))
            for record in ArchiveIterator(file, check_digests="raise")
        ]
    at = names.index(("revisit", f"http://{HOST}/a"))
    assert [kind for kind, _ in names[at - 1 : at + 2]] == ["response", "revisit", "request"]


def test_an_earlier_crawl_that_is_none(site: Site, tmp_path: Path) -> None:
    site.routes["/"] = PARAGRAPH
    with pytest.raises(DataError, match="another --run folder"):
        _run(site, tmp_path / "a", earlier=str(tmp_path / "a"))


def test_a_full_disk_is_one_line_and_the_crawl_goes_on_with_room(
    site: Site, tmp_path: Path
) -> None:
    import resource
    import subprocess
    import sys

    paths = [f"/p{number}" for number in range(30)]
    site.routes["/"] = "".join(f"<a href={path}>x</a>" for path in paths)
    site.routes |= dict.fromkeys(paths, "<p>hello")
    config = tmp_path / "c.toml"
    (mapped,) = site.connect.values()
    connect = f'{{"{HOST}:80" = "{mapped}"}}'
    config.write_text(f'[gather.web]\nseeds = ["http://{HOST}/"]\nconnect = {connect}\n')
    # -B: under the limit Python would leave half a .pyc of whatever it compiles first.
    command = [sys.executable, "-B", "-m", "commonroot", "gather", "--config", str(config), "--run"]

    def run(kilobytes: int) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if kilobytes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)

        return subprocess.run(
            [*command, str(tmp_path / "run")], capture_output=True, text=True, preexec_fn=limit
        )

    full = run(20)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert "commonroot: " in full.stderr
    assert not (tmp_path / "run" / gather.FOLDER).exists()
    assert run(0).returncode == 0
    lines = (tmp_path / "run" / gather.FOLDER / gather.FETCHES).read_text("utf-8").splitlines()
    assert len(lines) == 32
