"""One tensor <-> integers of known classes on a grid of `step`, and the few bytes that say which.

A matrix (more rows than columns, else turned) is directions x values along them + a rest; anything
else is one row of rest. A row of the rest, or a direction, whose values are all below what the step
can see is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from federate.compression.bits import CLASSES, LARGEST
from federate.compression.factors import (
    DISTORTION,
    MOST_DIRECTIONS,
    Axes,
    directions,
    powers,
    principal_axes,
    product,
)

__all__ = ["Analysed", "Part", "Reader", "analyse", "join", "longest_head", "quantise"]

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

ROUND_UP = 0.38
"""Fraction of a step from which a magnitude is rounded up: a dead zone of 0.62 to each side."""
OUTLIER = 8.0
"""A row that holds a value of so many steps is never left out."""
MOST = float(np.finfo(np.float32).max)
UNIT_CLASS = 24
"""The class of values whose root mean square is in [1, 2) steps."""


@dataclass(frozen=True)
class Analysed:
    """A tensor as rows, and its leading directions."""

    rows_mn: npt.NDArray[np.float32]
    axes: Axes | None


@dataclass(frozen=True)
class Part:
    """Integers, the class of each, and the bytes from which a reader knows the classes."""

    head: bytes
    values_N: Integers
    classes_N: Bytes


def analyse(value: npt.NDArray[np.float32], seed: list[int]) -> Analysed:
    """Done once a tensor; `quantise` then tries steps."""
    m, n, turned = _layout(value.shape)
    rows_mn = value.reshape(n, m).T if turned else value.reshape(m, n)
    if not _factored(m, n) or not rows_mn.any():
        return Analysed(rows_mn, None)
    return Analysed(rows_mn, principal_axes(rows_mn.astype(np.float64), seed))


def quantise(tensor: Analysed, step: float, rng: np.random.Generator | None) -> Part:
    """Round to multiples of `step`; with `rng`, the rest is rounded at random without bias."""
    m, n = tensor.rows_mn.shape
    rest_mn = tensor.rows_mn.astype(np.float64) / step
    head, values, classes = b"", [], []
    if _factored(m, n):
        k = directions(tensor.axes, step) if tensor.axes else 0
        head = bytes([k])
        if k:
            assert tensor.axes
            exponents_k = _exponents(tensor.axes.sizes_k[:k] / step)
            along_mk = _dead_zone(tensor.axes.along_mk[:, :k] / step)
            axes_nk = _dead_zone(tensor.axes.axes_nk[:, :k] * powers(exponents_k))
            rest_mn = rest_mn - product(along_mk, axes_nk, exponents_k)
            head += exponents_k.astype(np.int8).tobytes()
            values += [along_mk.T.ravel(), axes_nk.T.ravel()]
            classes += _factor_classes(exponents_k, m, n)
    rest, row_classes_m = _quantise_rest(rest_mn, rng)
    return Part(
        head + row_classes_m.tobytes(),
        np.concatenate([*values, rest[row_classes_m > 0].ravel()]),
        np.concatenate([*classes, np.repeat(row_classes_m[row_classes_m > 0], n)]),
    )


def join(parts: Iterable[Part]) -> Part:
    """All tensors of a message, one after the other."""
    listed = list(parts)
    return Part(
        b"".join(part.head for part in listed),
        np.concatenate([part.values_N for part in listed]),
        np.concatenate([part.classes_N for part in listed]),
    )


def longest_head(shape: tuple[int, ...]) -> int:
    """Bytes that one tensor's head can have."""
    m, n, _ = _layout(shape)
    return m + (1 + MOST_DIRECTIONS if _factored(m, n) else 0)


class Reader:
    """One tensor of an arriving message: first its head, which says what integers to expect."""

    def __init__(self, shape: tuple[int, ...], head: bytes) -> None:
        """Reads from the start of `head`; `used` says how far. Raises ValueError if it is bad."""
        self.shape = shape
        self.m, self.n, self.turned = _layout(shape)
        self.used = k = 0
        if _factored(self.m, self.n) and head:
            self.used, k = 1, head[0]
        if k > min(self.n, MOST_DIRECTIONS) or len(head) < self.used + k + self.m:
            raise ValueError("the head is cut short or asks for too many directions")
        self.exponents_k = np.frombuffer(head, np.int8, k, self.used).astype(np.int64)
        self.row_classes_m = np.frombuffer(head, np.uint8, self.m, self.used + k)
        self.used += k + self.m
        if int(self.row_classes_m.max(initial=0)) >= CLASSES:
            raise ValueError("a row of an unknown class")

    def classes(self) -> Bytes:
        """The class of every integer of this tensor."""
        rows_m = self.row_classes_m[self.row_classes_m > 0]
        return np.concatenate(
            [*_factor_classes(self.exponents_k, self.m, self.n), np.repeat(rows_m, self.n)]
        )

    def tensor(self, values_N: Integers, step: float) -> npt.NDArray[np.float32]:
        """The decoded tensor."""
        k, m, n = len(self.exponents_k), self.m, self.n
        kept_m = self.row_classes_m > 0
        rows_mn = np.zeros((m, n))
        rows_mn[kept_m] = values_N[(m + n) * k :].reshape(int(kept_m.sum()), n)
        if k:
            along_mk = values_N[: m * k].reshape(k, m).T
            axes_nk = values_N[m * k : (m + n) * k].reshape(k, n).T
            rows_mn += product(along_mk, axes_nk, self.exponents_k)
        with np.errstate(over="ignore"):  # a step may be anything: what is too large is cut off
            scaled_mn = np.clip(rows_mn * step, -MOST, MOST).astype(np.float32)
        return np.ascontiguousarray(scaled_mn.T if self.turned else scaled_mn).reshape(self.shape)


def _layout(shape: tuple[int, ...]) -> tuple[int, int, bool]:
    """(m rows, n columns, whether rows and columns are exchanged)."""
    size = int(np.prod(shape, dtype=np.int64))
    if not size:
        return 0, 0, False
    first = shape[0] if len(shape) > 1 else 1
    second = size // first
    if min(first, second) < 2:
        return 1, size, False
    return max(first, second), min(first, second), first < second


def _factored(m: int, n: int) -> bool:
    return m > 1 and n > 1


def _dead_zone(values: Matrix) -> Integers:
    magnitudes = np.minimum(np.floor(np.abs(values) + ROUND_UP), LARGEST)
    whole: Integers = np.copysign(magnitudes, values).astype(np.int64)
    return whole


def _quantise_rest(rest_mn: Matrix, rng: np.random.Generator | None) -> tuple[Integers, Bytes]:
    """Integers and the class of each row, 0 for one that is left out."""
    if not rest_mn.size:
        return rest_mn.astype(np.int64), np.zeros(len(rest_mn), np.uint8)
    if rng is not None:
        drawn = np.floor(rest_mn + rng.random(rest_mn.shape))
        whole_mn = np.clip(drawn, -LARGEST, LARGEST).astype(np.int64)
        worth_m = np.ones(len(rest_mn), bool)
    else:
        whole_mn = _dead_zone(rest_mn)
        worth_m = np.square(rest_mn).mean(axis=1) > DISTORTION
        worth_m |= np.abs(rest_mn).max(axis=1, initial=0) > OUTLIER
    sizes_m = np.sqrt(np.square(whole_mn.astype(np.float64)).mean(axis=1))
    return whole_mn, np.where(worth_m & (sizes_m > 0), _class(sizes_m), 0).astype(np.uint8)


def _exponents(sizes_k: Matrix) -> Integers:
    exponents_k: Integers = np.clip(np.rint(4 * np.log2(sizes_k)), -128, 127).astype(np.int64)
    return exponents_k


def _factor_classes(exponents_k: Integers, m: int, n: int) -> list[Bytes]:
    """Classes of the integers along the directions, then of the directions themselves."""
    sizes_k = powers(exponents_k)
    return [np.repeat(_class(sizes_k / np.sqrt(length)), length) for length in (m, n)]


def _class(sizes: Matrix) -> Bytes:
    """Octave of a root mean square in steps; 0 is kept for what is left out."""
    octaves = np.frexp(sizes)[1] - 1 + UNIT_CLASS
    classes: Bytes = np.clip(octaves, 1, CLASSES - 1).astype(np.uint8)
    return classes
