"""Boosted trees in numpy: all blocks and all trees at once.

Each inner node keeps a bit mask of the leaves that are still possible if its test fails; the
lowest leaf that no failed node rules out is the one reached. Lucchese et al. 2015 (QuickScorer),
https://doi.org/10.1145/2766462.2767733.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

__all__ = ["LEAVES", "Forest", "Trees", "shipped"]

LEAVES = 8
FIRST = np.array([(~byte & (byte + 1)).bit_length() - 1 for byte in range(256)], np.int64)
"""Lowest bit of a byte that is not set (8, which is no leaf, if all are)."""


@dataclass(frozen=True)
class Forest:
    """T trees of at most 8 leaves. `feature`, `threshold`, `mask`: [7, T]; `leaf`: [T, 8]."""

    feature: Any
    threshold: Any
    mask: Any
    leaf: Any

    def __call__(self, x: Any) -> Any:
        """Probability of each block from features [F, B]: [B]."""
        lost = np.zeros((self.feature.shape[1], x.shape[1]), np.uint8)
        for feature, threshold, mask in zip(self.feature, self.threshold, self.mask, strict=True):
            failed = x[feature] > threshold[:, None]
            lost |= failed.view(np.uint8) * ~mask[:, None]
        reached = FIRST[lost]
        reached += np.arange(0, self.leaf.size, LEAVES)[:, None]
        score = np.take(self.leaf, reached).sum(axis=0)
        return 1.0 / (1.0 + np.exp(-score))

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers short enough to be read."""
        return {
            "feature": self.feature.tolist(), "mask": self.mask.tolist(),
            "threshold": [[float(f"{v:.7g}") for v in row] for row in self.threshold.tolist()],
            "leaf": [[round(v, 5) for v in row] for row in self.leaf.tolist()],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Forest":
        """The reverse of `to_json`."""
        return cls(
            np.array(plain["feature"], np.int64), np.array(plain["threshold"], np.float32),
            np.array(plain["mask"], np.uint8), np.array(plain["leaf"], np.float64),
        )


@dataclass(frozen=True)
class Trees:
    """Trees that judge blocks by themselves or with another extractor's advice.

    A page of more doubt (`choose.doubt`) than their limit is left to the other extractor.
    """

    alone: Forest
    advised: Forest
    alone_limit: float
    advised_limit: float


@cache
def shipped() -> Trees:
    """The trees that come with the package; `tests.benchmarks.extraction.train` made them."""
    folder = files("ingest.maintext")
    alone, advised = (
        json.loads(folder.joinpath(f"{name}.json").read_text("utf-8"))
        for name in ("alone", "advised")
    )
    return Trees(
        Forest.from_json(alone), Forest.from_json(advised), alone["doubt"], advised["doubt"]
    )
