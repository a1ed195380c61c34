"""Pages out of other crawlers' archives, as files, by address and through an index."""

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
from commonroot.errors import DataError
from ingest import clean, gather
from ingest.fetch import FetchConfig
from ingest.gather import GatherConfig
from ingest.sources.found import Found
from ingest.sources.warc import WarcConfig
from tests.ingest.articles import article
from tests.ingest.found import found_in
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
    assert sorted(row["url"] for row in rows) == [f"http://{HOST}/0", f"http://{HOST}/1"]
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
