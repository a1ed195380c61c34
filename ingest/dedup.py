"""Exact and near duplicates: sha256 of the normalised text, MinHash with banding in numpy.

Broder 1997 (MinHash); 14 bands of 8 rows, 5-word shingles as in FineWeb: pairs of Jaccard
similarity .75 meet in a band with probability .77, those of .85 with .99. A pair that meets
counts only if its estimated similarity reaches the threshold, so bands alone never drop a text.

Texts may stream past: what is kept of each is its signature of 448 bytes, and comparing them takes
about 100 bytes a text more.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ingest.word_cuts import Ints
from ingest.words import Plain, plain_words

__all__ = [
    "Hashes",
    "Signature",
    "fingerprint",
    "near_duplicate_groups",
    "shingle_hashes",
    "signature",
    "similar_groups",
]

Hashes = npt.NDArray[np.uint64]
Signature = npt.NDArray[np.uint32]

BANDS, ROWS, SHINGLE = 14, 8, 5
THRESHOLD = 0.7
SEED = 20261122
PAIRS_AT_ONCE = 10_000
MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def signature(text: str) -> Signature:
    """MinHash signature, shape (112,): minimum of 112 hash functions over the shingles."""
    return _minima(_shingles(plain_words(text), SHINGLE))


def fingerprint(text: str) -> tuple[str, Signature]:
    """(sha256 of the text without case, punctuation and spacing, its signature): equal keys, equal
    words. Both for the price of reading the text once."""
    words = plain_words(text)
    return hashlib.sha256(words.joined()).hexdigest(), _minima(_shingles(words, SHINGLE))


def shingle_hashes(text: str, words: int = SHINGLE, whole: bool = False) -> Hashes:
    """Distinct hashes of all runs of `words` words, sorted, shape (n,).

    A shorter text is one run, so n >= 1; with `whole` it has none.
    """
    found = plain_words(text)
    if whole and len(found) < words:
        return np.zeros(0, np.uint64)
    return np.unique(_shingles(found, words))


def near_duplicate_groups(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """`similar_groups` of the texts' signatures."""
    return similar_groups((signature(text) for text in texts), threshold)


def similar_groups(signatures: Iterable[Signature], threshold: float = THRESHOLD) -> list[int]:
    """A group id for each text; near-duplicates share one, namely the index of their first text.

    `threshold` bounds the estimated Jaccard similarity of the 5-word shingles (standard error
    .04 with 112 hashes). Groups are connected components, so ends of a chain may differ more.
    """
    rows = list(signatures)
    together = np.stack(rows) if rows else np.zeros((0, BANDS * ROWS), np.uint32)
    parent = list(range(len(rows)))
    del rows
    for left, right in _similar(together, threshold):
        a, b = _root(parent, left), _root(parent, right)
        parent[max(a, b)] = min(a, b)
    return [_root(parent, index) for index in range(len(parent))]


def _similar(signatures: Signature, threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs that agree in a whole band and in enough of the whole."""
    pairs = _candidates(signatures)
    for first in range(0, len(pairs), PAIRS_AT_ONCE):
        left, right = pairs[first : first + PAIRS_AT_ONCE].T
        same = (signatures[left] == signatures[right]).mean(axis=1) >= threshold
        yield from zip(left[same].tolist(), right[same].tolist(), strict=True)


def _candidates(signatures: Signature) -> Ints:
    """Pairs (earlier, later) that agree in a whole band, shape (n, 2); in a bucket each meets the
    first and the one before it."""
    found = [np.zeros((0, 2), np.int64)]
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        values = _mix(_fold(rows))
        order = np.argsort(values, kind="stable")
        fresh = np.append(True, values[order][1:] != values[order][:-1])[: len(order)]
        bucket = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        later = np.flatnonzero(~fresh)
        for earlier in (order[bucket[later]], order[later - 1]):
            found.append(np.stack([earlier, order[later]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _fold(rows: Signature) -> Hashes:
    """One number for each row, shape (n,)."""
    odd, _ = _functions()
    folded: Hashes = (rows.astype(np.uint64) * odd[:ROWS].astype(np.uint64)).sum(axis=1)
    return folded


def _minima(hashes: Hashes) -> Signature:
    """Multiplying by an odd number and adding another shuffles the numbers below 2^32."""
    odd_K, add_K = _functions()
    values = (hashes >> np.uint64(32)).astype(np.uint32)
    lowest = np.empty(BANDS * ROWS, np.uint32)
    mixed = np.empty((ROWS, len(values)), np.uint32)
    for first in range(0, BANDS * ROWS, ROWS):  # so many that they stay in the cache
        part = slice(first, first + ROWS)
        np.multiply(odd_K[part, None], values[None, :], out=mixed)
        mixed += add_K[part, None]
        mixed.min(axis=1, out=lowest[part])
    return lowest


def _shingles(words: Plain, size: int) -> Hashes:
    """Hashes of all runs of `size` words in order; of a shorter text that of the whole."""
    hashes = words.hashes()
    if not len(hashes):
        return np.zeros(1, np.uint64)
    size = min(size, len(hashes))
    runs = len(hashes) - size + 1
    total = hashes[:runs].copy()
    for place in range(1, size):
        total *= MIXERS[0]
        total += hashes[place : place + runs]
    return _mix(total)


def _mix(values: Hashes) -> Hashes:
    """Finaliser of SplitMix64: a polynomial modulo 2^64 has weak low bits."""
    values = (values ^ (values >> np.uint64(30))) * MIXERS[0]
    values = (values ^ (values >> np.uint64(27))) * MIXERS[1]
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=1)
def _functions() -> tuple[Signature, Signature]:
    random = np.random.default_rng(SEED)
    odd, add = random.integers(0, 2**32, size=(2, BANDS * ROWS), dtype=np.uint32)
    return odd | np.uint32(1), add


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index
