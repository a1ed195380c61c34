"""What all layers of a fused pass share: its sizes and types, norms, norms folded into matrices."""

import ctypes
from dataclasses import dataclass

import torch

from pretrain.fused.compiled import call

__all__ = ["Frame", "Tensor", "add", "fold", "normalise", "normalise_back", "unfold"]

Tensor = torch.Tensor


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


def normalise(x_NE: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """RMS norm without its weight, in the products' type, and the factor of each row."""
    if frame.kernels:
        hat_NE = torch.empty_like(x_NE, dtype=frame.dtype)
        factor_N = torch.empty(len(x_NE), 1)
        call(frame.kernels.normalise, x_NE, hat_NE, factor_N, *x_NE.shape, frame.eps)
        return hat_NE, factor_N
    size_N = torch.linalg.vector_norm(x_NE, dim=-1, keepdim=True)
    factor_N = (size_N.square() / x_NE.shape[-1] + frame.eps).rsqrt()
    return (x_NE * factor_N).to(frame.dtype), factor_N


def normalise_back(
    dhat_NE: Tensor, hat_NE: Tensor, factor_N: Tensor, residual_NE: Tensor | None, frame: Frame
) -> Tensor:
    """Gradient of the norm's input, added to that of the residual stream if there is one."""
    if frame.kernels:
        dx_NE = torch.empty_like(hat_NE, dtype=factor_N.dtype)
        call(
            frame.kernels.normalise_back,
            dhat_NE, hat_NE, factor_N, residual_NE, dx_NE, *hat_NE.shape,
        )  # fmt: skip
        return dx_NE
    dot_N = torch.linalg.vecdot(dhat_NE.float(), hat_NE.float()).unsqueeze(-1)
    inward = torch.addcmul(dhat_NE, hat_NE, dot_N.neg_().div_(hat_NE.shape[-1]).to(hat_NE.dtype))
    dx_NE = inward * factor_N
    return dx_NE if residual_NE is None else dx_NE.add_(residual_NE)


def add(x_NE: Tensor, y_NE: Tensor, frame: Frame) -> Tensor:
    """x + y in the type of x, where y is of the products' type."""
    if not frame.kernels:
        return x_NE + y_NE
    sum_NE = torch.empty_like(x_NE)
    call(frame.kernels.add, x_NE, y_NE, sum_NE, *x_NE.shape)
    return sum_NE


def fold(norm_E: Tensor, *matrices: Tensor) -> Tensor:
    """The matrices below each other, the norm's weight folded in."""
    return _stack(matrices) * norm_E


def unfold(
    parts: list[Tensor], norm_E: Tensor, matrices: tuple[Tensor, ...], frame: Frame
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients of the norm's weight and of each matrix, from parts of that of `fold`."""
    stacked, sizes = _stack(matrices), [len(matrix) for matrix in matrices]
    if frame.kernels:
        dnorm_E, dstacked = torch.empty_like(norm_E), torch.empty_like(stacked)
        call(
            frame.kernels.unfold, parts, len(parts), norm_E, stacked, dnorm_E, dstacked,
            *stacked.shape,
        )  # fmt: skip
        return dnorm_E, dstacked.split(sizes)
    dfolded = parts[0].float()
    for part in parts[1:]:
        dfolded += part
    return (dfolded * stacked).sum(0), (dfolded * norm_E).split(sizes)


def _stack(matrices: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(matrices) if len(matrices) > 1 else matrices[0]
