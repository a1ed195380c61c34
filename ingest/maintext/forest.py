"""Boosted trees in numpy: all blocks and all trees at once.

Each inner node keeps a bit mask of the leaves that are still possible if its test fails; the
lowest leaf that no failed node rules out is the one reached. Lucchese et al. 2015 (QuickScorer),
https://doi.org/10.1145/2766462.2767733.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

__all__ = ["LEAVES", "Forest", "Trees", "shipped"]

LEAVES = 8
FIRST = np.array([(~byte & (byte + 1)).bit_length() - 1 for byte in range(256)], np.int32)
"""Lowest bit of a byte that is not set (8, which is no leaf, if all are)."""


@dataclass(frozen=True)
class Forest:
    """T trees of at most 8 leaves, in equal `parts` that were trained on different pages.

    `feature`, `threshold`, `mask`: [7, T]; `leaf`: [T, 8].
    """

    feature: Any
    threshold: Any
    mask: Any
    leaf: Any
    parts: int

    def __call__(self, x: Any) -> Any:
        """Probability of each block from features [F, B], by each part: [parts, B]."""
        blocks = x.shape[1]
        lost = np.zeros((self.feature.shape[1], blocks), np.uint8)
        for feature, threshold, mask in zip(self.feature, self.threshold, self.mask, strict=True):
            failed = x[feature] > threshold[:, None]
            lost |= failed.view(np.uint8) * ~mask[:, None]
        reached = FIRST[lost]
        reached += np.arange(0, self.leaf.size, LEAVES, dtype=np.int32)[:, None]
        score = np.take(self.leaf, reached).reshape(self.parts, -1, blocks).sum(axis=1)
        return 1.0 / (1.0 + np.exp(-score))

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers short enough to be read."""
        return {
            "parts": self.parts, "feature": self.feature.tolist(), "mask": self.mask.tolist(),
            "threshold": [[float(f"{v:.7g}") for v in row] for row in self.threshold.tolist()],
            "leaf": [[round(v, 5) for v in row] for row in self.leaf.tolist()],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Forest":
        """The reverse of `to_json`."""
        return cls(
            np.array(plain["feature"], np.int64), np.array(plain["threshold"], np.float32),
            np.array(plain["mask"], np.uint8), np.array(plain["leaf"], np.float32), plain["parts"],
        )


@dataclass(frozen=True)
class Trees:
    """A forest, and from which disagreement of its parts on each mode asks for advice."""

    forest: Forest
    limits: Mapping[str, float]


@cache
def shipped() -> Trees:
    """The trees that come with the package; `tests.benchmarks.extraction.train` made them."""
    plain = json.loads(files("ingest.maintext").joinpath("trees.json").read_text("utf-8"))
    return Trees(Forest.from_json(plain), plain["limits"])
