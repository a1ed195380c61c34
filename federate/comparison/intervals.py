"""Means with their uncertainty: over seeds (Student's t), and over clients (bootstrap)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SMALLEST_GAP", "Interval", "bootstrap", "interval", "ratio", "worst_decile"]

SMALLEST_GAP = 0.01
"""Bits per byte; a gap below this is no gap to take a share of."""
DRAWS = 2000
# Student's t at 97.5 % for 1, 2, … degrees of freedom.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)

Interval = dict[str, Any]
"""mean; std, low, high (95 %), None for one value; values."""
Figure = Callable[[Mapping[str, float]], float | None]


def interval(values: Sequence[float]) -> Interval:
    """Mean, standard deviation (n - 1) and 95 % confidence interval of up to 11 values."""
    mean = float(np.mean(values))
    found: Interval = {"mean": mean, "std": None, "low": None, "high": None}
    if len(values) > 1:
        std = float(np.std(values, ddof=1))
        half = T_975[len(values) - 2] * std / math.sqrt(len(values))
        found |= {"std": std, "low": mean - half, "high": mean + half}
    return {**found, "values": [float(value) for value in values]}


def ratio(parts: Sequence[float], wholes: Sequence[float]) -> Interval | None:
    """Shares part / whole over seeds; None where the whole is no gap to speak of.

    That is a mean below SMALLEST_GAP, or below twice its own standard deviation over the seeds.
    """
    spread = float(np.std(wholes, ddof=1)) if len(wholes) > 1 else 0.0
    mean = float(np.mean(wholes))
    if mean < SMALLEST_GAP or mean < 2 * spread or min(wholes) <= 0:
        return None
    return interval([part / whole for part, whole in zip(parts, wholes, strict=True)])


def bootstrap(columns: Mapping[str, Sequence[float]], figure: Figure) -> list[float] | None:
    """95 % interval of `figure`, which maps the columns' means to a number or None.

    Rows (clients, the same in all columns) are drawn with replacement. None if more than one draw
    in twenty gives no number.
    """
    table_CN: npt.NDArray[np.float64] = np.array(list(columns.values()))
    draw = np.random.default_rng([0, table_CN.shape[1]])
    found = []
    for _ in range(DRAWS):
        rows = draw.integers(table_CN.shape[1], size=table_CN.shape[1])
        means = table_CN[:, rows].mean(axis=1)
        value = figure(dict(zip(columns, map(float, means), strict=True)))
        if value is not None:
            found.append(value)
    if len(found) < 0.95 * DRAWS:
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return [float(low), float(high)]


def worst_decile(values: Sequence[float]) -> float:
    """Mean of the largest tenth of the values, at least one of them."""
    ordered = sorted(values, reverse=True)
    return float(np.mean(ordered[: math.ceil(len(ordered) / 10)]))
