"""Blocks of several corpora in one order of (seed, step), each corpus at its share of them.

Each pick of a training run goes to the part whose turn it is: the k-th block of a part with share s
is due at (k + 1/2) / s picks, and who is due first goes first (Webster's method). So any stretch of
picks, also a single batch, holds every part within a block or so of its share, and where a part
stands follows from the number of the pick alone. Within a part blocks are shuffled anew each epoch,
without replacement.

Shape suffixes: B blocks a batch, T tokens a block.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from commonroot.progress import say
from pretrain.packing import Blocks, Int64, pack

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pretrain.portion import Portion

__all__ = ["FRESH_EPOCHS", "Blend", "blend", "epochs_of", "turns", "warn_of_repeats"]

FRESH_EPOCHS = 4
"""Up to which repeated text is nearly worth fresh text: Muennighoff et al. 2023,
https://arxiv.org/abs/2305.16264."""


@dataclass(frozen=True)
class Blend:
    """Parts and their shares of all blocks, which add up to one."""

    parts: tuple[Blocks, ...]
    shares: tuple[float, ...]

    @property
    def context(self) -> int:
        """Tokens a block."""
        return self.parts[0].context

    def batch(self, seed: int, step: int, size: int) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T) of `step`."""
        if len(self.parts) == 1:
            return self.parts[0].batch(seed, step, size)
        rows = [
            self.parts[part].at([self.parts[part].drawn((seed, part), number)])
            for part, number in turns(self.shares, step * size, (step + 1) * size)
        ]
        return np.concatenate([x for x, _ in rows]), np.concatenate([y for _, y in rows])


def blend(
    tokenizer: "PreTrainedTokenizerBase", portions: "Sequence[Portion]", context: int
) -> Blend:
    """Tokenize the training text of all portions; texts are read as they are needed."""
    parts = tuple(pack(tokenizer, portion.texts("train"), context) for portion in portions)
    return Blend(parts, tuple(portion.share for portion in portions))


def turns(shares: tuple[float, ...], first: int, last: int) -> list[tuple[int, int]]:
    """For picks `first` to `last` - 1: the part, and how many picks it had before.

    Cost follows from the length of the stretch, not from where it lies.
    """
    before, due = _around(shares, first, last)
    skipped = sum(before)
    return [(part, number) for _, part, number in due[first - skipped : last - skipped]]


def epochs_of(data: Blend, picks: int) -> list[float]:
    """How often each part has been read after so many picks."""
    seen, due = _around(data.shares, picks, picks)
    for _, part, _ in due[: picks - sum(seen)]:
        seen[part] += 1
    return [count / len(part) for count, part in zip(seen, data.parts, strict=True)]


def warn_of_repeats(portions: "Sequence[Portion]", epochs: Sequence[float]) -> None:
    """A line for each part of a mixture that is read more often than pays."""
    for portion, times in zip(portions, epochs, strict=True):
        if times > FRESH_EPOCHS and len(portions) > 1:
            say(
                f"pretrain: {portion.name}, {portion.share:.0%} of the tokens, is read {times:.1f} "
                f"times: beyond {FRESH_EPOCHS} repeated text is worth little; lower its weight or "
                "gather more of it"
            )


def _around(
    shares: tuple[float, ...], first: int, last: int
) -> tuple[list[int], list[tuple[float, int, int]]]:
    """(due, part, number) in order over a stretch that holds `first` to `last`, and what each part
    had before it: counts are within half of what a share makes, so one pick a part is enough."""
    slack = len(shares)
    before, due = [], []
    for part, share in enumerate(shares):
        start = _count(share, max(0, first - slack))
        stop = _count(share, last + slack)
        before.append(start)
        due += [((number + 0.5) / share, part, number) for number in range(start, stop)]
    return before, sorted(due)


def _count(share: float, time: int) -> int:
    """Blocks that are due before `time`."""
    count = max(0, math.ceil(time * share - 0.5))
    while count and (count - 0.5) / share >= time:
        count -= 1
    while (count + 0.5) / share < time:
        count += 1
    return count
