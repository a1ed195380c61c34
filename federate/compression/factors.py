"""A matrix as a few directions times what the matrix does along them, on one integer grid.

What a short training run changes in a matrix lies mostly in a few directions (as in PowerSGD,
Vogels et al. 2019, https://arxiv.org/abs/1905.13727), so these cost far fewer bits than the
entries. Here the number of directions follows from the rate-distortion trade-off of the step that
all tensors share, and both factors are rounded to multiples of it. m rows >= n columns, k
directions.

Every product is exact in fp64, so that it does not depend on threads, library or machine.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "MOST_DIRECTIONS",
    "Axes",
    "directions",
    "exact_product",
    "powers",
    "principal_axes",
    "product",
]

Matrix = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MOST_DIRECTIONS = 32
POWER_ITERATIONS = 3
DISTORTION = 0.1
"""Mean squared error per coefficient at which the dead-zone quantiser works, in squared steps."""
QUARTERS = np.array([1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429])
SCALE_BITS = 16.0
"""Cost of one direction beside its coefficients."""


@dataclass(frozen=True)
class Axes:
    """A matrix in the coordinates of its leading directions."""

    along_mk: Matrix
    """The matrix times the directions; columns in falling order of energy."""
    axes_nk: Matrix
    """The directions: orthonormal columns."""
    sizes_k: Matrix
    """L2 norms of the columns of `along_mk`."""
    energy: float
    """Sum of squares of the whole matrix."""


def exact_product(left_mk: Matrix, right_kn: Matrix) -> Matrix:
    """The product of both after rounding to a fixed point so short that no sum of it is rounded."""
    bits = (52 - int(left_mk.shape[1]).bit_length()) // 2
    left, left_exponent = _fixed(left_mk, bits)
    right, right_exponent = _fixed(right_kn, bits)
    return np.ldexp(left @ right, left_exponent + right_exponent)


def principal_axes(matrix_mn: Matrix, seed: list[int]) -> Axes:
    """Leading directions by subspace iteration from a seeded start (Halko et al. 2011,
    https://arxiv.org/abs/0909.4061)."""
    n = matrix_mn.shape[1]
    k = min(n, MOST_DIRECTIONS)
    axes_kn = np.random.default_rng(seed).standard_normal((k, n))
    for _ in range(POWER_ITERATIONS):
        along_mk = exact_product(matrix_mn, _orthonormal(axes_kn).T)
        axes_kn = exact_product(along_mk.T, matrix_mn)
    axes_nk = _orthonormal(axes_kn).T
    along_mk = exact_product(matrix_mn, axes_nk)
    sizes_k = np.sqrt(np.square(along_mk).sum(axis=0))
    order = np.argsort(-sizes_k, kind="stable")
    energy = float(np.square(matrix_mn).sum())
    return Axes(along_mk[:, order], axes_nk[:, order], sizes_k[order], energy)


def directions(axes: Axes, step: float) -> int:
    """How many directions are worth their bits beside coding the rest entry by entry."""
    m, n = len(axes.along_mk), len(axes.axes_nk)
    water = DISTORTION * step * step
    energies_k = np.square(axes.sizes_k)
    left = np.maximum(axes.energy - np.concatenate([[0.0], np.cumsum(energies_k)]), 0)
    price = 2 * np.log(2) * water
    each_k = m * _lagrangian(energies_k / m, water) + n * _lagrangian(energies_k / n, water)
    spent = np.concatenate([[0.0], np.cumsum(each_k + SCALE_BITS * price)])
    return int(np.argmin(spent + m * n * _lagrangian(left / (m * n), water)))


def product(along_mk: Integers, axes_nk: Integers, exponents_k: Integers) -> Matrix:
    """The matrix in steps; direction i was scaled by 2 ** (exponents_k[i] / 4) steps."""
    scaled_nk = axes_nk.astype(np.float64) * powers(-exponents_k)
    return exact_product(along_mk.astype(np.float64), scaled_nk.T)


def powers(quarters: Integers) -> Matrix:
    """2 ** (quarters / 4), the same on every machine."""
    raised: Matrix = np.ldexp(QUARTERS[quarters & 3], quarters >> 2)
    return raised


def _lagrangian(variance: Matrix, water: float) -> Matrix:
    """Distortion + price x bits of a Gaussian coefficient (reverse water-filling)."""
    ratio = np.maximum(variance / water, 1.0)
    return np.minimum(variance, water) + water * np.log(ratio)


def _orthonormal(rows_kn: Matrix) -> Matrix:
    """Gram-Schmidt on rows, without a threaded library call; a row that vanishes stays zero."""
    rows_kn = rows_kn / (np.abs(rows_kn).max() or 1.0)
    for place, row_n in enumerate(rows_kn):
        size = np.sqrt(np.square(row_n).sum())
        row_n /= size if size > 1e-12 else np.inf
        below_n = rows_kn[place + 1 :]
        below_n -= np.einsum("kn,n->k", below_n, row_n)[:, None] * row_n
    return rows_kn


def _fixed(matrix: Matrix, bits: int) -> tuple[Matrix, int]:
    exponent = int(np.frexp(np.abs(matrix).max(initial=0.0))[1]) - bits
    return np.rint(np.ldexp(matrix, -exponent)), exponent
