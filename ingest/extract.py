"""HTML -> main text, with trafilatura.

In its fast mode F1 .962 on the 181 benchmark pages at 60 pages/s a core (docs/decisions.md).
Hostile pages can hang or exhaust any extractor: call this through `ingest.isolate`.
"""

import html as html_entities
import re
from dataclasses import dataclass
from typing import Any, Literal

from ingest.decode import decode

__all__ = ["Document", "Mode", "extract"]

Mode = Literal["fast", "quality"]

TITLE = re.compile(r"<title[^>]*>(.{1,300}?)</title", re.I | re.S)
BLOCKS = ("p", "h1", "h2", "h3", "ul", "article")
INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b-\x1f\x7f]"
)


@dataclass(frozen=True)
class Document:
    """The main text of one page: paragraphs divided by line breaks."""

    text: str
    title: str


def extract(
    html: bytes, url: str = "", mode: Mode = "fast", *, content_type: str = ""
) -> Document | None:
    """Main text of a page, None if it has none. `content_type` is the HTTP header."""
    page = decode(html, content_type)
    if content_type.lower().startswith("text/plain"):
        text = tidy(page)
        return Document(text, "") if text else None
    import trafilatura

    tree = trafilatura.load_html(page)
    if tree is None:
        return None
    _unwrap_layout_tables(tree)
    found = trafilatura.extract(
        tree, url=url or None, fast=mode == "fast", include_comments=False, include_tables=True,
        include_formatting=False,
    )
    text = tidy(found or "")
    title = TITLE.search(page)
    name = html_entities.unescape(title.group(1)).strip() if title else ""
    return Document(text, name) if text else None


def _unwrap_layout_tables(tree: Any) -> None:
    """Make divisions of tables that hold whole blocks: they set a page's layout, not data.

    The extractor would print them as rows of cells, navigation included.
    """
    for table in list(tree.iter("table")):
        if next(table.iter(*BLOCKS), None) is not None:
            for cell in table.iter("table", "tbody", "tr", "td", "th"):
                cell.tag = "div"


def tidy(text: str) -> str:
    """One space between words, no invisible characters, no empty lines at the ends."""
    lines = (" ".join(INVISIBLE.sub("", line).split()) for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
