"""How much of a text says the same again? Gopher's measures (arXiv 2112.11446, table A1).

Words are given as small integers. A run of n + 1 words can only repeat where its first n words do,
so what is looked at shrinks quickly with n; the counts are exact.
"""

from collections.abc import Iterator

import numpy as np

from ingest.word_cuts import Bools, Ints
from ingest.words import Hashes

__all__ = ["Grams", "grams", "repeated", "repeated_characters", "top_characters"]

Grams = tuple[Ints, Ints]
"""Places (indices of first words) of the n-grams that occur more than once, ascending; which."""


def repeated(ids: Ints | Hashes) -> Bools:
    """Which elements occurred before."""
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    return again


def grams(words: Ints, longest: int) -> Iterator[Grams]:
    """Of each length from 2 to `longest` the n-grams that occur more than once."""
    places, ids = _several(np.arange(len(words)), words)
    for _ in range(2, longest + 1):
        # The n-gram one word further on must repeat as well.
        follows = np.searchsorted(places, places + 1)
        known = np.append(places, -1)[follows] == places + 1
        both = follows[known]
        places, ids = _several(places[known], ids[known] * (len(words) + 1) + ids[both])
        yield places, ids


def _several(places: Ints, ids: Ints) -> Grams:
    """Those whose id occurs more than once, the ids made small again."""
    if not len(ids):
        return places, ids
    _, small, counts = np.unique(ids, return_inverse=True, return_counts=True)
    many = counts[small] > 1
    return places[many], small[many]


def top_characters(found: Grams, size: int, length_W: Ints) -> int:
    """Characters in the most frequent n-gram with a space between words, times its count.

    Of equally frequent ones the first counts. Without repetition: the first n-gram, once.
    """
    places, ids = found
    if not len(places):
        return int(length_W[:size].sum()) + size - 1 if len(length_W) >= size else 0
    counts = np.bincount(ids)
    first = int(places[np.argmax(counts[ids] == counts.max())])
    return (int(length_W[first : first + size].sum()) + size - 1) * int(counts.max())


def repeated_characters(found: Grams, size: int, ends_W: Ints, enough: float) -> int:
    """Characters of words in n-grams that occurred before; none is counted twice.

    `ends_W` are running sums of the words' lengths, shape (words + 1,). The text is read from its
    beginning, and behind a repeated n-gram reading goes on; the n-grams that are jumped over have
    not occurred. Stops when more than `enough` have been found; gives 0 if so many cannot be.
    """
    places, ids = found
    if _most(places, ids, size, ends_W) <= enough:
        return 0
    seen: set[int] = set()
    total = behind = 0
    for place, gram in zip(places.tolist(), ids.tolist(), strict=True):
        if place < behind:
            continue
        if gram in seen:
            behind = place + size
            total += int(ends_W[behind] - ends_W[place])
            if total > enough:
                break
        seen.add(gram)
    return total


def _most(places: Ints, ids: Ints, size: int, ends_W: Ints) -> int:
    """An upper bound: characters of all words in n-grams that are not the first of their kind."""
    later = places[repeated(ids)]
    if not len(later):
        return 0
    upto = np.minimum(later + size, np.append(later[1:], len(ends_W)))
    return int((ends_W[upto] - ends_W[later]).sum())
