"""A page's source -> its blocks of text, in order, with the elements that hold them."""
# ruff: noqa: SIM905

from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from ingest.maintext.hints import HIDDEN, hints_of

__all__ = ["TAG", "TAGS", "Page", "segment"]

SKIPPED = frozenset(
    "script style noscript template svg head iframe object embed applet audio video canvas map "
    "button select option textarea input datalist".split()
)
TAGS = (
    "p div li td h1 h2 h3 blockquote pre dd figcaption ul table article main section header "
    "footer nav aside form figure body".split()
)
"""Names of elements that the classifier tells apart; those that break text are in `TAG`."""
SAME = {
    "th": "td", "h4": "h3", "h5": "h3", "h6": "h3", "dt": "dd", "ol": "ul", "dl": "ul",
    "caption": "figcaption", "menu": "nav", "thead": "table", "tbody": "table", "tfoot": "table",
    "tr": "table", "html": "body", "fieldset": "form",
}
PLAIN = "legend address details summary center hr dialog dir hgroup search".split()
TAG = {name: number for number, name in enumerate(TAGS)}
TAG |= {name: TAG[other] for name, other in SAME.items()} | dict.fromkeys(PLAIN, TAG["div"])
PRE = TAG["pre"]
TITLE_LENGTH = 300


@dataclass
class Page:
    """Blocks of text (lists as long as `texts`) and elements, both in document order.

    Element e holds the blocks `first[e]:last[e]`, and `parent[e] < e` (-1 for the root).
    """

    title: str = ""
    texts: list[str] = field(default_factory=list)
    element: list[int] = field(default_factory=list)
    linked: list[int] = field(default_factory=list)
    strong: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    broken: list[bool] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    tag: list[int] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)


def segment(source: bytes) -> Page:
    """Blocks of a page in UTF-8: runs of text that no block element and no <br> divides."""
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    page = Page()
    try:
        root = etree.fromstring(source, parser)
    except etree.XMLSyntaxError:  # nothing in it
        return page
    if root is None:
        return page
    title = root.find(".//title")
    if title is not None:
        page.title = " ".join("".join(title.itertext()).split())[:TITLE_LENGTH]
    _walk(root, page)
    return page


def _walk(root: Any, page: Page) -> None:
    """One pass over the tree. Long, because it runs for every element of every page."""
    parts: list[str] = []
    current, in_link, in_strong = -1, 0, 0
    linked = strong = links = 0
    broken = False
    walker = etree.iterwalk(root, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        starts = event == "start"
        if starts and tag in SKIPPED:
            walker.skip_subtree()
            continue
        number = TAG.get(tag)
        if number is not None or (tag == "br" and starts):
            if parts:
                raw = "".join(parts)
                text = " ".join(raw.split())
                if text:
                    if current >= 0 and page.tag[current] == PRE:
                        text = "\n".join(" ".join(line.split()) for line in raw.strip().split("\n"))
                    page.texts.append(text)
                    page.element.append(current)
                    page.linked.append(linked)
                    page.strong.append(strong)
                    page.links.append(links)
                    page.broken.append(broken)
                parts = []
            linked = strong = links = 0
            broken = number is None
            if number is None:
                pass
            elif starts:
                page.parent.append(current)
                current = len(page.tag)
                page.tag.append(number)
                page.hints.append(_hints(element))
                page.first.append(len(page.texts))
                page.last.append(0)
            else:
                page.last[current] = len(page.texts)
                current = page.parent[current]
        elif tag == "a":
            in_link += 1 if starts else -1
            links += starts
        elif tag == "b" or tag == "strong":
            in_strong += 1 if starts else -1
        text = element.text if starts else element.tail
        if text:
            parts.append(text)
            if in_link:
                linked += len(text)
            if in_strong:
                strong += len(text)


def _hints(element: Any) -> int:
    attributes = element.attrib
    if not attributes:
        return 0
    get = attributes.get
    names = f"{get('class', '')} {get('id', '')} {get('role', '')} {get('itemprop', '')}"
    bits = hints_of(names)
    if "hidden" in attributes or get("aria-hidden") == "true" or "display:none" in get("style", ""):
        bits |= HIDDEN
    return bits
