"""Sources that are no crawl: archives, datasets, dumps, folders, other packages."""

import bz2
import gzip
import io
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from commonroot.artifact import json_lines
from commonroot.errors import ConfigError, DataError
from ingest import clean, gather
from ingest.fetch import FetchConfig
from ingest.gather import GatherConfig
from ingest.sources.files import FilesConfig
from ingest.sources.found import Found, Source
from ingest.sources.hub import HubConfig
from ingest.sources.warc import WarcConfig
from ingest.sources.wikipedia import WikipediaConfig, plain_text
from tests.conftest import make_text
from tests.ingest.articles import article
from tests.ingest.webserver import HOST, Site

PAGE = "<html><body><p>{}</p></body></html>"


def record(
    writer: WARCWriter,
    name: str,
    body: bytes | str,
    status: str = "200 OK",
    kind: str = "response",
    **headers: str,
) -> None:
    data = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": "text/html", "Content-Length": str(len(data))}
    fields |= {key.replace("_", "-"): value for key, value in headers.items()}
    http = StatusAndHeaders(status, list(fields.items()), protocol="HTTP/1.1")
    url = f"http://{HOST}/{name}"
    writer.write_record(
        writer.create_warc_record(
            url,
            kind,
            payload=io.BytesIO(data),
            length=len(data),
            http_headers=http if kind == "response" else None,
            warc_content_type="text/plain" if kind != "response" else "",
            warc_headers_dict={"WARC-Date": "2025-05-05T05:05:05Z"},
        )
    )


def archive(gzipped: bool = True) -> bytes:
    """Three pages to keep, and one of each kind that is not."""
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=gzipped)
    writer.write_record(writer.create_warcinfo_record("a.warc", {"format": "WARC File Format 1.1"}))
    record(writer, "one", PAGE.format("first"))
    record(writer, "packed", gzip.compress(PAGE.format("packed").encode()), Content_Encoding="gzip")
    record(writer, "gone", "not here", status="404 Not Found")
    record(writer, "picture", b"\x89PNG", Content_Type="image/png")
    record(writer, "refused", PAGE.format("mine"), X_Robots_Tag="noai")
    record(writer, "long", "x" * 3000)
    record(writer, "robots.txt", "User-agent: *", Content_Type="text/plain")
    record(writer, "taken-out", "text of an earlier tool", kind="conversion")
    record(writer, "one", PAGE.format("first, crawled again"))
    return out.getvalue()


DECISIONS = {
    "one": "kept",
    "packed": "kept",
    "gone": "http-404",
    "picture": "content-type",
    "refused": "opt-out",
    "long": "too-large",
    "taken-out": "kept",
}


def found_in(source: Source, fetch: FetchConfig | None = None) -> list[Found]:
    return list(source.documents(fetch or FetchConfig(), Path()))


def decisions(found: list[Found]) -> dict[str, str]:
    named: dict[str, str] = {}
    for item in found:
        named.setdefault(item.url.rpartition("/")[2], item.decision)
    return named


def zstd(data: bytes) -> bytes:
    """As archives are: several frames, one after the other."""
    half = len(data) // 2
    codec = pa.Codec("zstd")
    return b"".join(codec.compress(part, asbytes=True) for part in (data[:half], data[half:]))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.warc.gz", archive()),
        ("a.warc", archive(gzipped=False)),
        ("a.warc.zst", zstd(archive(gzipped=False))),
    ],
)
def test_pages_of_an_archive_are_judged_as_if_just_fetched(
    name: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    found = found_in(WarcConfig(files=(str(tmp_path),), record_bytes=2000))
    assert decisions(found) == DECISIONS
    bodies = [item.body for item in found if item.decision == "kept"]
    assert bodies[:2] == [PAGE.format("first").encode(), PAGE.format("packed").encode()]
    (page,) = [item.response for item in found if item.url.endswith("packed")]
    assert page is not None
    assert (page.fetched_at, page.header("Content-Encoding")) == ("2025-05-05T05:05:05Z", "")


def test_what_an_archive_gave_is_archived_and_cleaned_with_its_own_date(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    for number in (0, 1, 0):
        page = PAGE.format(article(number))
        record(writer, f"{number}", page, Link='<https://example.org/l>; rel="license"')
    (tmp_path / "x.warc.gz").write_bytes(out.getvalue())
    config = GatherConfig(warc=WarcConfig(files=(str(tmp_path / "x.warc.gz"),)))
    web = gather.run(config, tmp_path / "run")
    assert web.metrics["decisions"] == {"kept": 2, "repeated": 1}
    lines = list(json_lines((web.path / gather.FETCHES).read_text()))
    assert {line["kind"] for line in lines} == {"archived"}
    assert str(tmp_path) not in (web.path / "manifest.json").read_text()
    corpus = clean.run(clean.CleanConfig(), tmp_path / "run")
    rows = [
        row
        for file in (corpus.path / "data").glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    ]
    assert {row["fetched_at"] for row in rows} == {"2025-05-05T05:05:05Z"}
    assert {row["licence"] for row in rows} == {"https://example.org/l"}


def test_one_damaged_record_costs_one_record(tmp_path: Path) -> None:
    data = bytearray(archive())
    at = data.find(b"\x1f\x8b\x08", data.find(b"\x1f\x8b\x08", 10) + 10)  # the third member
    data[at + 20 : at + 60] = bytes(40)
    (tmp_path / "a.warc.gz").write_bytes(data)
    found = decisions(found_in(WarcConfig(files=(str(tmp_path),), record_bytes=2000)))
    assert "damaged-record" in found.values()
    assert sum(decision == "kept" for decision in found.values()) >= 2
    assert found["taken-out"] == "kept"


def test_a_bomb_is_too_large_and_costs_no_memory(tmp_path: Path) -> None:
    import tracemalloc

    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    record(writer, "bomb", gzip.compress(bytes(200_000_000), 9), Content_Encoding="gzip")
    record(writer, "after", PAGE.format("still read"))
    (tmp_path / "a.warc.gz").write_bytes(out.getvalue())
    tracemalloc.start()
    found = decisions(found_in(WarcConfig(files=(str(tmp_path),), record_bytes=100_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"bomb": "too-large", "after": "kept"}
    assert peak < 5e6


def test_old_arc_files_are_read(tmp_path: Path) -> None:
    body = PAGE.format("from 1999").encode()
    answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    form = b"1 0 x\nURL IP-address Archive-date Content-type Archive-length\n"
    head = b"filedesc://a.arc 0.0.0.0 19990101000000 text/plain %d\n%s\n" % (len(form), form)
    line = f"http://{HOST}/old 192.0.2.1 19990102030405 text/html {len(answer)}\n".encode()
    (tmp_path / "a.arc").write_bytes(head + line + answer + b"\n")
    found = found_in(WarcConfig(files=(str(tmp_path),)))
    assert decisions(found) == {"old": "kept"}
    assert found[0].response
    assert found[0].response.fetched_at == "1999-01-02T03:04:05Z"


def ranged(data: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """A route that answers Range requests only, as a bucket of archives does."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        first, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        handler.send_response(206 if part else 416)
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        handler.wfile.write(part)

    return route


def test_pages_are_looked_up_in_an_index_and_fetched_by_range(site: Site) -> None:
    data = archive()
    starts = [at for at in range(len(data)) if data[at : at + 3] == b"\x1f\x8b\x08"]
    site.routes["/data/a.warc.gz"] = ranged(data)
    rows = [
        {"url": f"http://{HOST}/{name}", "filename": "a.warc.gz", "offset": str(starts[number]),
         "length": str(starts[number + 1] - starts[number])}
        for number, name in ((1, "one"), (3, "gone"), (5, "refused"))
    ]
    lines = "\n".join(map(json.dumps, rows)).encode()
    query = f"/index?url={HOST}/*&output=json&page="
    kind = {"Content-Type": "text/x-ndjson"}
    site.routes[f"{query}0"] = (200, kind, lines)
    site.routes[f"{query}1"] = (200, kind, b"not json")
    source = WarcConfig(
        index=f"http://{HOST}/index", data=f"http://{HOST}/data/", pages=(f"{HOST}/*",)
    )
    polite = FetchConfig(delay_s=0, connect=site.connect)
    found = found_in(source, polite)
    assert [item.decision for item in found] == ["kept", "http-404", "opt-out", "damaged-index"]
    assert found[0].body == PAGE.format("first").encode()


def test_an_archive_is_read_from_its_address_in_ranges(site: Site) -> None:
    site.routes["/a.warc.gz"] = ranged(archive())
    source = WarcConfig(urls=(f"http://{HOST}/a.warc.gz",), record_bytes=2000)
    found = found_in(source, FetchConfig(delay_s=0, connect=site.connect))
    assert decisions(found) == DECISIONS


def test_pages_without_an_index_are_refused() -> None:
    with pytest.raises(DataError, match="name one"):
        WarcConfig(pages=("x.example/*",)).fingerprint()


def test_a_dataset_in_a_folder_is_read_with_its_columns(tmp_path: Path) -> None:
    rows = [{"body": f"text {n}", "link": f"http://x.example/{n}"} for n in range(5)]
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = HubConfig(dataset=str(folder), text="body", url="link", most=4, licence="l:1")
    found = found_in(source)
    assert [(item.url, item.body, item.licence) for item in found] == [
        (row["link"], row["body"].encode(), "l:1") for row in rows[:4]
    ]
    unnamed = found_in(source.model_copy(update={"url": ""}))
    assert unnamed[0].url == "dataset:letters/default/train/1"
    assert source.without_paths().dataset == "letters"
    before = source.fingerprint()
    (folder / "train.jsonl").write_text(json.dumps(rows[0]))
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "words"}, "no column words; it has body"),
        ({"split": "test"}, "cannot load"),
        ({"dataset": "none"}, "cannot load"),
    ],
)
def test_an_unusable_dataset_is_one_line(
    changes: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.jsonl").write_text(json.dumps({"body": "x"}))
    given = {"dataset": str(tmp_path / "d"), "text": "body"} | changes
    with pytest.raises(DataError, match=words) as caught:
        found_in(HubConfig.model_validate(given))
    assert "\n" not in str(caught.value)


def test_parquet_rows_are_documents_and_a_damaged_file_is_counted(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", "two", None], "url": ["http://x.example/1", None, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(pa.table({"words": ["one"]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    found = found_in(FilesConfig(folder=str(tmp_path)))
    assert [(item.url, item.body, item.decision) for item in found] == [
        ("http://x.example/1", b"one", "kept"),
        ("file:///a.parquet?row=2", b"two", "kept"),
        ("file:///a.parquet?row=3", b"", "kept"),  # counted as unreadable when it is archived
        ("file:///b.parquet", b"", "no-text-column"),
        ("file:///c.parquet?after=0", b"", "damaged-file"),
    ]


ARTICLE = """{{Infobox|name=x}}
'''Bread''' is a [[staple food|staple]] made of [[flour]].<ref>A book, p. 3</ref>
[[File:Loaf.jpg|thumb|A loaf]]
{| class="wikitable"
| cell
|}
== History ==
It is old &amp; well known. * Not a list.
== References ==
{{reflist}}
[[Category:Food]]"""


def dump(*pages: tuple[str, str, str]) -> bytes:
    parts = [
        f"<page><title>{title}</title><ns>{ns}</ns><id>1</id><revision><id>2</id>"
        f"<text>{markup.replace('&', '&amp;').replace('<', '&lt;')}</text></revision></page>"
        for title, ns, markup in pages
    ]
    head = "<siteinfo><base>https://xx.wiki.example/wiki/Main_Page</base></siteinfo>"
    space = "http://www.mediawiki.org/xml/export-0.11/"
    return f'<mediawiki xmlns="{space}">{head}{"".join(parts)}</mediawiki>'.encode()


def test_markup_is_taken_off() -> None:
    text = plain_text(ARTICLE)
    assert text.startswith("Bread is a staple made of flour.")
    assert "It is old & well known." in text
    for gone in ("Infobox", "book", "Loaf", "cell", "reflist", "Food", "[", "{", "'''", "<"):
        assert gone not in text


def test_articles_of_a_dump(tmp_path: Path) -> None:
    data = dump(("Bread and butter", "0", ARTICLE), ("Talk:Bread", "1", ARTICLE), ("Bit", "0", "x"))
    (tmp_path / "pages.xml.bz2").write_bytes(bz2.compress(data))
    found = found_in(WikipediaConfig(dump=(str(tmp_path),), least_chars=20))
    assert [(item.url, item.decision) for item in found] == [
        ("https://xx.wiki.example/wiki/Bread_and_butter", "kept"),
        ("https://xx.wiki.example/wiki/Bit", "too-short"),
    ]
    assert found[0].body.startswith(b"Bread and butter\n\nBread is")


def test_a_cut_dump_keeps_what_came_before(tmp_path: Path) -> None:
    many = [(f"Page {n}", "0", f"{ARTICLE} {make_text(n, 200)}") for n in range(40)]
    whole = dump(*many)
    (tmp_path / "pages.xml").write_bytes(whole[: len(whole) // 2])
    found = found_in(WikipediaConfig(dump=(str(tmp_path / "pages.xml"),), least_chars=20))
    assert found[-1].decision == "damaged-file"
    assert [item.decision for item in found[:-1]] == ["kept"] * (len(found) - 1)
    assert len(found) > 15


MODULE = """
from typing import ClassVar
from ingest.sources.found import Found, Source

class Letters(Source):
    kind: ClassVar[str] = "letter"
    count: int = 0

    @property
    def wanted(self): return self.count > 0
    def fingerprint(self): return str(self.count)
    def documents(self, fetch, scratch):
        for number in range(self.count):
            yield Found(f"letter:{number}", "text/plain", b"Dear reader, this is a letter.")
"""


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a source of its own."""
    info = tmp_path / "site" / "letters-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[commonroot.sources]\nletters = letters_1:Letters\n")
    (info.parent / "letters_1.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(info.parent))


def test_a_source_of_another_package(tmp_path: Path, other_package: None) -> None:
    config = GatherConfig.model_validate({"more": {"letters": {"count": 3}}})
    web = gather.run(config, tmp_path / "run")
    assert web.metrics["decisions"] == {"kept": 3}
    with pytest.raises(ConfigError, match=r"gather\.more\.letters\.size"):
        gather.run(GatherConfig(more={"letters": {"size": 3}}), tmp_path / "run")
    with pytest.raises(ConfigError, match="letters"):
        gather.run(GatherConfig(more={"postcards": {}}), tmp_path / "run")


def test_nothing_is_gathered_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gather\.wikipedia\.dump"):
        gather.run(GatherConfig(), tmp_path / "run")
