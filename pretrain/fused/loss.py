"""Norm, head and cross-entropy in one, forward and backward."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused.frame import Frame, Tensor, fold, normalise, normalise_back, unfold

__all__ = ["Loss"]

ROWS = 512
"""Tokens whose logits exist at a time."""


class Loss(Function):
    """Summed cross-entropy of softmax(W n), where n is the RMS norm of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NE: Tensor,
        norm_E: Tensor,
        head_VE: Tensor,
        y_N: Tensor,
        ignore: int,
        frame: Frame,
    ) -> Tensor:
        hat_NE, factor_N = normalise(x_NE, frame)
        into = fold(norm_E, head_VE).to(frame.dtype)
        total = x_NE.new_zeros(())
        dhat_NE = torch.empty_like(hat_NE)
        dinto = torch.zeros_like(head_VE)
        for start in range(0, len(y_N), ROWS):
            rows = slice(start, start + ROWS)
            share_RV = torch.softmax(hat_NE[rows] @ into.t(), -1)
            wanted = y_N[rows, None]
            counts = wanted != ignore
            place = wanted.where(counts, 0)
            chance = share_RV.gather(1, place)
            total -= chance.float().clamp_min(1e-38).log_().where(counts, 0.0).sum()
            share_RV[torch.arange(len(place)), place[:, 0]] -= 1
            if not bool(counts.all()):
                share_RV.mul_(counts)
            torch.mm(share_RV, into, out=dhat_NE[rows])
            dinto += share_RV.t() @ hat_NE[rows]
        ctx.save_for_backward(hat_NE, factor_N, dhat_NE, dinto)
        ctx.weights = norm_E, head_VE
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor) -> Any:
        hat_NE, factor_N, dhat_NE, dinto = ctx.saved_tensors
        inward = torch.zeros_like(factor_N).expand(hat_NE.shape)
        dx_NE = normalise_back(dhat_NE, hat_NE, factor_N * dtotal, inward)
        dnorm, (dhead,) = unfold(dinto * dtotal, *ctx.weights)
        return dx_NE, dnorm, dhead, None, None, None
