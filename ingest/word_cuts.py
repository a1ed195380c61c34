"""Where words begin and end, as published filters cut them.

By the rules of spaCy's English tokenizer, here over arrays and for most of what occurs: punctuation
at the edges of a chunk stands alone, as do hyphens between letters, `n't` and `'s`; addresses,
paths and abbreviations stay whole. Array suffixes: _C characters, _A atoms (runs of plain
characters, or single marks), _W words.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BULLET",
    "LETTER",
    "PLAIN",
    "PUNCT",
    "SPACE",
    "STOP",
    "SYMBOL",
    "Bools",
    "Codes",
    "Flags",
    "Ints",
    "Spans",
    "flag_table",
    "words_of",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Flags = npt.NDArray[np.uint16]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

(
    SPACE, LETTER, LOWER, UPPER, DIGIT, SYMBOL, EDGE, TAIL, PLAIN, STOP, PUNCT, HYPHEN, SIGN, SUM,
    QUOTE, BULLET,
) = (1 << bit for bit in range(16))
CLITICS = ("s", "S", "ll", "re", "ve", "d", "m")
INSIDE = frozenset("-./@\\¶\u2010\u2011")
"""Punctuation that may stand at the edge of a word and belong to it."""
FRONT_ONLY = frozenset("=+§")
BETWEEN = {HYPHEN: "-~\u2013\u2014", SIGN: ":<>=/", SUM: "+-*^", QUOTE: "'\u2019"}
"""Marks that may part what stands on both sides of them."""


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


@lru_cache(maxsize=1)
def flag_table() -> Flags:
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
        (BULLET, "•-"),
        *BETWEEN.items(),
    ):
        table[[ord(char) for char in chars]] |= flag
    table[0x20000:] |= PLAIN
    return table


def words_of(codes_C: Codes, flags_C: Flags) -> Spans:
    """Where the words of a text stand."""
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
    before_A = _before(last_A) * ~gap_A
    behind_A = _before(flag_A[::-1])[::-1] * ~gap_behind_A

    dot_A = code_A == ord(".")
    follows_A = _before(dot_A) & ~gap_A
    dots_A = dot_A & (follows_A | (_before(dot_A[::-1])[::-1] & ~gap_behind_A))
    front_A = _run(((flag_A & EDGE) != 0) | dots_A, gap_A)
    letter_before = _single_letter(start_A, end_A, flag_A, gap_A)
    full_stop_A = dot_A & (before_A & (LOWER | UPPER | DIGIT | TAIL | EDGE) != 0) & ~letter_before
    tail_A = ((flag_A & TAIL) != 0) | dots_A | full_stop_A
    back_A = _run(tail_A[::-1], gap_behind_A[::-1])[::-1]
    split_A = mark_A & (front_A | back_A | dots_A | _infix(code_A, flag_A, before_A, behind_A))

    begins_A = gap_A | split_A
    begins_A[1:] |= split_A[:-1]
    begins_A &= ~(dots_A & follows_A)
    return _clitics(codes_C, flag_A, start_A, end_A, gap_A, gap_behind_A, begins_A)


def _run(member_A: Bools, first_A: Bools) -> Bools:
    """Members of the unbroken run at the beginning of each chunk."""
    outside = np.cumsum(~member_A)
    chunk = np.maximum.accumulate(np.where(first_A, np.arange(len(first_A)), 0))
    run: Bools = outside == outside[chunk] - ~member_A[chunk]
    return run


def _single_letter(start_A: Ints, end_A: Ints, flag_A: Flags, gap_A: Bools) -> Bools:
    """Atoms right behind a single letter, as the stops in `e.g.` are."""
    single = (end_A - start_A == 1) & ((flag_A & LETTER) != 0)
    behind: Bools = _before(single) & ~gap_A
    return behind


def _before(values_A: Any) -> Any:
    """What stands at the atom before; 0 for the first."""
    out = np.zeros_like(values_A)
    out[1:] = values_A[:-1]
    return out


def _infix(code_A: Codes, flag_A: Flags, before_A: Flags, behind_A: Flags) -> Bools:
    """Marks that part what stands on both sides of them."""
    letter_behind = (behind_A & LETTER) != 0
    letters = ((before_A & LETTER) != 0) & letter_behind
    wordy = ((before_A & (LETTER | DIGIT)) != 0) & letter_behind
    digits = ((before_A & DIGIT) != 0) & ((behind_A & DIGIT) != 0)
    joined = (code_A == ord(".")) & ((before_A & LOWER) != 0) & ((behind_A & UPPER) != 0)
    parts: Bools = (
        (letters & (code_A == ord(","))) | (wordy & ((flag_A & (HYPHEN | SIGN)) != 0))
        | (digits & ((flag_A & SUM) != 0)) | joined
    )
    return parts


def _clitics(
    codes_C: Codes, flag_A: Flags,
    start_A: Ints, end_A: Ints, gap_A: Bools, gap_behind_A: Bools, begins_A: Bools,
) -> tuple[Bools, Ints]:
    """`'s` and its like are words of their own, and so is `n't`."""
    none = np.zeros(0, np.int64)
    apostrophe = ((flag_A & QUOTE) != 0) & ~gap_A & ~gap_behind_A
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
