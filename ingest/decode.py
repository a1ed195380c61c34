"""Bytes of a page -> text. Servers are often wrong about the character set; bytes rarely are."""

import codecs
import contextlib
import re
from functools import lru_cache

__all__ = ["decode"]

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
LATIN = {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii", "iso8859-1"}


def decode(body: bytes, content_type: str = "") -> str:
    """Text of a page: BOM, else UTF-8 if it is valid, else as declared, else windows-1252.

    Valid UTF-8 with multi-byte characters is UTF-8 whatever a header says: other encodings
    practically never form it by chance.
    """
    for bom, name in BOMS:
        if body.startswith(bom):
            return body[len(bom):].decode(name, "replace")
    declared = _declared(content_type) or _known(_in_the_page(body[:2048]))
    if not (declared or "").startswith("utf-16"):
        with contextlib.suppress(UnicodeDecodeError):
            return body.decode("utf-8")
    if declared in LATIN or declared in (None, "utf-8"):
        declared = "cp1252"  # what browsers read for all of these (WHATWG Encoding)
    try:
        return body.decode(declared or "cp1252", "replace")
    except UnicodeError:  # codecs such as punycode replace nothing
        return body.decode("cp1252", "replace")


def _declared(content_type: str) -> str | None:
    found = CHARSET.search(content_type)
    return _known(found.group(1)) if found else None


def _in_the_page(head: bytes) -> str | None:
    """What an XML declaration or a meta element says."""
    from bs4.dammit import EncodingDetector

    return EncodingDetector.find_declared_encoding(
        head, is_html=True, search_entire_document=True
    )


@lru_cache(maxsize=256)
def _known(name: str | None) -> str | None:
    """Python's name of a character set, if it is one."""
    try:
        known = codecs.lookup(name or "").name
        # Python also knows codecs that are no character sets, such as zlib or rot13.
        b"a".decode(known, "replace")
    except (LookupError, ValueError):
        return None
    return known
