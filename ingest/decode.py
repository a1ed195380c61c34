"""Bytes of a page -> text. Servers are often wrong about the character set; bytes rarely are."""

import codecs
import re

__all__ = ["decode"]

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
LATIN = {"iso-8859-1", "latin-1", "latin1", "us-ascii", "ascii", "iso8859-1"}


def decode(body: bytes, content_type: str = "") -> str:
    """Text of a page: BOM, else UTF-8 if it is valid, else as declared, else windows-1252.

    Valid UTF-8 with multi-byte characters is UTF-8 whatever a header says: other encodings
    practically never form it by chance.
    """
    for bom, name in BOMS:
        if body.startswith(bom):
            return body[len(bom):].decode(name, "replace")
    declared = _declared(content_type.encode()) or _declared(body[:2048])
    if not (declared or "").startswith("utf-16"):
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if declared in LATIN or declared in (None, "utf-8"):
        declared = "cp1252"  # what browsers read for all of these (WHATWG Encoding)
    try:
        return body.decode(declared or "cp1252", "replace")
    except UnicodeError:  # codecs such as punycode replace nothing
        return body.decode("cp1252", "replace")


def _declared(text: bytes) -> str | None:
    found = CHARSET.search(text)
    if not found:
        return None
    try:
        name = codecs.lookup(found.group(1).decode("ascii")).name
    except (LookupError, UnicodeDecodeError):
        return None
    # Python also knows codecs that are no character sets, such as zlib or rot13.
    try:
        b"a".decode(name, "replace")
    except (LookupError, ValueError):
        return None
    return name
