"""One record of a web archive as bytes: a WARC 1.1 record in a gzip member of its own.

warcio, which reads what is written here, would take three times as long beside the compression.
"""

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterable

__all__ = ["REQUEST", "RESPONSE", "Fields", "http_block", "record", "record_id"]

RESPONSE, REQUEST = "application/http; msgtype=response", "application/http; msgtype=request"
LEVEL = 4
"""Of pages, 6 saves one per cent of the bytes and takes a quarter more time."""

GZIP = 31
"""zlib's window bits for a gzip member."""

Fields = Iterable[tuple[str, str]]


def record_id() -> str:
    """A new name for a record."""
    return f"<urn:uuid:{uuid.uuid4()}>"


def http_block(first: str, fields: Fields, body: bytes = b"") -> bytes:
    """An HTTP message: its first line, its header fields, its body."""
    head = _head(first, fields)
    try:
        return head.encode("latin-1") + body
    except UnicodeEncodeError:
        return head.encode() + body


def record(kind: str, fields: Fields, media_type: str, block: bytes, payload: bytes = b"") -> bytes:
    """A record; `payload` is what of the block gets a digest."""
    digest = [("WARC-Payload-Digest", _digest(payload))] if payload else []
    head = _head("WARC/1.1", (
        ("WARC-Type", kind), *fields, *digest,
        ("Content-Type", media_type), ("Content-Length", str(len(block))),
    ))
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(head.encode() + block + b"\r\n\r\n") + packer.flush()


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
