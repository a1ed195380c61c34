"""What sitemaps and feeds list, whole, packed, broken and hostile."""

import gzip
import random
import zlib

import pytest

from ingest.sitemaps import MAX_BYTES, Listed, listed

HERE = "http://x.example/list"
ATOM = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">
<link rel="self" href="/feed"/><entry><link rel="edit" href="/edit/1"/>
<link href="/posts/1"/></entry><entry><link rel="alternate" href="http://X.example/posts/2"/></entry>
</feed>"""
RSS = b"""<rss version="2.0"><channel><link>http://x.example/</link>
<item><title>One</title><link> http://x.example/1 </link></item><item><title>None</title></item>
</channel></rss>"""
RDF = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
xmlns="http://purl.org/rss/1.0/"><channel><link>http://x.example/</link></channel>
<item><link>http://x.example/old</link></item></rdf:RDF>"""
MAP = (
    b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>"
    b"<url><loc> http://X.example/a </loc></url><url><loc>ftp://x</loc></url>"
)
INDEX = b"<sitemapindex><sitemap><loc>http://x.example/s.xml.gz</loc></sitemap></sitemapindex>"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (MAP, Listed("sitemap", ["http://x.example/a"])),
        (gzip.compress(MAP), Listed("sitemap", ["http://x.example/a"])),
        (b"\xef\xbb\xbf" + MAP, Listed("sitemap", ["http://x.example/a"])),
        (INDEX, Listed("sitemap", [], ["http://x.example/s.xml.gz"])),
        (b"http://x.example/a\r\nhttp://x.example/b\n", Listed(
            "sitemap", ["http://x.example/a", "http://x.example/b"])),
        (ATOM, Listed("feed", ["http://x.example/posts/1", "http://x.example/posts/2"])),
        (RSS, Listed("feed", ["http://x.example/1"])),
        (RDF, Listed("feed", ["http://x.example/old"])),
        (b"not xml at all", Listed()),
        (b"", Listed()),
        (b"<html><body><url><loc>http://x.example/</loc></url></body></html>", Listed()),
        (gzip.compress(MAP)[:20] + b"broken", Listed()),
    ],
    ids=range(12),
)
def test_what_is_listed(body: bytes, expected: Listed) -> None:
    assert listed(body, HERE) == expected


def test_a_sitemap_that_breaks_off_gives_its_start() -> None:
    entries = b"".join(b"<url><loc>http://x.example/%d</loc></url>" % i for i in range(1000))
    body = b"<urlset>" + entries + b"<url><lo"
    assert len(listed(body, HERE).pages) == 1000
    cut = gzip.compress(body)
    assert 0 < len(listed(cut[: len(cut) // 2], HERE).pages) < 1000


def test_entities_of_files_are_not_read() -> None:
    entity = (
        b"<!DOCTYPE u [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>"
        b"<urlset><url><loc>http://x.example/&e;</loc></url></urlset>"
    )
    assert listed(entity, HERE).pages in ([], ["http://x.example/"])


def test_a_packed_bomb_is_read_so_far_and_no_further() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(b"<urlset><url><loc>http://x.example/a</loc></url>")
    block = b" " * 2**20
    bomb += b"".join(packer.compress(block) for _ in range(2 * MAX_BYTES // 2**20)) + packer.flush()
    assert listed(bomb, HERE).pages == ["http://x.example/a"]


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"<urlset>", b"<!-- %d"), (b"<urlset><url><loc><![CDATA[", b"%d"),
        (b"<urlset>", b"<a%d/>"), (b"<urlset ", b"a%d='' "),
        (b"<urlset>", b"<a xmlns:a%d='x'/>"), (b"<urlset>", b"<a a%d=''/>"),
    ],
    ids=["comment", "cdata", "names", "attributes", "prefixes", "attribute-names"],
)
def test_what_swells_in_a_parser_is_read_so_far(
    monkeypatch: pytest.MonkeyPatch, start: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("ingest.sitemaps.MAX_SILENT", 2**17)
    body = start + b"".join(piece % number for number in range(60_000))
    body += b"--></urlset>]]>/><url><loc>http://x.example/behind</loc></url>"
    assert listed(body, HERE).pages == []


@pytest.mark.parametrize("form", [b"<url><loc>%s</loc></url>", b"%s\n"], ids=["xml", "lines"])
def test_long_addresses_are_read_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch, form: bytes
) -> None:
    monkeypatch.setattr("ingest.sitemaps.MAX_ROOM", 10_000)
    addresses = [b"http://x.example/%03d" % number + b"a" * 980 for number in range(100)]
    body = (b"<urlset>" if form.startswith(b"<") else b"") + b"".join(form % a for a in addresses)
    assert len(listed(body, HERE).pages) == 10


def test_hostile_listings_are_read_without_a_crash() -> None:
    draw = random.Random(5)
    words = (
        b"<urlset>", b"<url><loc>", b"</loc></url>", b"<:x>", b"<kvhttp:", b"<rss>",
        b"<item><link>", b"]]>", b"<![CDATA[", b"&#x110000;", b"\xff\xfe", b"\x00",
        b"<?xml version='1.0' encoding='utf-16'?>", b"http://[", b"<feed xmlns='", b"'>",
        b"<entry><link href='//'/>",
    )
    for _ in range(3_000):
        body = b"".join(draw.choice(words) for _ in range(draw.randrange(1, 30)))
        assert listed(draw.choice((b"", b"<urlset>")) + body, HERE).kind in ("", "sitemap", "feed")
    assert listed(b"<urlset><kvhttp:/><url><loc>http://x.example/a</loc></url>", HERE).pages == [
        "http://x.example/a"
    ]
