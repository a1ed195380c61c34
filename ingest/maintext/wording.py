"""What the words of each block say, for all blocks of a page at once.

Shapes: B blocks, C characters of all blocks with a zero after each, W words, in order.
"""
# ruff: noqa: SIM905, RUF001

from typing import Any

import numpy as np

from ingest.maintext.lookup import Lookup

__all__ = ["LEXICON_KINDS", "SHORT", "WORDING", "wording"]

Floats = np.ndarray[Any, np.dtype[np.float32]]

STOPWORDS = frozenset(
    "the of and to a in that is was for on with as at by it he his from be had are this have but "
    "not they which you one were her she all their there been has when who will no if out so what "
    "la le les des et en un une du est que pour dans qui sur pas au par avec il plus ne se sont "
    "der die und den von zu das mit sich auf für ist im dem nicht ein eine auch es werden aus "
    "el los las del con su para lo como más sus al fue este di non per della è o e do da em os na "
    "uma não mais foi het van op te dat zijn met voor niet och på som till att av det för med "
    "что как это но из за от так же его она jest się nie do że".split()
)
LEXICON_KINDS = (
    "share follow subscribe sign login log newsletter email e-mail download join register shop",
    "copyright © rights reserved privacy cookie cookies terms disclaimer powered",
    "more related also recommended trending popular latest view all next advertisement",
    "by posted published updated min ago photo photo: getty credit: reuters am pm",
    "comment comments reply report vote tags tags: filed source: category categories like",
)
"""Words of short blocks that are rarely main text, by kind."""
SHORT = 200
WORDING = "n words stop commas stops end colon quote separator upper title again lexicon".split()
COMMA, STOP, BAR, END, CLOSE, QUOTE = 1, 2, 4, 8, 16, 32
SIGNS = {
    ",，、": COMMA, ".?!": STOP | END, "。！？": STOP | END, "…": END, "|·": BAR, "”’)»": CLOSE,
    "\"'": CLOSE | QUOTE, "“«‘„": QUOTE,
}
"""What a sign may be."""
PREFIX = 8
"""Characters of a word that are compared, beside its length."""
ALPHABETS = 0x530
"""Latin, Greek and Cyrillic letters are below."""


def wording(texts: list[str], title: str) -> Floats:
    """The features `WORDING` of blocks: [len(WORDING), B]."""
    whole = "\0".join([*texts, "\0" * PREFIX])
    codes = np.frombuffer(whole.encode("utf-32-le", "replace"), np.uint32)
    gaps = np.flatnonzero(codes[:-PREFIX] <= 32)  # normalised text: a gap is one character
    begin = np.append(0, gaps[:-1] + 1)
    closing = codes[gaps] == 0
    owner, ends = np.cumsum(closing) - closing, gaps[closing]
    n = np.diff(ends, prepend=-1) - 1
    short = n < SHORT
    count = np.maximum(np.bincount(owner, gaps > begin, len(texts)), 1)
    found = KNOWN(_keys(codes, begin, gaps - begin))
    signs = SIGN[np.minimum(codes, 2**16 - 1)]
    stops = np.flatnonzero(signs & STOP)
    stops = stops[(codes[stops + 1] <= 32) | (codes[stops] > 2**12)]  # no space after "。"
    last = np.where(signs[ends - 1] & CLOSE, signs[np.maximum(ends - 2, 0)], signs[ends - 1])
    return np.stack([
        n, count, np.bincount(owner, IS_STOPWORD[found], len(texts)) / count,
        _per_block(np.flatnonzero(signs & COMMA), ends), _per_block(stops, ends),
        last & END > 0, codes[ends - 1] == ord(":"), signs[ends - n] & QUOTE > 0,
        short & (_per_block(np.flatnonzero(signs & BAR), ends) > 0),
        [text.isupper() for text in texts], _in_title(texts, title), _again(texts),
        _kinds(KIND[found], owner, short),
    ]).astype(np.float32)


def _per_block(positions: Any, ends: Any) -> Any:
    return np.bincount(np.searchsorted(ends, positions), minlength=len(ends))


def _in_title(texts: list[str], title: str) -> list[bool]:
    """Short blocks that are a part of the page's title, or hold it."""
    low = title.lower()
    if not low:
        return [False] * len(texts)
    return [
        12 < len(text) < SHORT and ((own := text.lower()) in low or low in own) for text in texts
    ]


def _again(texts: list[str]) -> list[bool]:
    seen: set[str] = set()
    again: set[str] = set()
    for text in texts:
        (again if text in seen else seen).add(text)
    return [text in again for text in texts]


def _kinds(kind: Any, owner: Any, short: Any) -> Any:
    """The highest kind of `LEXICON_KINDS` that a short block's words are of, 0 for none: [B]."""
    out = np.zeros(len(short), np.int64)
    for number in range(1, len(LEXICON_KINDS) + 1):
        out[owner[kind == number]] = number
    return out * short


def _keys(codes: Any, begin: Any, length: Any) -> Any:
    """One number a word: of its first letters, lower case, and its length."""
    place = np.arange(PREFIX)[:, None]
    letters = LOWER[np.minimum(codes[begin + place], ALPHABETS)] * (place < length)
    return MIX @ letters + length.astype(np.uint64)


def _known() -> tuple[Lookup, Any, Any]:
    """The known words; of each whether it is a stopword and of which kind, last for all others."""
    kinds = {word: k for k, words in enumerate(LEXICON_KINDS, 1) for word in words.split()}
    words = sorted(STOPWORDS | kinds.keys())
    codes = np.frombuffer(" ".join([*words, " " * PREFIX]).encode("utf-32-le"), np.uint32)
    length = np.array([len(word) for word in words])
    lookup = Lookup(_keys(codes, np.cumsum(length + 1) - length - 1, length))
    stop = np.array([*[word in STOPWORDS for word in words], False], np.float64)
    return lookup, stop, np.array([*[kinds.get(word, 0) for word in words], 0])


def _sign() -> Any:
    table = np.zeros(2**16, np.uint8)
    for signs, kinds in SIGNS.items():
        table[[ord(sign) for sign in signs]] = kinds
    return table


SIGN = _sign()
LOWER = np.array([ord(chr(code).lower()[0]) for code in range(ALPHABETS)] + [0], np.uint64)
MIX = np.array([1103515245 ** (k + 1) % 2**53 for k in range(PREFIX)], np.uint64)
KNOWN, IS_STOPWORD, KIND = _known()
