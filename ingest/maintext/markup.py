"""A page's tree -> well-formed markup and a table of its tags, without a step per node.

A parser in C mends the page and writes it out again; in what it writes every "<" and ">" bounds a
tag, so that numpy finds all tags at once. Shapes: K tags, S steps (a tag that opens and closes an
element, <br/>, takes two).
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from lxml import etree

from ingest.maintext.lookup import Lookup

__all__ = ["Names", "Tags", "canonical", "tags_of"]

CDATA = re.compile(rb"<!\[CDATA\[(.*?)\]\]>", re.S)
TITLE_LENGTH = 300
LONG = ("href", "src", "srcset", "data-src", "data-srcset", "content", "onclick")
"""Attributes that say nothing of an element's text, and fill a quarter of a page's markup."""
LONGEST = 12
"""Bytes of a name that are compared."""
SPACE, SLASH, GREATER = b" />"


def canonical(root: Any, skipped: tuple[str, ...]) -> tuple[str, bytes]:
    """Title of a page, and the page as XML without the elements `skipped`, which `root` loses."""
    if root is None:
        return "", b""
    title = root.find(".//title")
    name = "" if title is None else " ".join("".join(title.itertext()).split())[:TITLE_LENGTH]
    etree.strip_elements(root, *skipped, with_tail=False)
    etree.strip_attributes(root, *LONG)
    markup: bytes = etree.tostring(root, encoding="utf-8", with_tail=False)
    return name, CDATA.sub(_as_text, markup) if b"<![CDATA[" in markup else markup


def _as_text(found: re.Match[bytes]) -> bytes:
    text = found.group(1)
    return text.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")


class Names:
    """Numbers of element names: many are looked up at once."""

    def __init__(self, numbers: dict[str, int], other: int) -> None:
        padded = b"".join(name.encode().ljust(LONGEST, b"\0") for name in numbers)
        letters = np.frombuffer(padded, np.uint8).reshape(-1, LONGEST)
        self._lookup = Lookup(_keys(letters.T))
        self._numbers = np.array([*numbers.values(), other], np.int64)

    def __call__(self, letters: Any) -> Any:
        """Numbers of names [LONGEST, K], zeros after their last letters: [K]."""
        return self._numbers[self._lookup(_keys(letters))]


def _keys(letters: Any) -> Any:
    rows = np.ascontiguousarray(letters.T)
    head = rows[:, :8].copy().view(np.uint64)[:, 0]
    tail = rows[:, 8:].copy().view(np.uint32)[:, 0]
    return head ^ (tail.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


@dataclass(frozen=True)
class Tags:
    """Tags in document order, and steps into and out of elements.

    `start`, `end` [K]: bytes of "<" and ">". `tag` [S]: whose step it is; `into` [S]: it opens;
    `kind` [S]: number of the element's name; `bare` [S]: it opens and has no attributes;
    `partner` [S]: the step that closes what this one opens, or opens what it closes;
    `last` [K]: a tag's last step.
    """

    start: Any
    end: Any
    tag: Any
    into: Any
    kind: Any
    bare: Any
    partner: Any
    last: Any


def tags_of(markup: bytes, names: Names) -> Tags:
    """All tags of well-formed markup."""
    data = np.frombuffer(markup + bytes(LONGEST + 2), np.uint8)
    at = np.flatnonzero((data | 2) == GREATER)  # "<" is 60, ">" 62
    opening = data[at] != GREATER
    first = opening.copy()
    first[1:] &= ~opening[:-1]  # a name may hold "<": mended markup still has odd names
    start, end = at[first], at[~opening]
    closes, empty = data[start + 1] == SLASH, data[end - 1] == SLASH
    tag = np.repeat(np.arange(len(start)), 1 + empty)
    last = np.arange(len(start)) + np.cumsum(empty)
    into = ~closes[tag]
    into[last[empty]] = False
    partner = _partners(into)
    kind, bare = np.zeros(len(tag), np.int64), np.zeros(len(tag), bool)
    opens = np.flatnonzero(into)
    begin = start[tag[opens]] + 1
    letters = data[begin + np.arange(LONGEST)[:, None]]
    over = (letters == SPACE) | (letters == SLASH) | (letters == GREATER)
    letters[np.logical_or.accumulate(over, axis=0)] = 0
    kind[opens] = names(letters)
    kind[partner[opens]] = kind[opens]
    length = end[tag[opens]] - begin - empty[tag[opens]]
    bare[opens] = length == (letters != 0).sum(axis=0)
    return Tags(start, end, tag, into, kind, bare, partner, last)


def _partners(into: Any) -> Any:
    """Steps of one depth are in turn into an element and out of the same one."""
    level = np.cumsum(np.where(into, 1, -1)) + ~into
    small = np.int16 if level.max(initial=0) < 2**15 else np.int32
    order = np.argsort(level.astype(small), kind="stable")
    partner = np.empty(len(into), np.int64)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    return partner
