"""HTML -> main text.

Every page is cut into blocks (`ingest.maintext`) that small boosted trees judge: in mode `fast`
by themselves, in mode `quality` with what trafilatura thinks of each block. The sixth or so of
pages that is in doubt then is left to trafilatura. Hostile pages can hang or exhaust any
extractor: call this through `ingest.isolate`.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingest.decode import decode

if TYPE_CHECKING:
    from ingest.maintext.forest import Trees

__all__ = ["Document", "Mode", "extract", "main_text", "trafilatura_text"]

Mode = Literal["fast", "quality"]

BLOCKS = ("p", "h1", "h2", "h3", "ul", "article")
INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\x00-\x08\x0b-\x1f\x7f]"
)
CROWDED = re.compile(
    r"<([a-zA-Z][\w-]*+)"
    r"(?:[\s/]++[^\s=<>\"'/]++(?:=(?:\"[^\"]*+\"|'[^']*+'|[^\s>\"']*+))?+){200,}+"
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
    source = decode(html, content_type)
    if content_type.lower().startswith("text/plain"):
        text = tidy(source)
        return Document(text, "") if text else None
    return main_text(source, url, mode)


def main_text(
    source: str, url: str, mode: Mode, trees: "Trees | None" = None
) -> Document | None:
    """`extract` of a page that is decoded, with the shipped trees or others."""
    from ingest.maintext.choose import choose
    from ingest.maintext.segment import segment

    source = _uncrowded(source)
    page = segment(source.encode("utf-8", "replace"))
    always = mode == "quality"
    text = tidy(choose(page, lambda: trafilatura_text(source, url), always, trees))
    return Document(text, page.title) if text else None


def _uncrowded(source: str) -> str:
    """Tags of hundreds of attributes without these: parsers compare each with each."""
    if max(map(len, source.split(">"))) < LONG_TAG:
        return source
    return CROWDED.sub(r"<\1", source)


def trafilatura_text(source: str, url: str = "") -> str:
    """The main text as trafilatura sees it in its fast mode, empty if it sees none."""
    import trafilatura

    tree = trafilatura.load_html(source)
    if tree is None:
        return ""
    _unwrap_layout_tables(tree)
    found = trafilatura.extract(
        tree, url=url or None, fast=True, include_comments=False, include_tables=True,
        include_formatting=False,
    )
    return found or ""


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
