"""The crawler: what it asks for, what it never asks for, and that it always asks for the same."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from commonroot.errors import DataError
from ingest import gather
from ingest.archive import Stored, read_archive
from ingest.gather import GatherConfig
from ingest.reservations import AI_TXT, TDMREP
from ingest.sources.files import FilesConfig
from ingest.sources.web import WebConfig
from tests.ingest.webserver import HOST, Site

FILES = (TDMREP, AI_TXT)
"""In which a site may refuse training: asked for once, after robots.txt."""
PARAGRAPH = "<p>" + "Rivers carry sand and stones from the hills to the sea. " * 5 + "</p>"


def _config(site: Site, **settings: Any) -> GatherConfig:
    values = {"seeds": (f"http://{HOST}/",), "connect": site.connect, "retries": 0, **settings}
    return GatherConfig(web=WebConfig(**values))


def _fetches(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / gather.FOLDER / gather.FETCHES).read_text("utf-8").splitlines()
    return {
        record["url"].removeprefix(f"http://{HOST}"): record for record in map(json.loads, lines)
    }


def _link(*paths: str) -> str:
    return PARAGRAPH + "".join(f"<a href='{path}'>x</a>" for path in paths)


def test_links_are_followed_and_rules_obeyed(site: Site, tmp_path: Path) -> None:
    site.routes |= {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /private"),
        "/": _link("/a", "/private/x", "/go", "http://elsewhere.example/", "/refused", "/header"),
        "/a": _link("/a/deep"),
        "/a/deep": _link("/a/deeper"),
        "/go": (302, {"Location": "/private/y"}, b""),
        "/refused": "<meta name=robots content=noai>" + _link("/linked-by-refused"),
        "/header": (
            200,
            {"Content-Type": "text/html", "X-Robots-Tag": "none"},
            _link("/linked-by-none").encode(),
        ),
    }
    gather.run(_config(site, max_depth=2), tmp_path)
    assert set(site.seen) == {
        "/robots.txt",
        *FILES,
        "/sitemap.xml",
        "/",
        "/a",
        "/a/deep",
        "/go",
        "/refused",
        "/header",
        "/linked-by-refused",
    }
    fetches = _fetches(tmp_path)
    assert fetches["/private/x"]["decision"] == "robots"
    assert fetches["/private/y"]["decision"] == "robots"
    assert fetches["/refused"]["decision"] == "opt-out"
    assert fetches["/refused"]["opt_out"]["signal"] == "noai"
    assert fetches["/a"]["decision"] == "kept"
    stored = read_archive(tmp_path / gather.FOLDER / gather.ARCHIVE)
    bodies = {item.url: item.body for item in stored if isinstance(item, Stored)}
    assert bodies[f"http://{HOST}/refused"] == b""
    assert b"Rivers" in bodies[f"http://{HOST}/a"]


@pytest.mark.parametrize(
    ("answer", "fetched"),
    [
        ((404, {}, b""), True),
        ((403, {}, b""), True),
        ((503, {}, b""), False),
        ((302, {"Location": "/robots.txt"}, b""), True),
    ],
)
def test_robots_out_of_reach(site: Site, tmp_path: Path, answer: Any, fetched: bool) -> None:
    site.routes |= {"/robots.txt": answer, "/": PARAGRAPH}
    if fetched:
        gather.run(_config(site), tmp_path)
    else:
        with pytest.raises(DataError, match=r"robots.txt answered 503"):
            gather.run(_config(site), tmp_path)
    assert ("/" in site.seen) is fetched


def test_redirect_loops_end_and_chains_are_followed(site: Site, tmp_path: Path) -> None:
    site.routes |= {"/": _link("/l1", "/c0"), "/c3": PARAGRAPH}
    site.routes |= {"/l1": (302, {"Location": "/l2"}, b""), "/l2": (302, {"Location": "/l1"}, b"")}
    site.routes |= {f"/c{i}": (301, {"Location": f"/c{i + 1}"}, b"") for i in range(3)}
    site.routes |= {"/c3": PARAGRAPH}
    gather.run(_config(site, max_redirects=3), tmp_path)
    assert sorted(site.seen).count("/l1") == 1
    assert _fetches(tmp_path)["/c3"]["decision"] == "kept"
    site.seen.clear()
    gather.run(_config(site, max_redirects=2), tmp_path / "short")
    assert "/c3" not in site.seen
    assert _fetches(tmp_path / "short")["/c2"]["decision"] == "redirect-limit"


def test_budgets_cut_at_the_same_place_whatever_the_threads(site: Site, tmp_path: Path) -> None:
    paths = [f"/p{i:02d}" for i in range(30)]
    site.routes |= {"/": _link(*reversed(paths)), **dict.fromkeys(paths, PARAGRAPH)}
    digests = set()
    for threads in (1, 8):
        site.seen.clear()
        config = _config(site, max_pages=11, threads=threads)
        web = gather.run(config, tmp_path / str(threads))
        first = ["/robots.txt", *FILES, "/sitemap.xml", "/"]
        assert sorted(site.seen) == sorted([*first, *paths[:10]])
        assert web.metrics["not_fetched"] == 20
        lines = (web.path / gather.FETCHES).read_bytes()
        digests.add(lines)
    assert len(digests) == 1


def test_a_site_that_asks_for_very_long_pauses_is_left_alone(site: Site, tmp_path: Path) -> None:
    robots = b"User-agent: *\nCrawl-delay: 9999\nDisallow:"
    site.routes |= {"/robots.txt": (200, {"Content-Type": "text/plain"}, robots), "/": PARAGRAPH}
    with pytest.raises(DataError, match="Crawl-delay of 9999 s"):
        gather.run(_config(site), tmp_path)
    assert site.seen == ["/robots.txt"]


def test_www_is_the_same_site_and_others_are_not(site: Site, tmp_path: Path) -> None:
    site.routes |= {
        "/": (301, {"Location": f"http://www.{HOST}/home"}, b""),
        "/home": _link("/away"),
        "/away": (302, {"Location": "http://elsewhere.example/"}, b""),
    }
    connect = {**site.connect, f"www.{HOST}:80": f"127.0.0.1:{site.port}"}
    web = gather.run(_config(site, connect=connect), tmp_path)
    maps = {"http-404": 2}  # neither has a sitemap
    pages = {"kept": 1, "redirect": 1, "redirect-out-of-scope": 1}
    assert web.metrics["decisions"] == maps | pages


def test_a_host_that_says_no_is_asked_no_more(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [f"/p{number:03d}" for number in range(200)]
    site.routes |= {"/": _link(*paths), **dict.fromkeys(paths, PARAGRAPH)}
    site.routes["/p001"] = (403, {}, b"no")
    gather.run(_config(site), tmp_path / "one")
    said = Counter(record["decision"] for record in _fetches(tmp_path / "one").values())
    assert said["http-403"] == 1
    assert said["host-refused"] >= 200 - 64  # those under way at the time may end
    assert len(site.seen) < 80
    assert "1 host said no" in capsys.readouterr().err
    site.seen.clear()
    gather.run(_config(site, refusals=0, trap_pages=1_000), tmp_path / "all")
    assert set(paths) <= set(site.seen)


@pytest.mark.parametrize(
    ("robots", "settings", "asked"),
    [
        ((404, {}, b""), {}, True),
        ((200, {"Content-Type": "text/plain"}, b"User-agent: *\nAllow: /"), {}, True),
        ((404, {}, b""), {"sitemaps": False}, False),
        ((200, {"Content-Type": "text/plain"}, b"Sitemap: /other.xml"), {}, False),
        ((200, {"Content-Type": "text/plain"}, b"User-agent: *\nDisallow: /*.xml"), {}, False),
    ],
)
def test_a_sitemap_that_nobody_names_is_tried_once(
    site: Site, tmp_path: Path, robots: Any, settings: dict[str, Any], asked: bool
) -> None:
    xml = f"<urlset><url><loc>http://{HOST}/hidden</loc></url></urlset>".encode()
    site.routes |= {
        "/robots.txt": robots, "/": _link("/a"), "/a": PARAGRAPH, "/hidden": PARAGRAPH,
        "/sitemap.xml": (200, {"Content-Type": "application/xml"}, xml),
    }
    gather.run(_config(site, **settings), tmp_path)
    assert site.seen.count("/sitemap.xml") == asked
    assert ("/hidden" in _fetches(tmp_path)) is asked


@pytest.mark.parametrize("answer", [(403, {}, b"no"), "<p>not found, says a page with 200"])
def test_what_a_guessed_sitemap_answers_is_held_against_nobody(
    site: Site, tmp_path: Path, answer: Any
) -> None:
    site.routes |= {"/": _link("/a"), "/a": PARAGRAPH, "/sitemap.xml": answer}
    gather.run(_config(site), tmp_path)
    assert _fetches(tmp_path)["/a"]["decision"] == "kept"
    stored = read_archive(tmp_path / gather.FOLDER / gather.ARCHIVE)
    bodies = {item.url: item.body for item in stored if isinstance(item, Stored)}
    assert b"says a page" not in bodies[f"http://{HOST}/sitemap.xml"]


def test_sitemaps_are_a_start(site: Site, tmp_path: Path) -> None:
    xml = f"<urlset><url><loc>http://{HOST}/hidden</loc></url></urlset>".encode()
    site.routes |= {
        "/robots.txt": (
            200,
            {"Content-Type": "text/plain"},
            f"Sitemap: http://{HOST}/map.xml".encode(),
        ),
        "/map.xml": (200, {"Content-Type": "application/xml"}, xml),
        "/": PARAGRAPH,
        "/hidden": PARAGRAPH,
    }
    gather.run(_config(site), tmp_path)
    assert _fetches(tmp_path)["/hidden"]["decision"] == "kept"
    assert (
        "/map.xml" not in _fetches(tmp_path) or _fetches(tmp_path)["/map.xml"]["kind"] == "sitemap"
    )


def test_a_second_call_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    site.routes["/"] = PARAGRAPH
    first = gather.run(_config(site), tmp_path)
    site.seen.clear()
    again = gather.run(_config(site), tmp_path)
    assert (again.digest, again.fresh, site.seen) == (first.digest, False, [])


def test_equal_crawls_have_equal_digests(site: Site, tmp_path: Path) -> None:
    site.routes |= {"/": _link("/a", "/b"), "/a": PARAGRAPH, "/b": PARAGRAPH}
    runs = [gather.run(_config(site), tmp_path / name) for name in ("one", "two")]
    assert runs[0].digest == runs[1].digest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the seeds file"),
        ("# nothing\n\n", "holds no address"),
        ("http://ok.example/\nnot an address\n", "line 2"),
        (b"\xff\xfe\x00bad", "not UTF-8"),
    ],
)
def test_unusable_seeds_files(tmp_path: Path, content: str | bytes | None, words: str) -> None:
    path = tmp_path / "urls.txt"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=words) as caught:
        gather.run(GatherConfig(web=WebConfig(seeds_file=str(path))), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_seeds_file_is_read_again_when_it_changes(site: Site, tmp_path: Path) -> None:
    site.routes |= {"/a": PARAGRAPH, "/b": PARAGRAPH}
    path = tmp_path / "urls.txt"
    config = _config(site, seeds=(), seeds_file=str(path))
    for name in ("a", "b"):
        path.write_text(f"http://{HOST}/{name}  # a page\n")
        web = gather.run(config, tmp_path / "run")
        assert f"/{name}" in site.seen
    assert str(tmp_path) not in json.dumps(dict(web.manifest))


def test_nothing_to_gather_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to gather: set gather\.web\.seeds"):
        gather.run(GatherConfig(), tmp_path)


def test_a_private_address_is_not_fetched(site: Site, tmp_path: Path) -> None:
    seeds = (f"http://127.0.0.1:{site.port}/",)
    with pytest.raises(DataError, match="no public address"):
        gather.run(GatherConfig(web=WebConfig(seeds=seeds, delay_s=0)), tmp_path)
    assert site.seen == []


def test_a_folder_of_documents(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.html").write_text(PARAGRAPH)
    (folder / "sub" / "b.txt").write_text("plain words")
    lines = '{"text": "line one"}\nnot json\n{"text": "two", "url": "http://x.example/2"}\n'
    (folder / "c.jsonl").write_text(lines)
    (folder / "ignored.png").write_bytes(b"\x89PNG")
    web = gather.run(GatherConfig(files=FilesConfig(folder=str(folder))), tmp_path / "run")
    assert web.metrics["decisions"] == {"kept": 4, "unreadable": 1}
    items = read_archive(web.path / gather.ARCHIVE)
    stored = {item.url: item.body for item in items if isinstance(item, Stored)}
    assert stored["file:///sub/b.txt"] == b"plain words"
    assert stored["http://x.example/2"] == b"two"
    assert str(tmp_path) not in json.dumps(dict(web.manifest))
    with pytest.raises(DataError, match="holds no"):
        gather.run(GatherConfig(files=FilesConfig(folder=str(tmp_path / "none"))), tmp_path / "r2")


def test_a_site_s_files_refuse_before_anything_is_asked(site: Site, tmp_path: Path) -> None:
    robots = f"User-agent: *\nAllow: /\nLicense: http://{HOST}/terms.xml".encode()
    reserved = b'[{"location": "/reserved/", "tdm-reservation": 1}]'
    site.routes |= {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, robots),
        TDMREP: (200, {"Content-Type": "application/json"}, reserved),
        AI_TXT: (200, {"Content-Type": "text/plain"}, b"User-Agent: *\nDisallow: /studio/"),
        "/": _link("/reserved/a", "/studio/b", "/open/c"),
        "/open/c": PARAGRAPH,
        "/terms.xml": (
            200,
            {"Content-Type": "application/rsl+xml"},
            b'<rsl><content url="/open/"><license/></content></rsl>',
        ),
    }
    gather.run(_config(site), tmp_path / "run")
    said = {
        path: (record["decision"], (record["opt_out"] or {}).get("where"))
        for path, record in _fetches(tmp_path / "run").items()
    }
    assert said == {
        "/": ("kept", None),
        "/reserved/a": ("opt-out-site", TDMREP),
        "/studio/b": ("opt-out-site", AI_TXT),
        "/open/c": ("kept", None),
        "/sitemap.xml": ("http-404", None),
    }
    assert not {"/reserved/a", "/studio/b"} & set(site.seen)


def test_a_licence_that_is_named_and_not_there_permits_nothing(site: Site, tmp_path: Path) -> None:
    robots = f"License: http://{HOST}/terms.xml".encode()
    site.routes |= {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, robots),
        "/": PARAGRAPH,
    }
    with pytest.raises(DataError, match="1 opt-out-site"):
        gather.run(_config(site), tmp_path / "run")
    assert "/" not in site.seen
