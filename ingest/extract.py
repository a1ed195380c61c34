"""HTML -> main text.

Every page is cut into blocks (`ingest.maintext`) that small boosted trees judge: in mode `fast`
by themselves, in mode `quality` with what trafilatura thinks of each block. The fifth or so of
pages that is in doubt then is left to trafilatura, in mode `fast` without what is surely clutter.
Hostile pages can hang or exhaust any extractor: call this through `ingest.isolate`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingest.decode import decode, utf8

if TYPE_CHECKING:
    from ingest.maintext.forest import Trees

__all__ = ["Document", "Mode", "extract", "main_text", "trafilatura_text"]

Mode = Literal["fast", "quality"]

BLOCKS = ("p", "h1", "h2", "h3", "ul", "article")
INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b-\x1f\x7f]"
)
CROWDED = re.compile(
    rb"<([a-zA-Z][\w-]*+)"
    rb"(?:[\s/]++[^\s=<>\"'/]++(?:=(?:\"[^\"]*+\"|'[^']*+'|[^\s>\"']*+))?+){200,}+"
)
LONG_TAG = 20_000


@dataclass(frozen=True)
class Document:
    """The main text of one page: paragraphs divided by line breaks."""

    text: str
    title: str


def extract(
    html: bytes, url: str = "", mode: Mode = "fast", *, content_type: str = ""
) -> Document | None:
    """Main text of a page, None if it has none. `content_type` is the HTTP header."""
    if content_type.lower().startswith("text/plain"):
        text = tidy(decode(html, content_type))
        return Document(text, "") if text else None
    return main_text(utf8(html, content_type), url, mode)


def main_text(
    source: bytes, url: str, mode: Mode, trees: "Trees | None" = None
) -> Document | None:
    """`extract` of a page in UTF-8, with the shipped trees or others."""
    from ingest.maintext.choose import choose
    from ingest.maintext.segment import segment

    source = _uncrowded(source)
    page = segment(source)

    def advise(part: bytes | None) -> str:
        return trafilatura_text(source.decode("utf-8", "replace") if part is None else part, url)

    text = tidy(choose(page, advise, mode == "quality", trees))
    return Document(text, page.title) if text else None


def _uncrowded(source: bytes) -> bytes:
    """Tags of hundreds of attributes without these: parsers compare each with each."""
    begin = 0
    while begin + LONG_TAG < len(source):
        end = source.rfind(b">", begin, begin + LONG_TAG)
        if end < 0:
            return CROWDED.sub(rb"<\1", source)
        begin = end + 1
    return source


def trafilatura_text(source: str | bytes, url: str = "") -> str:
    """The main text as trafilatura sees it in its fast mode, empty if it sees none.

    `source` is a page's characters, or bytes of well-formed markup.
    """
    import trafilatura

    tree = trafilatura.load_html(source) if isinstance(source, str) else _well_formed(source)
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
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
