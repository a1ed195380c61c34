"""Exact and near duplicates: sha256 of the normalised text, MinHash with banding in numpy.

Broder 1997 (MinHash); 14 bands of 8 rows, 5-word shingles as in FineWeb: pairs of Jaccard
similarity .75 meet in a band with probability .77, those of .85 with .99. A pair that meets
counts only if its estimated similarity reaches the threshold, so bands alone never drop a text.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Hashes", "exact_key", "near_duplicate_groups", "shingle_hashes", "signature"]

Hashes = npt.NDArray[np.uint64]

BANDS, ROWS, SHINGLE = 14, 8, 5
THRESHOLD = 0.7
SEED = 20261122
BASE = 0x9E3779B97F4A7C15
WORD = re.compile(rb"[^\W_]+|[\x80-\xff]+")


def exact_key(text: str) -> str:
    """sha256 of the text without case, punctuation and spacing: equal keys, equal words."""
    return hashlib.sha256(b" ".join(_words(text))).hexdigest()


def near_duplicate_groups(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """A group id for each text; near-duplicates share one, namely the index of their first text.

    `threshold` bounds the estimated Jaccard similarity of the 5-word shingles (standard error
    .04 with 112 hashes). Groups are connected components, so ends of a chain may differ more.
    """
    signatures = np.stack([signature(text) for text in texts]) if texts else _empty()
    parent = list(range(len(texts)))
    for left, right in _candidates(signatures):
        a, b = _root(parent, left), _root(parent, right)
        if a != b and float(np.mean(signatures[left] == signatures[right])) >= threshold:
            parent[max(a, b)] = min(a, b)
    return [_root(parent, index) for index in range(len(texts))]


def signature(text: str) -> Hashes:
    """MinHash signature, shape (112,): minimum of 112 hash functions over the shingles."""
    hashes_n = shingle_hashes(text)
    multiply_k, add_k = _functions()
    mixed_kn = multiply_k[:, None] * hashes_n[None, :] + add_k[:, None]
    lowest: Hashes = (mixed_kn >> np.uint64(32)).min(axis=1)
    return lowest


def _candidates(signatures: Hashes) -> list[tuple[int, int]]:
    """Pairs (earlier, later) that agree in a whole band; in a bucket each meets its first."""
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        rows = np.ascontiguousarray(signatures[:, band * ROWS : (band + 1) * ROWS])
        buckets: dict[bytes, list[int]] = {}
        for index, row in enumerate(rows):
            bucket = buckets.setdefault(row.tobytes(), [])
            pairs.update((other, index) for other in (bucket[:1] + bucket[-1:]))
            bucket.append(index)
    return sorted(pairs)


def _words(text: str) -> list[bytes]:
    return WORD.findall(text.lower().encode("utf-8", "replace"))


def shingle_hashes(text: str, words: int = SHINGLE, whole: bool = False) -> Hashes:
    """Distinct hashes of all runs of `words` words, sorted, shape (n,).

    A shorter text is one run, so n >= 1; with `whole` it has none. A polynomial over the bytes
    taken from one running sum: no Python loop over shingles, which is what bounds other
    implementations.
    """
    found = _words(text) or [b""]
    if whole and len(found) < words:
        return np.zeros(0, np.uint64)
    joined = np.frombuffer(b" ".join(found) + b" ", dtype=np.uint8).astype(np.uint64)
    lengths = np.array([len(word) + 1 for word in found], dtype=np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    powers, inverses = _powers(len(joined))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum((joined + np.uint64(1)) * powers)])
    size = min(words, len(found))
    first, last = starts[: len(found) - size + 1], ends[size - 1 :]
    raw = (sums[last] - sums[first]) * inverses[first]
    return np.unique(_mix(raw))


def _mix(values: Hashes) -> Hashes:
    """Finaliser of SplitMix64: a polynomial modulo 2^64 has weak low bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


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


@lru_cache(maxsize=1)
def _functions() -> tuple[Hashes, Hashes]:
    random = np.random.default_rng(SEED)
    multiply, add = random.integers(0, 2**64, size=(2, BANDS * ROWS), dtype=np.uint64)
    return multiply | np.uint64(1), add


def _empty() -> Hashes:
    return np.zeros((0, BANDS * ROWS), dtype=np.uint64)


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index
