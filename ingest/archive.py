"""The web archive: one WARC 1.1 file, every record its own gzip member.

Because of the members a file can be cut at any committed offset and goes on from there, and one
damaged record costs one record.
"""

import io
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ingest.fetch import Response

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


class Archive:
    """Append records to a WARC file, starting at `offset` (what lies behind it is cut off)."""

    def __init__(self, path: Path, offset: int) -> None:
        from warcio.warcwriter import WARCWriter

        path.touch()
        self._file = open(path, "r+b")  # noqa: SIM115 (closed by close)
        self._file.truncate(offset)
        self._file.seek(offset)
        self._writer = WARCWriter(self._file, gzip=True, warc_version="WARC/1.1")
        if offset == 0:
            self._writer.write_record(
                self._writer.create_warcinfo_record(path.name, {"format": "WARC File Format 1.1"})
            )

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, response: Response) -> None:
        """Write one exchange: the response, then the request it answers."""
        answer = self._response_record(response)
        asked = self._request_record(response)
        self._writer.write_request_response_pair(asked, answer)

    def add_resource(self, url: str, media_type: str, body: bytes, licence: str = "") -> None:
        """Write a document that came from a file and not over HTTP."""
        fields = {LICENCE: licence} if licence else {}
        self._writer.write_record(
            self._writer.create_warc_record(
                url, "resource", payload=io.BytesIO(body), length=len(body),
                warc_content_type=media_type, warc_headers_dict=fields,
            )
        )

    def commit(self) -> int:
        """Force everything to disk; returns the offset to go on from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def _response_record(self, response: Response) -> Any:
        from warcio.statusandheaders import StatusAndHeaders

        # The body is stored decoded, so the headers must not say that it is still encoded.
        headers = [
            (f"X-Crawl-{name}" if name.lower() in HOP_HEADERS else name, value)
            for name, value in response.headers
        ]
        headers.append(("Content-Length", str(len(response.body))))
        extra = {"WARC-Date": response.fetched_at}
        if response.address:
            extra["WARC-IP-Address"] = response.address
        if response.withheld:
            extra["WARC-Truncated"] = (
                "length" if response.withheld == "too-large" else "unspecified"
            )
        return self._writer.create_warc_record(
            response.url, "response", payload=io.BytesIO(response.body),
            length=len(response.body), warc_headers_dict=extra,
            http_headers=StatusAndHeaders(
                f"{response.status} {response.reason}".strip(), headers, protocol="HTTP/1.1"
            ),
        )

    def _request_record(self, response: Response) -> Any:
        from warcio.statusandheaders import StatusAndHeaders

        parts = urlsplit(response.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", parts.netloc), *response.request_headers]
        return self._writer.create_warc_record(
            response.url, "request", warc_headers_dict={"WARC-Date": response.fetched_at},
            http_headers=StatusAndHeaders(
                f"GET {target} HTTP/1.1", headers, is_http_request=True
            ),
        )


@dataclass(frozen=True)
class Stored:
    """A document as it lies in the archive."""

    url: str
    offset: int
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    fetched_at: str
    truncated: bool

    def header(self, name: str) -> str:
        """First value of a header, "" if absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Damaged:
    """A place in the archive that cannot be read."""

    offset: int
    error: str


def read_archive(path: Path) -> Iterator[Stored | Damaged]:
    """All responses and resources in file order; reading goes on behind a damaged record."""
    for item in read_on(path, lambda offset: _records(path, offset)):
        if item is not None:
            yield item


def read_on(
    path: Path, records: Callable[[int], Iterator[tuple[int, T]]]
) -> Iterator[T | Damaged]:
    """What `records` finds in a file of gzip members, each its own record.

    `records` reads from an offset on and yields (where the record starts, what it is). Where it
    fails, it is called again for the next place that looks like a member.
    """
    offset, size, whole = 0, path.stat().st_size, True
    while offset < size:
        good = -1
        try:
            for reached, found in records(offset):
                good, whole = reached, True
                yield found
            return
        except Exception as error:  # whatever a decoder raises, one record is lost and not the run
            bad = offset if good < 0 else _next_member(path, good + 1)
            if whole:  # a false start inside the same damage is not counted again
                yield Damaged(bad, type(error).__name__)
            whole = False
            offset = _next_member(path, bad + 1)


def read_record(path: Path, offset: int) -> Stored | None:
    """The response or resource that starts at `offset`; None if there is none to be read."""
    try:
        reached, stored = next(_records(path, offset))
    except Exception:  # whatever a decoder raises
        return None
    return stored if reached == offset else None


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
    if len(body) != int((http or warc).get_header("Content-Length") or 0):
        raise EOFError("record ends early")
    return Stored(
        str(warc.get_header("WARC-Target-URI")), offset, status, headers, body,
        str(warc.get_header("WARC-Date") or ""), bool(warc.get_header("WARC-Truncated")),
    )


def _resource_headers(record: Any) -> tuple[tuple[str, str], ...]:
    """What an HTTP answer would have said."""
    licence = record.rec_headers.get_header(LICENCE)
    link = (("Link", f'<{licence}>; rel="license"'),) if licence else ()
    return (("Content-Type", str(record.content_type or "")), *link)


def _next_member(path: Path, offset: int) -> int:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = data.find(GZIP_MAGIC, offset)
        return found if found >= 0 else len(data)
