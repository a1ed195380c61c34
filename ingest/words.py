"""Words, lines and paragraphs of a text as numpy arrays: what all filters count is found once.

Words are cut as published filters cut them, that is by the rules of spaCy's English tokenizer, here
over arrays and for most of what occurs: punctuation at the edges of a chunk stands alone, as do
hyphens between letters, `n't` and `'s`; addresses, paths and abbreviations stay whole. Array
suffixes: _C characters, _A atoms (runs of plain characters, or single marks), _W words, _L lines.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bools",
    "Hashes",
    "Ints",
    "Layout",
    "Plain",
    "Spans",
    "layout",
    "line_hashes",
    "plain_words",
    "word_hash",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.uint16]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

BASE = 0x9E3779B97F4A7C15
SPACE, LETTER, LOWER, UPPER, DIGIT, SYMBOL, EDGE, TAIL, PLAIN, STOP, PUNCT = (
    1 << bit for bit in range(11)
)
CLITICS = ("s", "S", "ll", "re", "ve", "d", "m")
APOSTROPHE, DASH, LONG_DASH, RIGHT_QUOTE = ord("'"), 0x2013, 0x2014, 0x2019
INSIDE = frozenset("-./@\\¶\u2010\u2011")
"""Punctuation that may stand at the edge of a word and belong to it."""
FRONT_ONLY = frozenset("=+§")
SIGNS, SUMS = (np.array([ord(char) for char in chars]) for chars in (":<>=/", "+-*^"))


@dataclass(frozen=True)
class Spans:
    """Pieces of a text: where each starts and ends (exclusive), in characters."""

    start: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def length(self) -> Ints:
        return self.end - self.start


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
        return np.where(self.plain_C, self.codes_C, 32)[behind].astype("<u4").tobytes()

    @cached_property
    def _spans(self) -> Spans:
        edges = np.diff(np.concatenate([[0], self.plain_C.view(np.int8), [0]]))
        return Spans(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1))


def layout(text: str) -> Layout:
    """Take `text` apart."""
    codes_C = _codes(text)
    flags_C = _table()[codes_C]
    return Layout(text, codes_C, flags_C, _words(codes_C, flags_C), _lines(codes_C, flags_C))


def line_hashes(text: str) -> tuple[Hashes, Spans]:
    """A hash for each line that is not empty, and where it stands."""
    codes_C = _codes(text)
    lines = _lines(codes_C, _table()[codes_C])
    return _hashes(_sums(codes_C), lines), lines


def plain_words(text: str) -> Plain:
    """Runs of letters and figures, in lower case."""
    codes_C = _codes(text.lower() + " ")  # so that a space stands behind every word
    return Plain(codes_C, (_table()[codes_C] & PLAIN) != 0)


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


def _words(codes_C: Codes, flags_C: Flags) -> Spans:
    if not len(codes_C):
        return Spans(np.zeros(0, np.int64), np.zeros(0, np.int64))
    plain_C = (flags_C & PLAIN) != 0
    starts_C = (flags_C & SPACE) == 0
    starts_C[1:] &= ~(plain_C[1:] & plain_C[:-1])
    start_A = np.flatnonzero(starts_C)
    if not len(start_A):
        return Spans(start_A, start_A)
    next_A = np.append(start_A[1:], len(codes_C))
    # An atom ends where the next begins or at the first space behind it.
    space = np.flatnonzero((flags_C & SPACE) != 0)
    space = np.append(space, len(codes_C))
    end_A = np.minimum(next_A, space[np.searchsorted(space, start_A)])
    begins_A, extra = _boundaries(codes_C, flags_C, start_A, end_A)
    start_W = start_A[begins_A]
    last = np.append(np.flatnonzero(begins_A)[1:] - 1, len(start_A) - 1)
    end_W = end_A[last]
    if len(extra):  # the n of n't
        place = np.searchsorted(start_W, extra, "right") - 1
        start_W = np.insert(start_W, place + 1, extra)
        end_W = np.insert(end_W, place, extra)
    return Spans(start_W, end_W)


def _boundaries(
    codes_C: Codes, flags_C: Flags, start_A: Ints, end_A: Ints
) -> tuple[Bools, Ints]:
    """Which atoms begin a word; and where words begin inside an atom."""
    code_A, flag_A = codes_C[start_A], flags_C[start_A]
    mark_A = (flag_A & PLAIN) == 0
    gap_A = np.append(True, start_A[1:] > end_A[:-1])
    gap_behind_A = np.append(gap_A[1:], True)
    last_A = flags_C[end_A - 1]
    before_A = np.where(gap_A, 0, np.roll(last_A, 1))
    behind_A = np.where(gap_behind_A, 0, np.roll(flag_A, -1))

    dot_A = code_A == ord(".")
    dots_A = dot_A & ((np.roll(dot_A, 1) & ~gap_A) | (np.roll(dot_A, -1) & ~gap_behind_A))
    front_A = _run(((flag_A & EDGE) != 0) | dots_A, gap_A)
    letter_before = _single_letter(start_A, end_A, flag_A, gap_A)
    full_stop_A = dot_A & (before_A & (LOWER | UPPER | DIGIT | TAIL | EDGE) != 0) & ~letter_before
    tail_A = ((flag_A & TAIL) != 0) | dots_A | full_stop_A
    back_A = _run(tail_A[::-1], gap_behind_A[::-1])[::-1]
    split_A = mark_A & (front_A | back_A | dots_A | _infix(code_A, before_A, behind_A))

    begins_A = gap_A | split_A
    begins_A[1:] |= split_A[:-1]
    begins_A &= ~(dots_A & np.roll(dots_A, 1) & ~gap_A)
    return _clitics(codes_C, code_A, start_A, end_A, gap_A, gap_behind_A, begins_A)


def _run(member_A: Bools, first_A: Bools) -> Bools:
    """Members of the unbroken run at the beginning of each chunk."""
    outside = np.cumsum(~member_A)
    chunk = np.maximum.accumulate(np.where(first_A, np.arange(len(first_A)), 0))
    run: Bools = outside == outside[chunk] - ~member_A[chunk]
    return run


def _single_letter(start_A: Ints, end_A: Ints, flag_A: Flags, gap_A: Bools) -> Bools:
    """Atoms right behind a single letter, as the stops in `e.g.` are."""
    single = (end_A - start_A == 1) & ((flag_A & LETTER) != 0)
    behind: Bools = np.roll(single, 1) & ~gap_A
    return behind


def _infix(code_A: Codes, before_A: Flags, behind_A: Flags) -> Bools:
    """Marks that part what stands on both sides of them."""
    letters = (before_A & LETTER != 0) & (behind_A & LETTER != 0)
    hyphen = np.isin(code_A, (ord("-"), ord("~"), DASH, LONG_DASH))
    comma = code_A == ord(",")
    sign = np.isin(code_A, SIGNS)
    wordy = (before_A & (LETTER | DIGIT) != 0) & (behind_A & LETTER != 0)
    digits = (before_A & DIGIT != 0) & (behind_A & DIGIT != 0)
    between = np.isin(code_A, SUMS)
    joined = (code_A == ord(".")) & (before_A & LOWER != 0) & (behind_A & UPPER != 0)
    parts: Bools = (letters & comma) | (wordy & (hyphen | sign)) | (digits & between) | joined
    return parts


def _clitics(
    codes_C: Codes, code_A: Codes,
    start_A: Ints, end_A: Ints, gap_A: Bools, gap_behind_A: Bools, begins_A: Bools,
) -> tuple[Bools, Ints]:
    """`'s` and its like are words of their own, and so is `n't`."""
    none = np.zeros(0, np.int64)
    apostrophe = np.isin(code_A, (APOSTROPHE, RIGHT_QUOTE)) & ~gap_A & ~gap_behind_A
    places = np.flatnonzero(apostrophe)
    if not len(places):
        return begins_A, none
    extra = []
    for place in places.tolist():
        follows = "".join(map(chr, codes_C[start_A[place + 1] : end_A[place + 1]][:3].tolist()))
        previous = int(codes_C[start_A[place] - 1])
        if follows in CLITICS:
            begins_A[place], begins_A[place + 1] = True, False
        elif follows == "t" and previous == ord("n") and end_A[place - 1] - start_A[place - 1] > 1:
            begins_A[place : place + 2] = False
            extra.append(int(start_A[place]) - 1)
    return begins_A, np.array(extra, np.int64) if extra else none


@lru_cache(maxsize=1)
def _table() -> Flags:
    """Flags of every code point, shape (0x110000,)."""
    import regex

    every = np.arange(0x110000, dtype=np.uint32)
    letters = every.view("U1")
    table = np.zeros(len(every), np.uint16)
    strings = np.strings
    for flag, members in (
        (SPACE, strings.isspace(letters)),
        (LETTER, strings.isalpha(letters)),
        (LOWER, strings.islower(letters)),
        (UPPER, strings.isupper(letters)),
        (DIGIT, strings.isdecimal(letters)),
    ):
        table[members] |= flag
    alphabet = "".join(map(chr, range(0x20000)))
    edge = set(regex.findall(r"[\p{P}\p{Sc}\p{So}=+<>`\xb4]", alphabet)) - INSIDE
    for flag, chars in (
        (SYMBOL | PUNCT, regex.findall(r"\p{P}", alphabet)),
        (SYMBOL, regex.findall(r"[\p{Cc}$+<=>^`|~\xb4]", alphabet)),
        (STOP, regex.findall(r"\p{Sentence_Terminal}", alphabet)),
        (PLAIN, regex.findall(r"[\p{L}\p{M}\p{N}]", alphabet)),
        (EDGE, edge),
        (TAIL, edge - FRONT_ONLY),
    ):
        table[[ord(char) for char in chars]] |= flag
    table[0x20000:] |= PLAIN
    return table


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
