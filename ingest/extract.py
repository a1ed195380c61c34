"""HTML -> main text.

Every page is cut into blocks (`ingest.maintext`) that six forests of small trees judge. Pages on
which these disagree are left to trafilatura, without what is surely clutter: about one article in
forty in mode `fast`, one in five in mode `quality`.
Hostile pages can hang or exhaust any extractor: call this through `ingest.isolate`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingest.decode import decode
from ingest.tags import parse_page

if TYPE_CHECKING:
    from ingest.maintext.forest import Trees
    from ingest.maintext.segment import Page

__all__ = ["Document", "Mode", "extract", "is_plain", "main_text", "plain_text", "trafilatura_text"]

Mode = Literal["fast", "quality"]

BLOCKS = ("p", "h1", "h2", "h3", "ul", "article")
INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b-\x1f\x7f]"
)
EMPTY_LINES = "\n\n\n"


@dataclass(frozen=True)
class Document:
    """The main text of one page: paragraphs divided by line breaks."""

    text: str
    title: str


def extract(
    html: bytes, url: str = "", mode: Mode = "fast", *, content_type: str = ""
) -> Document | None:
    """Main text of a page, None if it has none. `content_type` is the HTTP header."""
    from ingest.maintext.segment import segment

    source = decode(html, content_type)
    if is_plain(content_type):
        return plain_text(source)
    return main_text(segment(parse_page(source)), url, mode)


def is_plain(content_type: str) -> bool:
    """Whether a page is nothing but text, by its Content-Type header."""
    return content_type.lower().startswith("text/plain")


def plain_text(source: str) -> Document | None:
    """Main text of a page that is nothing but text: all of it."""
    text = tidy(source)
    return Document(text, "") if text else None


def main_text(
    page: "Page", url: str, mode: Mode, trees: "Trees | None" = None
) -> Document | None:
    """`extract` of a page that is cut into blocks, with the shipped trees or others."""
    from ingest.maintext.choose import choose

    text = choose(page, lambda markup: tidy(trafilatura_text(markup, url)), mode, trees)
    if INVISIBLE.search(text) or EMPTY_LINES in text:  # of spaces blocks have none too many
        text = tidy(text)
    return Document(text, page.title) if text else None


def trafilatura_text(markup: bytes, url: str = "") -> str:
    """The main text of well-formed markup as trafilatura sees it in its fast mode, empty if it
    sees none."""
    import trafilatura

    tree = _well_formed(markup)
    if tree is None:
        return ""
    _unwrap_layout_tables(tree)
    _unwrap_paragraphs(tree)
    found = trafilatura.extract(
        tree, url=url or None, fast=True, include_comments=False, include_tables=True,
        include_formatting=False,
    )
    return found or ""


def _well_formed(markup: bytes) -> Any:
    """Tree of markup in which <div/> is an empty element, as it is not in HTML; no namespaces."""
    from lxml import etree, html

    parser = html.XHTMLParser(encoding="utf-8", recover=True, huge_tree=True)
    try:
        return etree.fromstring(markup.replace(b" xmlns", b" data-xmlns"), parser)
    except etree.XMLSyntaxError:
        return None


def _unwrap_layout_tables(tree: Any) -> None:
    """Make divisions of tables that hold whole blocks: they set a page's layout, not data.

    The extractor would print them as rows of cells, navigation included.
    """
    for table in list(tree.iter("table")):
        if next(table.iter(*BLOCKS), None) is not None:
            for cell in table.iter("table", "tbody", "tr", "td", "th"):
                cell.tag = "div"


def _unwrap_paragraphs(tree: Any) -> None:
    """Make divisions of paragraphs that hold others, as only broken markup has them.

    The extractor would join these one by one to a text that it writes anew each time.
    """
    for paragraph in list(tree.iter("p")):
        if next(paragraph.iterdescendants("p"), None) is not None:
            paragraph.tag = "div"


def tidy(text: str) -> str:
    """One space between words, no invisible characters, no empty lines at the ends."""
    seen = INVISIBLE.sub("", "\n".join(text.splitlines()))
    lines = (" ".join(line.split()) for line in seen.split("\n"))
    text = "\n".join(lines)
    return (re.sub(r"\n{3,}", "\n\n", text) if EMPTY_LINES in text else text).strip()
