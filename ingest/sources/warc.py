"""Web archives of other crawlers: WARC, WET and ARC, as files or out of Common Crawl's index.

A page from an archive is judged as if it had just been fetched: status, content type, length and
opt-outs count in the same way. Whether the site's robots.txt allowed the crawl is for whoever made
the archive to answer (Common Crawl obeys it).
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote, urljoin, urlsplit

from pydantic import Field

from commonroot.artifact import text_sha256
from commonroot.errors import DataError
from ingest.archive import HOP_HEADERS, Damaged, read_on
from ingest.fetch import HTML_TYPES, FetchConfig, Fetcher, FetchFailed, Response
from ingest.links import canonical_url
from ingest.sources.found import TEXT, Found, Source, files_under, sha256_of
from ingest.sources.frontier import Target
from ingest.sources.outcome import Bounds, judge

__all__ = ["WarcConfig"]

ENDINGS = tuple(
    f".{kind}{packed}" for kind in ("warc", "wet", "arc") for packed in ("", ".gz", ".zst")
)
INDEX_TYPES = ("text/x-ndjson", "application/json", "text/plain", "text/html")
INDEX_BYTES = 50_000_000
BLOCK = 1024
"""Compressed bytes that are unpacked at once."""


class WarcConfig(Source):
    """Archives, or pages out of Common Crawl."""

    kind: ClassVar[str] = "archived"

    files: tuple[str, ...] = ()
    """Files or folders of WARC, WET or ARC: plain, .gz or .zst."""
    urls: tuple[str, ...] = ()
    """Addresses of such files."""
    index: str = Field("", pattern="^(https?://.+)?$")
    """Address of a Common Crawl index, such as
    https://index.commoncrawl.org/CC-MAIN-2026-30-index."""
    pages: tuple[str, ...] = ()
    """Pages that are looked up there: addresses, example.org/* or *.example.org."""
    data: str = Field("https://data.commoncrawl.org/", pattern="^https?://.+/$")
    """Where the files lie that the index names."""
    record_bytes: int = Field(4_000_000, ge=1_000)
    """Bytes of one document after decompression; a longer one is dropped."""
    most: int = Field(1_000_000, ge=1)
    """Documents to take."""

    @property
    def wanted(self) -> bool:
        """Whether anything is named."""
        return bool(self.files or self.urls or self.pages)

    def fingerprint(self) -> str:
        """Over the files' bytes; of what comes by address, the addresses."""
        if self.pages and not self.index:
            raise DataError("gather.warc.pages are looked up in gather.warc.index: name one")
        paths = files_under(self.files, ENDINGS, "gather.warc.files")
        return text_sha256([sha256_of(paths), self.urls, self.index, self.pages])

    def without_paths(self) -> "WarcConfig":
        """With the files' names alone."""
        return self.model_copy(update={"files": tuple(Path(file).name for file in self.files)})

    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """Files, then addresses, then what the index names, each in its own order."""
        del scratch
        taken = 0
        for found in self._all(fetch):
            yield found
            taken += found.decision == "kept"
            if taken == self.most:
                return

    def _all(self, fetch: FetchConfig) -> Iterator[Found]:
        for path in files_under(self.files, ENDINGS, "gather.warc.files"):
            with open(path, "rb") as file:
                yield from self._records(file, f"file:///{quote(path.name)}", fetch, path)
        if not (self.urls or self.pages):
            return
        fetcher = Fetcher(fetch, 1)
        try:
            for url in self.urls:
                remote = io.BufferedReader(_Remote(fetcher, url), _Remote.AT_ONCE)
                yield from self._records(remote, url, fetch)
            for page in self.pages:
                yield from self._looked_up(page, fetcher)
        finally:
            fetcher.close()

    def _looked_up(self, page: str, fetcher: Fetcher) -> Iterator[Found]:
        for number in range(1_000_000):
            query = f"{self.index}?url={quote(page, safe='*/:')}&output=json&page={number}"
            try:
                answer = fetcher.get(query, INDEX_TYPES, most_bytes=INDEX_BYTES)
            except FetchFailed as error:
                yield Found(query, decision=error.reason, detail=str(error))
                return
            if answer.status in (400, 404) and number:
                return  # behind the last page
            if answer.status != 200 or answer.withheld:
                why = answer.withheld or f"http-{answer.status}"
                yield Found(query, decision=why, detail=f"{page} is not in the index")
                return
            lines = answer.body.splitlines()
            for line in lines:
                yield from self._ranged(line, fetcher)
            if not lines:
                return

    def _ranged(self, line: bytes, fetcher: Fetcher) -> Iterator[Found]:
        """The record that a line of the index points to."""
        try:
            row = json.loads(line)
            start, length = int(row["offset"]), int(row["length"])
            url, file = str(row["url"]), urljoin(self.data, str(row["filename"]))
        except (ValueError, KeyError, TypeError):
            detail = repr(line[:80])
            yield Found(f"{self.index}#unreadable", decision="damaged-index", detail=detail)
            return
        try:
            body = _range(fetcher, file, start, min(length, 4 * self.record_bytes))
        except FetchFailed as error:
            yield Found(url, decision=error.reason, detail=str(error))
            return
        yield from self._records(io.BytesIO(body), f"{file}#{start}", fetcher.config)

    def _records(
        self, file: BinaryIO, place: str, fetch: FetchConfig, path: Path | None = None
    ) -> Iterator[Found]:
        """All documents; in a local file of gzip members reading goes on behind a damaged one."""

        def records(offset: int) -> Iterator[tuple[int, Found | None]]:
            if offset:
                file.seek(offset)
            return _iterate(_unpacked(file, place), self.record_bytes, fetch)

        if path is not None and path.name.endswith(".gz"):
            for item in read_on(path, records):
                if isinstance(item, Damaged):
                    yield _damaged(place, item.offset, item.error)
                elif item is not None:
                    yield item
            return
        offset = 0
        try:
            for reached, found in records(0):
                offset = reached
                if found is not None:
                    yield found
        except FetchFailed as error:
            yield Found(f"{place}#rest", decision=error.reason, detail=str(error))
        except Exception as error:  # whatever a decoder raises, the rest is lost and not the run
            yield _damaged(place, offset, type(error).__name__)


def _damaged(place: str, offset: int, error: str) -> Found:
    return Found(f"{place}#{offset}", decision="damaged-record", detail=error)


def _unpacked(file: BinaryIO, place: str) -> BinaryIO:
    if not place.partition("#")[0].endswith(".zst"):
        return file  # warcio sees for itself whether it is gzip
    import pyarrow as pa

    stream: BinaryIO = pa.CompressedInputStream(file, "zstd")
    return stream


def _iterate(
    file: BinaryIO, most_bytes: int, fetch: FetchConfig
) -> Iterator[tuple[int, Found | None]]:
    from warcio.archiveiterator import ArchiveIterator

    records = ArchiveIterator(file, arc2warc=True)
    for record in records:
        url = str(record.rec_headers.get_header("WARC-Target-URI") or "").strip("<>")
        body = b""
        if record.rec_type in ("response", "resource", "conversion"):
            body = _whole_body(record, most_bytes)
        found = _found(record, url, body, most_bytes, fetch) if body else None
        yield int(records.get_record_offset()), found


def _whole_body(record: Any, most_bytes: int) -> bytes:
    """The body, or as much as shows that it is too long. Raises EOFError if it was cut short."""
    body: bytes = _decoded(record).read(most_bytes + 1)
    raw = record.raw_stream
    while len(body) <= most_bytes and raw.read(BLOCK):
        continue
    if len(body) <= most_bytes and getattr(raw, "limit", 1) > 0:
        raise EOFError("record ends early")
    return body


def _decoded(record: Any) -> Any:
    """The body as `content_stream` of warcio gives it, but 1 KB of a bomb at a time and not 16."""
    from warcio.bufferedreaders import BufferedReader, ChunkedDataReader

    if not record.http_headers:
        return record.raw_stream
    said = {
        name: str(record.http_headers.get_header(name) or "").strip().lower()
        for name in ("content-encoding", "transfer-encoding")
    }
    known = BufferedReader.get_supported_decompressors()
    packed = said["content-encoding"] if said["content-encoding"] in known else None
    if said["transfer-encoding"] == "chunked":
        return ChunkedDataReader(record.raw_stream, decomp_type=packed, block_size=BLOCK)
    if packed:
        return BufferedReader(record.raw_stream, decomp_type=packed, block_size=BLOCK)
    return record.raw_stream


def _found(
    record: Any, url: str, body: bytes, most_bytes: int, fetch: FetchConfig
) -> Found | None:
    if len(body) > most_bytes:
        return Found(url, decision="too-large")
    if record.rec_type == "conversion":  # WET: text that was taken out of the page before
        return Found(url, TEXT, body)
    if record.http_headers is None:
        kind = str(record.content_type or "application/octet-stream")
        usable = kind.partition(";")[0].strip().lower() in HTML_TYPES
        return Found(url, kind, body if usable else b"", "kept" if usable else "content-type")
    if urlsplit(url).path == "/robots.txt":
        return None
    response = Response(
        url,
        int(record.http_headers.get_statuscode() or 0),
        "",
        tuple((n, v) for n, v in record.http_headers.headers if n.lower() not in HOP_HEADERS),
        body,
        str(record.rec_headers.get_header("WARC-IP-Address") or ""),
        str(record.rec_headers.get_header("WARC-Date") or ""),
        (),
    )
    address = canonical_url(url)
    if address is None:
        return Found(url, decision="not-a-page", detail="not an http(s) address")
    if response.status == 200 and response.media_type not in HTML_TYPES:
        response = response.without_body("content-type")
    bounds = Bounds(fetch.agent, 0, 0, False, lambda _: False, lambda _: False)
    outcome = judge(Target(address, "page", 0, 0), response, bounds)
    return Found(
        address,
        decision=outcome.decision,
        detail=outcome.detail,
        body=body,
        response=outcome.response if outcome.decision in ("kept", "opt-out") else None,
        opt_out=outcome.opt_out,
    )


def _range(fetcher: Fetcher, url: str, start: int, length: int) -> bytes:
    """`length` bytes of a file from `start`, fewer at its end. Raises FetchFailed."""
    headers = (("Range", f"bytes={start}-{start + length - 1}"), ("Accept-Encoding", "identity"))
    answer = fetcher.get(url, (), headers=headers, most_bytes=length)
    if answer.status == 416:
        return b""
    if answer.status != 206 or answer.withheld:
        raise FetchFailed(f"http-{answer.status}", f"{url}: no answer to a request for a range")
    return answer.body


class _Remote(io.RawIOBase):
    """A file on a server, read in ranges: a broken connection costs a range, and no disk."""

    AT_ONCE = 4 * 2**20

    def __init__(self, fetcher: Fetcher, url: str) -> None:
        self._fetcher, self._url, self._at, self._ended = fetcher, url, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._ended:
            return 0
        body = _range(self._fetcher, self._url, self._at, len(buffer))
        self._ended = len(body) < len(buffer)
        self._at += len(body)
        buffer[: len(body)] = body
        return len(body)
