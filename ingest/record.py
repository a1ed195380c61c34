"""One record of a web archive as bytes: a WARC 1.1 record in a gzip member of its own.

warcio, which reads what is written here, would take three times as long beside the compression.
"""

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterable

__all__ = ["REQUEST", "RESPONSE", "Fields", "http_head", "record", "record_id"]

RESPONSE, REQUEST = "application/http; msgtype=response", "application/http; msgtype=request"
LEVEL = 4
"""Of pages, 6 saves one per cent of the bytes and takes a quarter more time."""

GZIP, WIDEST = 16, 15
"""zlib: what is added to the window's bits for a gzip member; the widest window."""
COPIED = 100_000
"""Bytes up to which putting a record together costs less than handing it over in parts."""
END = b"\r\n\r\n"

Fields = Iterable[tuple[str, str]]


def record_id() -> str:
    """A new name for a record."""
    return f"<urn:uuid:{uuid.uuid4()}>"


def http_head(first: str, fields: Fields) -> bytes:
    """The head of an HTTP message: its first line, its header fields."""
    head = _head(first, fields)
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        return head.encode()


def record(kind: str, fields: Fields, media_type: str, start: bytes, payload: bytes = b"") -> bytes:
    """A record whose block is `start` and then `payload`, which gets a digest."""
    digest = [("WARC-Payload-Digest", _digest(payload))] if payload else []
    length = len(start) + len(payload)
    head = _head("WARC/1.1", (
        ("WARC-Type", kind), *fields, *digest,
        ("Content-Type", media_type), ("Content-Length", str(length)),
    )).encode() + start
    window = min(WIDEST, max(9, (len(head) + length).bit_length()))
    # Of a narrow window less memory is made ready: for short records half of the work.
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP + window, max(1, min(8, window - 7)))
    if length > COPIED:
        parts = [packer.compress(head), packer.compress(payload), packer.compress(END)]
    else:
        parts = [packer.compress(head + payload + END)]
    return b"".join([*parts, packer.flush()])


def _head(first: str, fields: Fields) -> str:
    lines = [first, *(f"{name}: {value}" for name, value in fields)]
    text = "\r\n".join(lines) + "\r\n\r\n"
    if text.count("\n") == text.count("\r") == len(lines) + 1:
        return text
    # A value that was folded over several lines, or that would end the head early.
    return "\r\n".join(" ".join(line.split()) for line in lines) + "\r\n\r\n"


def _digest(data: bytes) -> str:
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return f"sha1:{base64.b32encode(digest).decode()}"
