"""Shingle F1 of the article extraction benchmark, and how sure a difference of two is.

Metric: https://github.com/scrapinghub/article-extraction-benchmark (evaluate.py): words by \\w+,
shingles of four words with their counts, true, false and missed ones of a page normalised to 1;
mean precision over pages for which something was extracted, mean recall, F1 of the two means.
"""

import re
from collections import Counter
from typing import Any

import numpy as np

__all__ = ["compare", "f1", "outcome"]

WORD = re.compile(r"\w+")
SIZE = 4


def outcome(true: str, found: str) -> tuple[float, float, float]:
    """Shares of right, wrong and missed shingles of one page."""
    wanted, seen = _shingles(true), _shingles(found)
    right = (wanted & seen).total()
    wrong, missed = seen.total() - right, wanted.total() - right
    whole = max(right + wrong + missed, 1)
    return right / whole, wrong / whole, missed / whole


def _shingles(text: str) -> Counter[tuple[str, ...]]:
    words = WORD.findall(text)
    starts = range(max(1, len(words) - SIZE + 1)) if words else ()
    return Counter(tuple(words[i : i + SIZE]) for i in starts)


def f1(outcomes: Any) -> tuple[float, float, float]:
    """Mean precision, mean recall, F1 of the two from the outcomes of pages [N, 3]."""
    precision, recall, harmonic = _f1(np.asarray(outcomes)[None])
    return float(precision[0]), float(recall[0]), float(harmonic[0])


def _f1(outcomes_RN3: Any) -> tuple[Any, Any, Any]:
    right, wrong, missed = np.moveaxis(outcomes_RN3, -1, 0)
    seen, wanted = right + wrong, right + missed
    precision = (right / np.maximum(seen, 1e-12)).sum(1) / np.maximum((seen > 0).sum(1), 1)
    recall = (right / np.maximum(wanted, 1e-12)).sum(1) / np.maximum((wanted > 0).sum(1), 1)
    return precision, recall, 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def compare(ours: Any, theirs: Any, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """F1 of ours minus theirs with a 95 % interval; both are resampled by the same pages."""
    a, b = np.asarray(ours), np.asarray(theirs)
    picks = np.random.default_rng(seed).integers(0, len(a), (resamples, len(a)))
    differences = _f1(a[picks])[2] - _f1(b[picks])[2]
    low, high = np.percentile(differences, (2.5, 97.5))
    return {"difference": f1(a)[2] - f1(b)[2], "low": float(low), "high": float(high)}
