"""Words, lines and paragraphs of a text as numpy arrays: what all filters count is found once.

Pieces are compared by hashes that cost two look-ups each. Array suffixes: _C characters.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from ingest.word_cuts import (
    PLAIN,
    SPACE,
    Bools,
    Codes,
    Flags,
    Ints,
    Spans,
    flag_table,
    words_of,
)

__all__ = [
    "Hashes",
    "Layout",
    "Plain",
    "layout",
    "line_hashes",
    "plain_words",
    "word_hash",
]

Hashes = npt.NDArray[np.uint64]

BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Layout:
    """A text taken apart."""

    text: str
    codes_C: Codes
    flags_C: Flags
    words: Spans
    lines: Spans
    """Between line feeds, without spaces at the ends; empty ones are left out."""

    def hashes(self, spans: Spans) -> Hashes:
        """Equal pieces have equal hashes."""
        return _hashes(self._sums, spans)

    def count(self, flags: int, spans: Spans) -> Ints:
        """How many characters of each piece have one of the flags."""
        sums = np.zeros(len(self.flags_C) + 1, np.int64)
        np.cumsum((self.flags_C & flags) != 0, out=sums[1:])
        found: Ints = sums[spans.end] - sums[spans.start]
        return found

    def chunks(self, spans: Spans) -> Ints:
        """How many pieces between spaces begin in each."""
        start, _ = self._chunks
        found: Ints = np.searchsorted(start, spans.end) - np.searchsorted(start, spans.start)
        return found

    def holds_chunk(self, spans: Spans, longest: int) -> Bools:
        """Which hold a piece between spaces of more than `longest` characters."""
        start, end = self._chunks
        long = start[end - start > longest]
        found: Bools = np.searchsorted(long, spans.end) > np.searchsorted(long, spans.start)
        return found

    @cached_property
    def paragraphs(self) -> Spans:
        """Runs of lines without an empty one between them."""
        if not len(self.lines):
            return self.lines
        feeds = np.zeros(len(self.codes_C) + 1, np.int64)
        np.cumsum(self.codes_C == 10, out=feeds[1:])
        apart = feeds[self.lines.start[1:]] - feeds[self.lines.end[:-1]] > 1
        first = np.concatenate([[True], apart])
        last = np.concatenate([apart, [True]])
        return Spans(self.lines.start[first], self.lines.end[last])

    @cached_property
    def _chunks(self) -> tuple[Ints, Ints]:
        solid = np.zeros(len(self.flags_C) + 2, np.int8)
        solid[1:-1] = (self.flags_C & SPACE) == 0
        edges = np.diff(solid)
        return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)

    @cached_property
    def _sums(self) -> tuple[Hashes, Hashes]:
        return _sums(self.codes_C)


@dataclass(frozen=True)
class Plain:
    """The words of a text without case and marks: what copies have in common."""

    codes_C: Codes
    plain_C: Bools

    def __len__(self) -> int:
        return len(self._spans)

    def hashes(self) -> Hashes:
        """One for each word, in order."""
        return _hashes(_sums(self.codes_C), self._spans)

    def joined(self) -> bytes:
        """All words, a space behind each; bytes that serve for comparing only."""
        behind = self.plain_C.copy()
        behind[1:] |= self.plain_C[:-1]
        codes = np.where(self.plain_C, self.codes_C, 32)[behind]
        narrow = np.min_scalar_type(codes.max(initial=0))  # hashing costs by the byte
        return codes.astype(narrow).tobytes()

    @cached_property
    def _spans(self) -> Spans:
        edges = np.diff(np.concatenate([[0], self.plain_C.view(np.int8), [0]]))
        return Spans(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1))


def layout(text: str) -> Layout:
    """Take `text` apart."""
    codes_C = _codes(text)
    flags_C = flag_table()[codes_C]
    return Layout(text, codes_C, flags_C, words_of(codes_C, flags_C), _lines(codes_C, flags_C))


def line_hashes(text: str) -> tuple[Hashes, Spans]:
    """A hash for each line that is not empty, and where it stands."""
    codes_C = _codes(text)
    lines = _lines(codes_C, flag_table()[codes_C])
    return _hashes(_sums(codes_C), lines), lines


def plain_words(text: str) -> Plain:
    """Runs of letters and figures, in lower case."""
    codes_C = _codes(text.lower() + " ")  # so that a space stands behind every word
    return Plain(codes_C, (flag_table()[codes_C] & PLAIN) != 0)


def _codes(text: str) -> Codes:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _sums(codes_C: Codes) -> tuple[Hashes, Hashes]:
    """A polynomial over the characters, summed up to each place; and what undoes its shift."""
    powers, inverses = _powers(len(codes_C) + 1)
    sums = np.zeros(len(codes_C) + 1, np.uint64)
    np.cumsum((codes_C + np.uint64(1)) * powers[:-1], out=sums[1:])
    return sums, inverses


def _hashes(sums: tuple[Hashes, Hashes], spans: Spans) -> Hashes:
    upto, inverses = sums
    return (upto[spans.end] - upto[spans.start]) * inverses[spans.start]


@lru_cache(maxsize=256)
def word_hash(word: str) -> int:
    """What `Layout.hashes` gives for a piece that reads `word`."""
    total = 0
    for place, char in enumerate(word):
        total += (ord(char) + 1) * pow(BASE, place, 2**64)
    return total % 2**64


def _lines(codes_C: Codes, flags_C: Flags) -> Spans:
    feeds = np.flatnonzero(codes_C == 10)
    start = np.concatenate([[0], feeds + 1])
    end = np.concatenate([feeds, [len(codes_C)]])
    solid = np.flatnonzero((flags_C & SPACE) == 0)
    first, behind = np.searchsorted(solid, start), np.searchsorted(solid, end)
    full = behind > first
    return Spans(solid[first[full]], solid[behind[full] - 1] + 1)


def _powers(length: int) -> tuple[Hashes, Hashes]:
    """BASE^i and its inverse modulo 2^64, for i below `length`."""
    powers, inverses = _power_table(max(16, (length - 1).bit_length()))
    return powers[:length], inverses[:length]


@lru_cache(maxsize=4)
def _power_table(bits: int) -> tuple[Hashes, Hashes]:
    powers, inverses = (
        np.full(2**bits, base, dtype=np.uint64) for base in (BASE, pow(BASE, -1, 2**64))
    )
    powers[0] = inverses[0] = 1
    return np.cumprod(powers, dtype=np.uint64), np.cumprod(inverses, dtype=np.uint64)
