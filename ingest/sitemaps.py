"""Addresses that a site lists by itself: sitemaps (also gzipped, also plain text) and feeds.

https://www.sitemaps.org/protocol.html, RSS 1.0 and 2.0, Atom (RFC 4287). Broken XML gives what can
be read of it.
"""

import io
import zlib
from dataclasses import dataclass, field
from typing import Any

from ingest.links import canonical_url

__all__ = ["LIST_TYPES", "MAX_BYTES", "Listed", "listed"]

LIST_TYPES = (
    "text/xml", "application/xml", "application/rss+xml", "application/atom+xml",
    "application/rdf+xml", "application/gzip", "application/x-gzip",
)
MAX_BYTES = 50 * 2**20
"""Of one sitemap after decompression (the protocol's limit); what is longer is read so far."""
MAX_URLS = 50_000
ROOTS = {
    "urlset": "sitemap", "sitemapindex": "sitemap", "rss": "feed", "feed": "feed", "RDF": "feed",
}
ENTRIES = ("url", "sitemap", "item", "entry")


@dataclass
class Listed:
    """What one document lists, in its order; addresses are canonical."""

    kind: str = ""
    """sitemap or feed; "" if it is neither."""
    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def listed(body: bytes, url: str) -> Listed:
    """Read a sitemap, sitemap index or feed that was fetched from `url`."""
    data = _unpacked(body)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return _xml(data, url)
    lines = data[:MAX_BYTES].decode("utf-8-sig", "replace").split("\n", MAX_URLS)[:MAX_URLS]
    pages = [found for found in map(canonical_url, lines) if found]
    return Listed("sitemap" if pages else "", pages)


def _unpacked(body: bytes) -> bytes:
    """gzip is taken off whatever the server called it; a cut or damaged one gives its start."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        return zlib.decompressobj(31).decompress(body, MAX_BYTES)
    except zlib.error:
        return b""


def _xml(data: bytes, url: str) -> Listed:
    from lxml import etree

    found = Listed()
    events = etree.iterparse(
        io.BytesIO(data), events=("start", "end"), recover=True, resolve_entities=False,
        no_network=True,
    )
    try:
        for event, element in events:
            # Not etree.QName: it refuses names that the parser lets through.
            name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
            if event == "start":
                found.kind = found.kind or ROOTS.get(name, "no")
            elif name in ENTRIES:
                _note(found, name, element, url)
                element.clear()
            if found.kind == "no" or len(found.pages) + len(found.sitemaps) >= MAX_URLS:
                break
    except etree.XMLSyntaxError:
        pass  # what was read before it counts
    found.kind = found.kind.removeprefix("no")
    return found


def _note(found: Listed, name: str, element: Any, url: str) -> None:
    given = _address(name, element).strip()
    address = canonical_url(given, url) if given else None
    if address:
        (found.sitemaps if name == "sitemap" else found.pages).append(address)


def _address(name: str, element: Any) -> str:
    if name in ("url", "sitemap"):
        return str(element.findtext("{*}loc") or "")
    for link in element.iterfind("{*}link"):
        if name == "item" and (link.text or "").strip():
            return str(link.text)
        if name == "entry" and link.get("rel", "alternate") == "alternate":
            return str(link.get("href") or "")
    return ""
