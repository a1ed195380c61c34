"""Texts -> one token stream -> fixed blocks, whose order is a pure function of (seed, step).

Shape suffixes: N tokens of the stream, B blocks a batch, T tokens a block.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORE", "Blocks", "pack"]

IGNORE = -100
Int64 = npt.NDArray[np.int64]


def pack(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], context: int) -> "Blocks":
    """Join texts, each led by the end-of-text token, into blocks of `context` tokens."""
    encoded: Any = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    end = int(tokenizer.eos_token_id)
    stream: list[int] = []
    for ids in encoded:
        stream.append(end)
        stream.extend(ids)
    return Blocks(np.asarray(stream, dtype=np.int64), context)


@dataclass(frozen=True)
class Blocks:
    """A token stream cut into blocks; each token but the first is a target exactly once."""

    stream_N: Int64
    context: int

    def __len__(self) -> int:
        return max(1, -(-(len(self.stream_N) - 1) // self.context))

    def batch(self, seed: int, step: int, size: int) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T) of `step`: epochs are shuffled without replacement.

        The last block of the stream is padded; padded targets are IGNORE.
        """
        picks = range(step * size, (step + 1) * size)
        orders: dict[int, Int64] = {}
        chosen = []
        for pick in picks:
            epoch, place = divmod(pick, len(self))
            if epoch not in orders:
                orders[epoch] = np.random.default_rng([seed, epoch]).permutation(len(self))
            chosen.append(int(orders[epoch][place]))
        return self.at(chosen)

    def at(self, blocks: list[int]) -> tuple[Int64, Int64]:
        """Inputs and targets (B, T) of the blocks with these numbers."""
        x_BT = np.zeros((len(blocks), self.context), dtype=np.int64)
        y_BT = np.full((len(blocks), self.context), IGNORE, dtype=np.int64)
        for row, block in enumerate(blocks):
            window = self.stream_N[block * self.context : (block + 1) * self.context + 1]
            x_BT[row, : len(window) - 1] = window[:-1]
            y_BT[row, : len(window) - 1] = window[1:]
        return x_BT, y_BT
