"""Where many numbers stand among a few that are known, all at once."""

from itertools import count
from typing import Any

import numpy as np

__all__ = ["Lookup"]

BITS = 14
"""Of a slot's number: wide enough for a few hundred keys to be told apart soon."""


class Lookup:
    """Hash table of known keys [N] (64 bits, all different) in which no two share a slot."""

    def __init__(self, known: Any) -> None:
        self._none = len(known)
        self._known = np.append(known, np.uint64(0))
        for odd in count(0x9E3779B97F4A7C15, 2):
            self._factor = np.uint64(odd % 2**64)
            slots = self._slots(known)
            if len(np.unique(slots)) == len(known):
                break
        self._at = np.full(2**BITS, self._none, np.int16)
        self._at[slots] = np.arange(self._none)

    def _slots(self, keys: Any) -> Any:
        return (keys * self._factor) >> np.uint64(64 - BITS)

    def __call__(self, keys: Any) -> Any:
        """Index of each key among the known ones, N for others; shape as `keys`."""
        at = self._at[self._slots(keys)]
        return np.where(self._known[at] == keys, at, self._none)
