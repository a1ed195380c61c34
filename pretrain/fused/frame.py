"""What all layers of a fused pass share: its sizes and types, norms, norms folded into matrices."""

from dataclasses import dataclass

import torch

__all__ = ["Frame", "Tensor", "fold", "normalise", "normalise_back", "unfold"]

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


def normalise(x_NE: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """RMS norm without its weight, in the products' type, and the factor of each row."""
    size_N = torch.linalg.vector_norm(x_NE, dim=-1, keepdim=True)
    factor_N = (size_N.square() / x_NE.shape[-1] + frame.eps).rsqrt()
    return (x_NE * factor_N).to(frame.dtype), factor_N


def normalise_back(
    dhat_NE: Tensor, hat_NE: Tensor, factor_N: Tensor, residual_NE: Tensor
) -> Tensor:
    """Gradient of the norm's input, added to that of the residual stream."""
    dot_N = torch.linalg.vecdot(dhat_NE.float(), hat_NE.float()).unsqueeze(-1)
    inward = torch.addcmul(dhat_NE, hat_NE, dot_N.neg_().div_(hat_NE.shape[-1]).to(hat_NE.dtype))
    return torch.addcmul(residual_NE, inward, factor_N)


def fold(norm_E: Tensor, *matrices: Tensor) -> Tensor:
    """The matrices below each other, the norm's weight folded in."""
    stacked = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    return stacked * norm_E


def unfold(
    dfolded: Tensor, norm_E: Tensor, *matrices: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients of the norm's weight and of each matrix."""
    dfolded = dfolded.float()
    stacked = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    dnorm_E = (dfolded * stacked).sum(0)
    return dnorm_E, (dfolded * norm_E).split([len(matrix) for matrix in matrices])
