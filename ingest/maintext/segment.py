"""A page's tree -> its blocks of text, in order, with the elements that hold them.

Shapes: B blocks, E elements that break text, K tags, S steps (`ingest.maintext.markup`), R runs:
what stands between two tags that break text. A run that is not empty is a block.
"""
# ruff: noqa: SIM905

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ingest.maintext.hints import hints_of
from ingest.maintext.markup import Names, Tags, canonical, tags_of

__all__ = ["TAG", "TAGS", "Page", "segment", "without"]

SKIPPED = tuple(
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
BREAK, LINK, STRONG, OTHER = range(len(TAGS), len(TAGS) + 4)
NAMES = Names(TAG | {"br": BREAK, "a": LINK, "b": STRONG, "strong": STRONG}, OTHER)
PRE = TAG["pre"]
LONGEST_TAG = 500
"""Bytes of a tag in which names are looked for."""
ESCAPES = {"&lt;": "<", "&gt;": ">", "&#13;": " ", "&#xFFFD;": " ", "&amp;": "&"}
"""What stands in well-formed text for other characters; the fourth for any control character."""


def _none() -> Any:
    return np.zeros(0, np.int64)


@dataclass
class Page:
    """Blocks of text [B] and elements [E], both in document order.

    `element` [B] holds a block; `linked` and `strong` [B] are shares of its letters, `links` [B]
    a count, `broken` [B] says that <br> divides it from the one before. Element e holds the
    blocks `first[e]:last[e]`, `parent[e] < e` (-1 for the root), `depth` is 0 for the root, `span`
    [E, 2] are its bytes in `markup`.
    """

    title: str = ""
    markup: bytes = b""
    texts: list[str] = field(default_factory=list)
    element: Any = field(default_factory=_none)
    linked: Any = field(default_factory=_none)
    strong: Any = field(default_factory=_none)
    links: Any = field(default_factory=_none)
    broken: Any = field(default_factory=_none)
    parent: Any = field(default_factory=_none)
    depth: Any = field(default_factory=_none)
    tag: Any = field(default_factory=_none)
    hints: Any = field(default_factory=_none)
    first: Any = field(default_factory=_none)
    last: Any = field(default_factory=_none)
    span: Any = field(default_factory=_none)


def segment(tree: Any) -> Page:
    """Blocks of a page: runs of text that no block element and no <br> divides.

    `tree`: the page as `ingest.tags.parse_page` gives it; it is used up.
    """
    title, markup = canonical(tree, SKIPPED)
    page = Page(title, markup)
    if markup:
        tags = tags_of(markup, NAMES)
        divides = np.zeros(len(tags.start), bool)
        divides[tags.tag[(tags.kind < len(TAGS)) | ((tags.kind == BREAK) & tags.into)]] = True
        elements, run = _Elements(tags), np.cumsum(divides)
        filled = _put_blocks(page, tags, elements, divides, run)
        _put_elements(page, tags, elements, np.append(0, np.cumsum(filled))[run])
    return page


def without(page: Page, elements: Any) -> bytes:
    """The page's markup without some of its elements [E, true for those that go]."""
    pieces, reached = [], 0
    for start, end in page.span[elements].tolist():
        if start >= reached:  # else within one that is gone
            pieces.append(page.markup[reached:start])
            reached = end
    return b"".join([*pieces, page.markup[reached:]])


class _Elements:
    """Elements that break text: the steps that open them and their depths, 1 for the root [E]."""

    def __init__(self, tags: Tags) -> None:
        holds = tags.kind < len(TAGS)
        depth = np.cumsum(np.where(tags.into, 1, -1) * holds)
        self.opens = np.flatnonzero(holds & tags.into)
        self.depth, self.after_tag = depth[self.opens], depth[tags.last]
        self._steps = len(depth)
        keys = self.depth * self._steps + self.opens
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def open_at(self, depth: Any, step: Any) -> Any:
        """Of each depth the element that was opened last until a step; -1 at depth 0."""
        at = np.searchsorted(self._keys, depth * self._steps + step, side="right") - 1
        return np.where(depth > 0, self._order[at], -1)


def _put_blocks(page: Page, tags: Tags, elements: _Elements, divides: Any, run: Any) -> Any:
    """`divides` [K]: which tags begin a run; `run` [K]: the one after each tag, from 1 on.

    Returns which runs are blocks: [R].
    """
    letters = _letters(page.markup, tags)
    whole = np.bincount(run, letters)
    blocks = np.flatnonzero(whole)
    tag = np.flatnonzero(divides)[blocks - 1]
    text = _text(page.markup, tags, letters > 0, divides, tag)
    texts = [piece.strip() for piece in " ".join(text.split()).split("\0")[1:]]
    full = [number for number, piece in enumerate(texts) if piece]  # others hold odd blanks only
    page.texts, blocks, tag = [texts[number] for number in full], blocks[full], tag[full]
    page.element = elements.open_at(elements.after_tag[tag], tags.last[tag])
    pre = np.flatnonzero(tags.kind[elements.opens[page.element]] == PRE)
    raw = text.split("\0")[1:] if len(pre) else []
    for block in pre.tolist():
        lines = raw[full[block]].strip().split("\n")
        page.texts[block] = "\n".join(" ".join(line.split()) for line in lines)
    inside = np.where(tags.into, 1, -1)
    for name, kind in ("linked", LINK), ("strong", STRONG):
        within = np.cumsum(inside * (tags.kind == kind))[tags.last] > 0
        setattr(page, name, np.bincount(run, letters * within)[blocks] / whole[blocks])
    links = run[tags.tag[(tags.kind == LINK) & tags.into]]
    page.links = np.bincount(links, minlength=len(whole))[blocks]
    page.broken = tags.kind[tags.last[tag]] == BREAK
    filled = np.zeros(len(whole), bool)
    filled[blocks] = True
    return filled


def _letters(markup: bytes, tags: Tags) -> Any:
    """Bytes that are no white space between each tag and the next: [K]."""
    until = np.cumsum(np.frombuffer(markup, np.uint8) > 32, dtype=np.int32)
    letters = np.zeros(len(tags.start), np.int32)
    letters[:-1] = until[tags.start[1:] - 1] - until[tags.end[:-1]]
    return letters


def _text(markup: bytes, tags: Tags, lettered: Any, divides: Any, marks: Any) -> str:
    """Text of all runs that have letters, a zero character before each; white space as it stands.

    `lettered` [K]: letters follow the tag; `marks`: tags that begin those runs.
    """
    data = bytearray(markup)
    view = np.frombuffer(data, np.uint8)
    end, start = tags.end + 1, np.append(tags.start[1:], len(data))
    for back, byte in enumerate(b" \0 ", 1):  # the shortest tag has three bytes
        view[end[marks] - back] = byte
    end[marks] -= 3
    inline = ~divides
    inline[:-1] &= ~divides[1:]
    shown = lettered | (inline & (start > end))  # blanks between inline elements divide words
    shown[marks] = True
    bounds = zip(end[shown].tolist(), start[shown].tolist(), strict=True)
    text = b"".join([data[begin:until] for begin, until in bounds]).decode("utf-8", "replace")
    if "&" in text:
        for escaped, character in ESCAPES.items():
            text = text.replace(escaped, character)
    return text


def _put_elements(page: Page, tags: Tags, elements: _Elements, before: Any) -> None:
    """`before` [K]: blocks before each tag."""
    opens = elements.opens
    tag, closing = tags.tag[opens], tags.tag[tags.partner[opens]]
    page.parent, page.depth = elements.open_at(elements.depth - 1, opens), elements.depth - 1
    page.tag = tags.kind[opens]
    page.first, page.last = before[tag], before[closing]
    page.span = np.stack([tags.start[tag], tags.end[closing] + 1], axis=1)
    page.hints = np.zeros(len(opens), np.int64)
    named = np.flatnonzero(~tags.bare[opens] & (page.last > page.first))
    start, end = tags.start[tag[named]], tags.end[tag[named]]
    bounds = zip(start.tolist(), np.minimum(end, start + LONGEST_TAG).tolist(), strict=True)
    page.hints[named] = [hints_of(page.markup[begin:until]) for begin, until in bounds]
