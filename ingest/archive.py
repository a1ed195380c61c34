"""The web archive: one WARC 1.1 file, every record its own gzip member.

Because of the members a file can be cut at any committed offset and goes on from there, and one
damaged record costs one record.
"""

import io
import mmap
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ingest.fetch import Response
from ingest.record import REQUEST, RESPONSE, http_head, record, record_id
from ingest.stored import Stored, Unclear, members, plain_record

__all__ = [
    "HOP_HEADERS",
    "Archive",
    "Damaged",
    "Stored",
    "read_archive",
    "read_on",
    "read_record",
]

HOP_HEADERS = ("transfer-encoding", "content-encoding", "content-length", "connection")
GZIP_MAGIC = b"\x1f\x8b\x08"
T = TypeVar("T")
LICENCE = "Licence"
"""Our own field of a resource record: address of the licence that its source gives."""
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
BUFFER, BLOCK = 1_000_000, 32 * 1024


class Archive:
    """Append records to a WARC file, starting at `offset` (what lies behind it is cut off)."""

    def __init__(self, path: Path, offset: int) -> None:
        path.touch()
        self._file = open(path, "r+b", BUFFER)  # noqa: SIM115 (closed by close)
        self._file.truncate(offset)
        self._file.seek(offset)
        if offset == 0:
            named = [*_identity(_now()), ("WARC-Filename", path.name)]
            told = b"format: WARC File Format 1.1\r\n"
            self._file.write(record("warcinfo", named, "application/warc-fields", told))

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, response: Response) -> None:
        """Write one exchange: the response, then the request it answers.

        Of an answer that was confirmed by a later 304, the exchange that confirmed it follows: a
        revisit record and its request.
        """
        confirmed = response.confirmed
        name = self._add_response(response)
        if confirmed is None:
            self._add_request(response, name)
        else:
            self._add_request(confirmed, self._add_revisit(response, confirmed, name))

    def add_resource(self, url: str, media_type: str, body: bytes, licence: str = "") -> None:
        """Write a document that came from a file and not over HTTP."""
        fields = [*_identity(_now()), ("WARC-Target-URI", url)]
        fields += [(LICENCE, licence)] if licence else []
        self._file.write(record("resource", fields, media_type, b"", body))

    def commit(self) -> int:
        """Force everything to disk; returns the offset to go on from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def _add_response(self, response: Response) -> str:
        # The body is stored decoded, so the headers must not say that it is still encoded.
        headers = [
            (f"X-Crawl-{name}" if name.lower() in HOP_HEADERS else name, value)
            for name, value in response.headers
        ]
        headers.append(("Content-Length", str(len(response.body))))
        fields = _exchange(response)
        if response.withheld:
            why = "length" if response.withheld == "too-large" else "unspecified"
            fields.append(("WARC-Truncated", why))
        head = http_head(_status_line(response), headers)
        self._file.write(record("response", fields, RESPONSE, head, response.body))
        return fields[0][1]

    def _add_revisit(self, response: Response, confirmed: Response, name: str) -> str:
        fields = [
            *_exchange(confirmed), ("WARC-Profile", NOT_MODIFIED), ("WARC-Refers-To", name),
            ("WARC-Refers-To-Target-URI", response.url),
            ("WARC-Refers-To-Date", response.fetched_at),
        ]
        head = http_head(_status_line(confirmed), confirmed.headers)
        self._file.write(record("revisit", fields, RESPONSE, head))
        return fields[0][1]

    def _add_request(self, response: Response, answer: str) -> None:
        parts = urlsplit(response.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = [*_identity(response.fetched_at), ("WARC-Target-URI", response.url)]
        fields.append(("WARC-Concurrent-To", answer))
        headers = [("Host", parts.netloc), *response.request_headers]
        head = http_head(f"GET {target} HTTP/1.1", headers)
        self._file.write(record("request", fields, REQUEST, head))


def _identity(date: str) -> list[tuple[str, str]]:
    return [("WARC-Record-ID", record_id()), ("WARC-Date", date)]


def _exchange(response: Response) -> list[tuple[str, str]]:
    fields = [*_identity(response.fetched_at), ("WARC-Target-URI", response.url)]
    return [*fields, ("WARC-IP-Address", response.address)] if response.address else fields


def _status_line(response: Response) -> str:
    return f"HTTP/1.1 {response.status} {response.reason}".strip()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True)
class Damaged:
    """A place in the archive that cannot be read."""

    offset: int
    error: str


def read_archive(path: Path) -> Iterator[Stored | Damaged]:
    """All responses and resources in file order; reading goes on behind a damaged record."""
    end = 0
    for start, behind, data in members(path):
        try:
            stored = _read(data, start)
        except Exception:  # whatever a decoder raises, the careful reader says what it is
            break
        end = behind
        if stored is not None:
            yield stored
    for item in read_on(path, lambda offset: _records(path, offset), end):
        if item is not None:
            yield item


def read_on(
    path: Path, records: Callable[[int], Iterator[tuple[int, T]]], offset: int = 0
) -> Iterator[T | Damaged]:
    """What `records` finds in a file of gzip members, each its own record.

    `records` reads from an offset on and yields (where the record starts, what it is). Where it
    fails, it is called again for the next place that looks like a member.
    """
    size, whole = path.stat().st_size, True
    while offset < size:
        good, end = -1, offset
        try:
            for reached, found in records(offset):
                # The decoder hands a body out before it comes to the checksum …
                end = _member_end(path, reached)
                good, whole = reached, True
                yield found
            # … and takes a file that was cut short for one that ends.
            while end < size:
                offset, good = end, -1
                end = _member_end(path, end)
            return
        except Exception as error:  # whatever a decoder raises, one record is lost and not the run
            bad = offset if good < 0 else _next_member(path, good + 1)
            why = type(error).__name__
        if whole:  # a false start inside the same damage is not counted again
            yield Damaged(bad, why)
        whole = False
        offset = _next_member(path, bad + 1)


def read_record(path: Path, offset: int) -> Stored | None:
    """The response or resource that starts at `offset`; None if there is none to be read."""
    try:
        return _read(next(members(path, offset))[2], offset)
    except Exception:  # whatever a decoder raises
        return None


def _read(data: bytes, offset: int) -> Stored | None:
    """What is in an unpacked member."""
    try:
        return plain_record(data, offset)
    except Unclear:
        pass
    from warcio.archiveiterator import ArchiveIterator

    (found,) = (
        (record, record.content_stream().read()) for record in ArchiveIterator(io.BytesIO(data))
    )
    wanted = found[0].rec_type in ("response", "resource")
    return _stored(*found, offset) if wanted else None


def _records(path: Path, offset: int) -> Iterator[tuple[int, Stored | None]]:
    from warcio.archiveiterator import ArchiveIterator

    with open(path, "rb") as file:
        file.seek(offset)
        iterator = ArchiveIterator(file)
        for record in iterator:
            wanted = record.rec_type in ("response", "resource")
            # Asking for the offset skips the rest of the record, so its body is read first.
            body = record.content_stream().read() if wanted else b""
            offset = iterator.get_record_offset()
            yield offset, _stored(record, body, offset) if wanted else None


def _stored(record: Any, body: bytes, offset: int) -> Stored:
    warc = record.rec_headers
    http = record.http_headers
    status = int(http.get_statuscode() or 0) if http else 200
    headers = tuple(http.headers) if http else _resource_headers(record)
    length, url = (http or warc).get_header("Content-Length"), warc.get_header("WARC-Target-URI")
    if url is None or length is None or len(body) != int(length):
        raise EOFError("record ends early")
    return Stored(
        str(url), offset, status, headers, body,
        str(warc.get_header("WARC-Date") or ""), bool(warc.get_header("WARC-Truncated")),
    )


def _resource_headers(record: Any) -> tuple[tuple[str, str], ...]:
    """What an HTTP answer would have said."""
    licence = record.rec_headers.get_header(LICENCE)
    link = (("Link", f'<{licence}>; rel="license"'),) if licence else ()
    return (("Content-Type", str(record.content_type or "")), *link)


def _member_end(path: Path, offset: int) -> int:
    """Where the gzip member ends that starts at `offset`. Raises EOFError or zlib.error."""
    unpacker = zlib.decompressobj(wbits=31)
    with open(path, "rb") as file:
        file.seek(offset)
        while not unpacker.eof:
            packed = unpacker.unconsumed_tail or file.read(BLOCK)
            if not unpacker.decompress(packed, BUFFER) and not packed:
                raise EOFError("the member does not end")
        return file.tell() - len(unpacker.unused_data)


def _next_member(path: Path, offset: int) -> int:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = data.find(GZIP_MAGIC, offset)
        return found if found >= 0 else len(data)
