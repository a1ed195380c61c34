"""Documents of an archive, read quickly where a record is as plain as those that we write.

A member is unpacked whole: it has come to its end and its checksum was right before its document
counts. What is not plain is left to warcio, which takes six times as long.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stored", "Unclear", "members", "plain_record"]

BLOCK = 32 * 1024
GZIP = 31
"""zlib's window bits for a gzip member."""
HEAD_END = b"\r\n\r\n"
VERSIONS = ("WARC/1.0", "WARC/1.1")
CODED = ("transfer-encoding", "content-encoding")
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Stored:
    """A document as it lies in the archive."""

    url: str
    offset: int
    status: int
    headers: Pairs
    body: bytes
    fetched_at: str
    truncated: bool

    def header(self, name: str) -> str:
        """First value of a header, "" if absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Unclear(ValueError):
    """A record that another reader has to look at."""


def members(path: Path, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """(Start, end, what is in it) of gzip members; ends before the first that is damaged or cut."""
    with open(path, "rb") as file:
        file.seek(offset)
        packed = b""
        while True:
            unpacker, parts, end = zlib.decompressobj(wbits=GZIP), [], offset
            while not unpacker.eof:
                packed = packed or file.read(BLOCK)
                end += len(packed)
                try:
                    parts.append(unpacker.decompress(packed))
                except zlib.error:
                    return
                if not packed:
                    return
                packed = unpacker.unused_data
            end -= len(packed)
            yield offset, end, b"".join(parts)
            offset = end


def plain_record(data: bytes, offset: int) -> Stored | None:
    """The HTTP response in a WARC record that starts at `offset`; None if it is of another kind.

    Raises Unclear for a record that is not plain: resources, fields that are folded or not ASCII,
    bodies that are coded or do not have their length.
    """
    head, _, block = data.partition(HEAD_END)
    version, pairs = _head(head)
    fields = {name.lower(): value for name, value in reversed(pairs)}
    if version not in VERSIONS or not block.endswith(HEAD_END):
        raise Unclear
    if fields.get("content-length") != str(len(block) - len(HEAD_END)):
        raise Unclear
    kind = fields.get("warc-type")
    if kind in ("resource", "conversion", None):
        raise Unclear
    return _response(fields, block, offset) if kind == "response" else None


def _response(fields: dict[str, str], block: bytes, offset: int) -> Stored:
    head, _, rest = block.partition(HEAD_END)
    body = rest[: -len(HEAD_END)]
    status, headers = _head(head)
    said = {name.lower(): value for name, value in reversed(headers)}
    words = status.split(" ", 2)
    if (
        not fields.get("content-type", "").startswith("application/http")
        or "warc-target-uri" not in fields or not words[0].startswith("HTTP/")
        or not words[1:] or not words[1].isdigit() or any(name in said for name in CODED)
        or said.get("content-length") != str(len(body))
    ):
        raise Unclear
    return Stored(
        fields["warc-target-uri"], offset, int(words[1]), headers, body,
        fields.get("warc-date", ""), bool(fields.get("warc-truncated")),
    )


def _head(head: bytes) -> tuple[str, Pairs]:
    """First line, and the fields after it."""
    try:
        first, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Unclear from None
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise Unclear
        pairs.append((name, value.strip()))
    return first, tuple(pairs)
