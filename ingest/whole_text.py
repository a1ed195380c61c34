"""All that a page shows, menus and notices too: what main-text extraction is measured against."""

from typing import Any

__all__ = ["whole_text"]

UNSEEN = ("script", "style", "noscript", "template", "head")
INLINE = {"a", "abbr", "b", "cite", "code", "em", "font", "i", "mark", "q", "s", "small", "span",
          "strong", "sub", "sup", "time", "u"}


def whole_text(page: str) -> str:
    """Text of every visible element of an HTML page, a block a line."""
    from lxml import etree

    parser = etree.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True)
    tree = etree.fromstring(page.replace("\0", "").encode("utf-8", "replace"), parser)
    if tree is None:
        return ""
    for tag in list(tree.iter(*UNSEEN)):
        tag.clear(keep_tail=True)
    pieces: list[str] = []
    _walk(tree, pieces)
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return "\n".join(line for line in lines if line)


def _walk(root: Any, pieces: list[str]) -> None:
    """In document order, without recursion: pages may be nested deeper than Python's stack."""
    from lxml import etree

    for event, tag in etree.iterwalk(root, events=("start", "end")):
        edge = "" if tag.tag in INLINE else "\n"
        text = tag.text if event == "start" else tag.tail
        pieces.append(f"{edge}{(text or '').replace(chr(10), ' ')}")
