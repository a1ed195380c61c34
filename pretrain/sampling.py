"""Less of a text than there is: from all over it, or for the tokenizer, drawn by seed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pretrain.portion import Portion

__all__ = ["sample_texts", "spread"]

Piece = TypeVar("Piece")


def spread(pieces: Sequence[Piece], sizes: Sequence[int], most: float) -> list[Piece]:
    """Pieces from all over the sequence, about `most` together, at least one if there is any."""
    stride = max(1.0, sum(sizes) / most)
    kept, seen, taken = [], 0, 0
    for piece, size in zip(pieces, sizes, strict=True):
        if seen >= taken * stride:
            kept.append(piece)
            taken += size
        seen += size
    return kept


def sample_texts(portions: "Sequence[Portion]", most_bytes: int, seed: int) -> Iterator[str]:
    """Training texts of at most `most_bytes` UTF-8 bytes in all, each portion at its share.

    Documents are drawn without replacement and come in the corpus' order; the last one drawn is
    cut. A portion that has less than its share comes again, as it does in training. No more than
    `most_bytes` of text are in memory, and eight bytes for each document.
    """
    total = min(most_bytes, sum(portion.bytes for portion in portions))
    for number, portion in enumerate(portions):
        whole, rest = divmod(round(portion.share * total), portion.bytes)
        if whole > 1:
            yield from list(portion.texts("train")) * whole
        elif whole:
            yield from portion.texts("train")
        yield from _drawn(portion, rest, np.random.default_rng([seed, number]))


def _drawn(portion: "Portion", most_bytes: int, rng: np.random.Generator) -> Iterator[str]:
    order = rng.permutation(len(portion.sizes))
    ends = np.cumsum(portion.sizes[order])
    whole = int(np.searchsorted(ends, most_bytes, side="right"))
    kept = np.zeros(len(order), dtype=np.int64)
    kept[order[:whole]] = portion.sizes[order[:whole]]
    if whole < len(order):
        kept[order[whole]] = most_bytes - (ends[whole - 1] if whole else 0)
    if not kept.any():
        return
    for size, text in zip(kept, portion.texts("train"), strict=True):
        if size:
            yield text.encode()[:size].decode("utf-8", "ignore")
