"""Pages without end: calendars, sessions, every combination of every filter.

Addresses that differ in nothing but numbers or parameters are one pattern. A pattern has a credit:
a page that gives no new text costs one, a page that does gives one back. Nothing of a pattern is
asked for once its credit is spent.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from ingest.sources.frontier import Frontier

__all__ = ["Credits", "circular", "hash_of", "pattern_of", "texts_of"]

NUMBER = re.compile(r"(?<![0-9A-Za-z])(?=[a-fA-F-]*\d)[0-9a-fA-F-]{8,}(?![0-9A-Za-z])|\d+")
SPACES = re.compile(r"\s+")
LEAST = 25
"""Characters of a piece of text that counts: shorter ones are labels of buttons."""
NEW = 0.3
"""Share of a page's pieces that were never seen before, from which on it gives new text."""
MOST_SEGMENTS = 30
SILENT = {"script", "style", "noscript", "template", "head"}


@lru_cache(maxsize=4_096)
def pattern_of(url: str) -> str | None:
    """Host and path with numbers and hex taken out; None if there is nothing that could vary."""
    parts = urlsplit(url)
    path = NUMBER.sub("0", parts.path)
    if path == parts.path and not parts.query:
        return None
    return f"{parts.netloc}{path}" + ("?" if parts.query else "")


def circular(url: str) -> bool:
    """Does the path go in circles, as wrong relative links make it (/a/b/a/b/a/b)?"""
    segments = urlsplit(url).path.strip("/").split("/")
    if len(segments) < 3:
        return False
    if len(segments) > MOST_SEGMENTS:
        return True
    for size in range(1, len(segments) // 3 + 1):
        for start in range(len(segments) - 3 * size + 1):
            first, second, third = (
                segments[start + size * turn : start + size * (turn + 1)] for turn in range(3)
            )
            if first == second == third:
                return True
    return False


def texts_of(tree: Any) -> list[int]:
    """A number for each longer piece of text on a page, digits taken out; sorted, no doubles."""
    found = set()
    for element in tree.iter() if tree is not None else ():
        if element.tag not in SILENT and element.text:
            found.add(element.text)
        if element.tail:
            found.add(element.tail)
    pieces = {NUMBER.sub("0", SPACES.sub(" ", text).strip()) for text in found}
    return sorted(hash_of(piece) for piece in pieces if len(piece) >= LEAST)


class Credits:
    """What the patterns met so far may still cost; kept in the frontier's open transaction."""

    def __init__(self, frontier: Frontier, most: int) -> None:
        self._frontier = frontier
        self._most = most
        self._left = frontier.credits()

    def left(self, pattern: str) -> int:
        """Pages without new text that it may still give."""
        return self._left.get(pattern, self._most)

    def spend(self, pattern: str, texts: Iterable[int]) -> None:
        """Note a page of a pattern that was asked for, with the pieces of text that it gave."""
        pieces = list(texts)
        fresh = self._frontier.add_texts(hash_of(f"{pattern}/{piece}") for piece in pieces)
        gave = bool(pieces) and fresh >= NEW * len(pieces)
        left = min(self._most, self.left(pattern) + (1 if gave else -1))
        self._left[pattern] = left
        self._frontier.set_credit(pattern, left)


def hash_of(text: str) -> int:
    """A number of 64 bits for a text, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
