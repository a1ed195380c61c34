"""What all layers of a fused pass share: its sizes and types, norms, norms folded into matrices."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from pretrain.fused.compiled import call

__all__ = [
    "Frame",
    "Kept",
    "Normed",
    "Parts",
    "Tensor",
    "Weights",
    "add_up",
    "fold",
    "normalise",
    "normalise_back",
    "unfold",
]

Tensor = torch.Tensor
Weights = Sequence[Tensor]
"""Of one layer, fp32."""
Kept = tuple[Any, ...]
"""What the way back needs of the way there."""
Parts = tuple[Tensor, ...]
"""Gradients of a layer's weights from a part of the batch, in the products' type."""


@dataclass(frozen=True)
class Frame:
    """What all layers of one pass share."""

    B: int
    T: int
    H: int
    G: int
    D: int
    eps: float
    dtype: torch.dtype
    """Of the matrix products."""
    cos_TA: Tensor
    """For the first halves of all query and key heads, side by side (T, A x D/2)."""
    sin_TA: Tensor
    kernels: ctypes.CDLL | None = None
    """Do what stands between products of bf16 in one pass, which torch does in several."""


class Normed(NamedTuple):
    """Rows of RMS norm one, in the products' type, and the factor of each."""

    hat_NE: Tensor
    factor_N: Tensor


def normalise(x_NE: Tensor, y_NE: Tensor | None, frame: Frame) -> tuple[Tensor, Normed]:
    """x + y (in the type of x; x itself without y), and its RMS norm without the norm's weight."""
    if frame.kernels:
        sum_NE = x_NE if y_NE is None else torch.empty_like(x_NE)
        hat_NE = torch.empty_like(x_NE, dtype=frame.dtype)
        factor_N = torch.empty(len(x_NE), 1)
        call(
            frame.kernels.normalise, x_NE, y_NE, sum_NE, hat_NE, factor_N, *x_NE.shape, frame.eps
        )
        return sum_NE, Normed(hat_NE, factor_N)
    sum_NE = x_NE if y_NE is None else x_NE + y_NE
    size_N = torch.linalg.vector_norm(sum_NE, dim=-1, keepdim=True)
    factor_N = (size_N.square() / x_NE.shape[-1] + frame.eps).rsqrt()
    return sum_NE, Normed((sum_NE * factor_N).to(frame.dtype), factor_N)


def normalise_back(
    dhat_NE: Tensor, normed: Normed, residual_NE: Tensor | None, frame: Frame
) -> tuple[Tensor, Tensor]:
    """Gradient of the norm's input, added to that of the residual stream if there is one; and the
    same in the products' type."""
    hat_NE, factor_N = normed.hat_NE, normed.factor_N
    if frame.kernels:
        dx_NE = torch.empty_like(hat_NE, dtype=factor_N.dtype)
        narrow_NE = torch.empty_like(hat_NE)
        call(
            frame.kernels.normalise_back,
            dhat_NE, hat_NE, factor_N, residual_NE, dx_NE, narrow_NE, *hat_NE.shape,
        )  # fmt: skip
        return dx_NE, narrow_NE
    dot_N = torch.linalg.vecdot(dhat_NE.float(), hat_NE.float()).unsqueeze(-1)
    inward = torch.addcmul(dhat_NE, hat_NE, dot_N.neg_().div_(hat_NE.shape[-1]).to(hat_NE.dtype))
    dx_NE = inward * factor_N
    dx_NE = dx_NE if residual_NE is None else dx_NE.add_(residual_NE)
    return dx_NE, dx_NE.to(frame.dtype)


def fold(norm_E: Tensor, matrices: Weights, frame: Frame) -> Tensor:
    """The matrices below each other in the products' type, the norm's weight folded in."""
    if not frame.kernels:
        return (_stack(matrices) * norm_E).to(frame.dtype)
    sizes = [len(matrix) for matrix in matrices]
    folded = norm_E.new_empty(sum(sizes), len(norm_E), dtype=frame.dtype)
    for matrix, rows in zip(matrices, folded.split(sizes), strict=True):
        call(frame.kernels.fold, matrix, norm_E, rows, *matrix.shape)
    return folded


def unfold(
    parts: list[Tensor], norm_E: Tensor, matrices: Weights, frame: Frame
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients of the norm's weight and of each matrix, from parts of that of `fold`."""
    if not frame.kernels or any(part.dtype != frame.dtype for part in parts):
        dfolded, sizes = add_up(parts), [len(matrix) for matrix in matrices]
        return (dfolded * _stack(matrices)).sum(0), (dfolded * norm_E).split(sizes)
    dnorm_E, dmatrices, first = torch.zeros_like(norm_E), [], 0
    for matrix in matrices:
        dmatrices.append(torch.empty_like(matrix))
        call(
            frame.kernels.unfold, parts, len(parts), first, norm_E, matrix, dnorm_E,
            dmatrices[-1], *matrix.shape,
        )  # fmt: skip
        first += len(matrix)
    return dnorm_E, tuple(dmatrices)


def add_up(parts: Sequence[Tensor]) -> Tensor:
    """Their sum in fp32."""
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part
    return total


def _stack(matrices: Weights) -> Tensor:
    return torch.cat(list(matrices)) if len(matrices) > 1 else matrices[0]
