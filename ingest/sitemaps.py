"""Addresses that a site lists by itself: sitemaps (also gzipped, also plain text) and feeds.

https://www.sitemaps.org/protocol.html, RSS 1.0 and 2.0, Atom (RFC 4287). Broken XML gives what can
be read of it. Read in small pieces and without a tree: what swells costs time and no memory.
"""

import contextlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

from ingest.links import canonical_url

__all__ = ["LIST_TYPES", "MAX_BYTES", "Listed", "listed"]

LIST_TYPES = (
    "text/xml", "application/xml", "application/rss+xml", "application/atom+xml",
    "application/rdf+xml", "application/gzip", "application/x-gzip",
)
MAX_BYTES = 50 * 2**20
"""Of one sitemap after decompression (the protocol's limit); what is longer is read so far."""
MAX_URLS = 50_000
MAX_TAGS = 1_000_000
"""Elements of one sitemap: twenty for each address that it may list."""
MAX_NAMES = 1_000
"""Different names of elements, attributes and namespaces: the parser keeps each for good."""
MAX_SILENT = 2**20
"""Bytes without an element or a piece of text: the parser holds back a tag or comment until it
ends."""
MAX_ROOM = 12 * 2**20
"""Characters of all addresses together: 250 for each."""
MAX_TEXT = 8_000
"""Characters of one address as it stands in the file."""
PIECE = 64 * 1024
BLANK = b"\xef\xbb\xbf \t\r\n"
ROOTS = {
    "urlset": "sitemap", "sitemapindex": "sitemap", "rss": "feed", "feed": "feed", "RDF": "feed",
}
ENTRIES = ("url", "sitemap", "item", "entry")
ADDRESS = {"url": "loc", "sitemap": "loc", "item": "link"}
"""Which child of an entry holds its address as text."""


@dataclass
class Listed:
    """What one document lists, in its order; addresses are canonical."""

    kind: str = ""
    """sitemap or feed; "" if it is neither."""
    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def listed(body: bytes, url: str) -> Listed:
    """Read a sitemap, sitemap index or feed that was fetched from `url`."""
    reader = _Reader(url)
    pieces = _pieces(body)
    for piece in pieces:
        start = piece.lstrip(BLANK)
        if start:
            read = _read_xml if start.startswith(b"<") else _read_lines
            read(reader, chain((start,), pieces))
            break
    return reader.found


def _pieces(body: bytes) -> Iterator[bytes]:
    """gzip is taken off whatever the server called it; a cut or damaged one gives its start."""
    if not body.startswith(b"\x1f\x8b"):
        for at in range(0, min(len(body), MAX_BYTES), PIECE):
            yield body[at : at + PIECE]
        return
    unpacker, left = zlib.decompressobj(31), MAX_BYTES
    with contextlib.suppress(zlib.error):
        for at in range(0, len(body), PIECE):
            packed = body[at : at + PIECE]
            while packed:
                piece = unpacker.decompress(packed, min(PIECE, left))
                packed, left = unpacker.unconsumed_tail, left - len(piece)
                yield piece
                if left == 0 or unpacker.eof:
                    return
        yield unpacker.flush()[:left]


class _Reader:
    """Gathers addresses out of a parser's events and keeps nothing of the rest."""

    def __init__(self, url: str) -> None:
        self.found = Listed()
        self._url = url
        self.events = 0
        """Of the parser, so far."""
        self._room, self._tags = MAX_ROOM, MAX_TAGS
        self._names: set[str | None] = set()
        self._depth = self._entry_depth = 0
        self._entry = self._address = ""
        self._text: list[str] | None = None
        """Of the address that is being read; None: none is."""
        self._text_room = 0

    @property
    def full(self) -> bool:
        """Is there nothing more to be read?"""
        count = len(self.found.pages) + len(self.found.sitemaps)
        spent = self._room <= 0 or self._tags <= 0 or len(self._names) > MAX_NAMES
        return spent or count >= MAX_URLS or self.found.kind == "no"

    def add(self, address: str, into: list[str], base: str = "") -> None:
        """Note an address if it is one that may be followed."""
        url = canonical_url(address, base) if address and not self.full else None
        if url:
            self._room -= len(url)
            into.append(url)

    def start(
        self, tag: str, attributes: Mapping[str, str], namespaces: Mapping[str | None, str]
    ) -> None:
        """An element begins."""
        name = tag.rpartition("}")[2]
        self.events += 1
        self._depth += 1
        self._tags -= 1
        self._names.add(tag)
        self._names.update(attributes, namespaces)
        self.found.kind = self.found.kind or ROOTS.get(name, "no")
        self._end_of_address()
        if name in ENTRIES:
            self._entry, self._entry_depth, self._address = name, self._depth, ""
        elif self._entry and self._depth == self._entry_depth + 1 and not self._address:
            if name == ADDRESS.get(self._entry):
                self._text, self._text_room = [], MAX_TEXT
            elif self._entry == "entry" and name == "link":
                plain = attributes.get("rel", "alternate") == "alternate"
                self._address = attributes.get("href", "").strip() if plain else ""

    def data(self, text: str) -> None:
        """Text, perhaps only a part."""
        self.events += 1
        if self._text is not None and self._text_room > 0:
            self._text.append(text)
            self._text_room -= len(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        del tag
        self.events += 1
        self._end_of_address()
        if self._entry and self._depth == self._entry_depth:
            into = self.found.sitemaps if self._entry == "sitemap" else self.found.pages
            self.add(self._address, into, self._url)
            self._entry = ""
        self._depth -= 1

    def close(self) -> None:
        """The document ends."""

    def _end_of_address(self) -> None:
        if self._text is not None:
            self._address, self._text = "".join(self._text).strip(), None


def _read_xml(reader: _Reader, pieces: Iterator[bytes]) -> None:
    from lxml import etree

    parser = etree.XMLParser(
        target=reader, recover=True, resolve_entities=False, no_network=True
    )
    with contextlib.suppress(etree.XMLSyntaxError):  # what was read before it counts
        silent = 0
        for piece in pieces:
            before = reader.events
            parser.feed(piece)
            silent = silent + len(piece) if reader.events == before else 0
            if reader.full or silent > MAX_SILENT:
                break
        parser.close()
    reader.found.kind = reader.found.kind.removeprefix("no")


def _read_lines(reader: _Reader, pieces: Iterator[bytes]) -> None:
    for line in islice(_lines(pieces), MAX_URLS):
        reader.add(line.decode("utf-8", "replace"), reader.found.pages)
    reader.found.kind = "sitemap" if reader.found.pages else ""


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        rest = rest[-PIECE:]  # what is longer is no address
    yield rest
