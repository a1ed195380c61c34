"""Sitemaps that want to fill the memory: packed ones, and XML that swells while it is read."""

import zlib
from collections.abc import Iterator

__all__ = ["swollen"]

BLOCK = 1_000_000
ADDRESS = b"<url><loc>http://x.example/%08d" + b"a" * 1_900 + b"</loc></url>"


def swollen(megabytes: int) -> dict[str, tuple[dict[str, str], bytes]]:
    """Name -> headers and body of a sitemap; each is about so large when it is unpacked."""
    start = b"<urlset>"
    endless = {
        "blanks": (start, b" "),
        "blanks-before": (b"", b"\n"),
        "tags": (start, b"<a/>"),
        "tags-in-an-entry": (start + b"<url>", b"<loc/>"),
        "tags-never-closed": (start, b"<a>"),
        "one-address": (start + b"<url><loc>http://x.example/", b"a"),
        "one-address-of-entities": (start + b"<url><loc>http://x.example/", b"&#97;"),
        "one-attribute": (b"<urlset a='", b"a"),
        "one-comment": (start + b"<!--", b"a"),
        "one-cdata": (start + b"<url><loc><![CDATA[", b"a"),
        "one-name": (b"<urlset", b"a"),
        "one-line": (b"http://x.example/", b"a"),
        "lines": (b"", b"a\n"),
    }
    made = {name: _packed(_again(*parts, megabytes)) for name, parts in endless.items()}
    numbered = {
        "names": b"<a%08d/>", "namespaces": b"<a xmlns='x:%08d'/>", "addresses": ADDRESS,
        "lines-of-addresses": ADDRESS[len(b"<url><loc>") : -len(b"</loc></url>")] + b"\n",
    }
    for name, form in numbered.items():
        head = b"" if name.startswith("lines") else start
        made[name] = _packed(_counted(head, form, megabytes))
    made["attributes"] = _packed(_counted(b"<urlset ", b"a%08d='' ", megabytes))
    laughs = b"".join(b"<!ENTITY l%d '%s'>" % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
    lol = b"<!DOCTYPE u [<!ENTITY l0 'lol'>" + laughs + b"]><urlset><url><loc>&l9;</loc></url>"
    packed = {"Content-Type": "application/gzip"}
    found = {name: (packed, body) for name, body in made.items()}
    found["entities"] = {"Content-Type": "text/xml"}, lol
    coded = {"Content-Type": "text/xml", "Content-Encoding": "gzip"}
    found["packed-in-a-coding"] = coded, _packed(iter([made["tags"]]))
    return found


def _again(start: bytes, piece: bytes, megabytes: int) -> Iterator[bytes]:
    yield start
    block = piece * (BLOCK // len(piece))
    for _ in range(megabytes):
        yield block


def _counted(start: bytes, form: bytes, megabytes: int) -> Iterator[bytes]:
    """Numbered pieces; beyond 100 MB they come again, which nobody reads."""
    yield start
    many = BLOCK // len(form % 0)
    for block in range(megabytes):
        first = block % 100 * many
        yield b"".join(form % number for number in range(first, first + many))


def _packed(parts: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return b"".join([*(packer.compress(part) for part in parts), packer.flush()])
