"""Algebra of LoRA factors for the server: plain numpy, no model.

Factors are named `<layer>.lora_A` and `<layer>.lora_B`; the layer's weight changes by
scale * B_Or @ A_rI. Shape suffixes: O outputs, I inputs of a layer, r rank.

Hu et al. 2021, LoRA, https://arxiv.org/abs/2106.09685.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from federate.local import Weights

__all__ = [
    "A",
    "B",
    "ProductMean",
    "factorise",
    "fold",
    "layers_of",
    "product",
    "refactorise",
    "residual",
]

A, B = ".lora_A", ".lora_B"
"""How the names of the two factors end."""

Float64 = npt.NDArray[np.float64]

NOTHING = 1e-6
"""Singular values below this share of the largest are rounding errors of fp32 factors."""


def layers_of(weights: Mapping[str, object]) -> list[str]:
    """Layers of which both factors are there, in the order of `weights`."""
    names = (name.removesuffix(A) for name in weights if name.endswith(A))
    return [name for name in names if name + B in weights]


def product(weights: Mapping[str, npt.NDArray[np.floating]], layer: str) -> Float64:
    """B_Or @ A_rI of one layer in fp64, not scaled."""
    return np.asarray(weights[layer + B].astype(np.float64) @ weights[layer + A].astype(np.float64))


class ProductMean:
    """Weighted mean of B_i @ A_i over clients, layer by layer, as a stream.

    What averaging A and B apart only approximates: the mean of products is no product of means.
    Memory: one fp64 matrix (O, I) a layer, whatever the number of clients and their ranks.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Float64] = {}
        self._totals: dict[str, float] = {}

    def add(self, weights: Weights, share: float) -> None:
        """Take one client's factors, of any rank; a layer of which one is missing is left out."""
        for layer in layers_of(weights):
            term_OI = product(weights, layer) * share
            if layer in self._sums:
                self._sums[layer] += term_OI
            else:
                self._sums[layer] = term_OI
            self._totals[layer] = self._totals.get(layer, 0.0) + share

    def layers(self) -> list[str]:
        """Layers of which there is a mean."""
        return [layer for layer, total in self._totals.items() if total]

    def of(self, layer: str) -> Float64:
        """The mean (O, I)."""
        return self._sums[layer] / self._totals[layer]


def residual(pairs: Iterable[tuple[Float64, Float64]]) -> float:
    """Relative error of (exact, got) matrices over all layers as one vector, Frobenius; 0 if none.

    For exact = mean(B_i A_i) and got = mean(B_i) mean(A_i) it is the aggregation error.
    """
    missed = norm = 0.0
    for exact_OI, got_OI in pairs:
        missed += float(np.square(exact_OI - got_OI).sum())
        norm += float(np.square(exact_OI).sum())
    return float(np.sqrt(missed / norm)) if norm else 0.0


def factorise(
    w_OI: Float64, rank: int, spare_rI: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The best A_rI, B_Or of this rank (Eckart-Young): A orthonormal, singular values in B.

    They fall along r, so that the first k rows of A and columns of B are the best factors of rank
    k. Where `w_OI` has less than full rank, A goes on with rows of `spare_rI` (at least `rank`
    rows) made orthogonal, beside zeros in B: rounding errors choose no direction.
    """
    u_Or, s_r, v_rI = np.linalg.svd(w_OI, full_matrices=False)
    kept = min(rank, int((s_r > NOTHING * max(s_r[0], np.finfo(np.float32).tiny)).sum()))
    a_kI, b_Ok = _signed(v_rI[:kept], u_Or[:, :kept] * s_r[:kept])
    a_rI = np.concatenate([a_kI, _orthogonal_rest(a_kI, spare_rI, rank - kept)])
    b_Or = np.pad(b_Ok, ((0, 0), (0, rank - kept)))
    return a_rI.astype(np.float32), b_Or.astype(np.float32)


def refactorise(
    a_rI: npt.NDArray[np.floating], b_Or: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The same product with A orthonormal and the singular values in B, by a small SVD.

    The rows of A span what they spanned before, also where B is zero.
    """
    q_Ir, t_rr = np.linalg.qr(a_rI.astype(np.float64).T)
    u_Or, s_r, v_rr = np.linalg.svd(b_Or.astype(np.float64) @ t_rr.T, full_matrices=False)
    new_a_rI, new_b_Or = _signed(v_rr @ q_Ir.T, u_Or * s_r)
    return new_a_rI.astype(np.float32), new_b_Or.astype(np.float32)


def fold(weights: Weights, offsets_OI: Weights) -> Weights:
    """Factors of B A plus an offset a layer, at the lowest rank that holds all of these sums."""
    sums = {layer: product(weights, layer) + offset for layer, offset in offsets_OI.items()}
    svds = {layer: np.linalg.svd(sum_OI, full_matrices=False) for layer, sum_OI in sums.items()}
    rank = max(int((s_k > NOTHING * s_k[0]).sum()) for _, s_k, _ in svds.values()) or 1
    found: Weights = {}
    for layer, (u_Ok, s_k, v_kI) in svds.items():
        a_kI, b_Ok = _signed(v_kI[:rank], (u_Ok * s_k)[:, :rank])
        lacking = max(0, rank - len(a_kI))
        found[layer + A] = np.pad(a_kI, ((0, lacking), (0, 0))).astype(np.float32)
        found[layer + B] = np.pad(b_Ok, ((0, 0), (0, lacking))).astype(np.float32)
    return found


def _signed(a_rI: Float64, b_Or: Float64) -> tuple[Float64, Float64]:
    """Each row's largest entry positive: LAPACK leaves the signs open."""
    if not len(a_rI):
        return a_rI, b_Or
    largest_r1 = np.abs(a_rI).argmax(axis=1, keepdims=True)
    sign_r1 = np.where(np.take_along_axis(a_rI, largest_r1, axis=1) < 0, -1.0, 1.0)
    return a_rI * sign_r1, b_Or * sign_r1.T


def _orthogonal_rest(a_kI: Float64, spare_rI: npt.NDArray[np.floating], count: int) -> Float64:
    """`count` orthonormal rows out of the span of `spare_rI` that are orthogonal to `a_kI`."""
    if not count:
        return np.zeros((0, a_kI.shape[1]))
    q_In, t_nn = np.linalg.qr(np.concatenate([a_kI, spare_rI.astype(np.float64)]).T)
    fresh_n = np.abs(np.diag(t_nn))
    fresh_n[: len(a_kI)] = 0.0
    chosen = np.sort(np.argsort(-fresh_n, kind="stable")[:count])
    rest_rI = q_In.T[chosen]
    return _signed(rest_rI, np.zeros((1, count)))[0]
