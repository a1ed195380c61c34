"""Norm, head and cross-entropy in one, forward and backward."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused.compiled import call
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
        dinto = []
        for start in range(0, len(y_N), ROWS):
            rows = slice(start, start + ROWS)
            nats_R, dlogits_RV = _surprise(hat_NE[rows] @ into.t(), y_N[rows], ignore, frame)
            total += nats_R.sum()
            torch.mm(dlogits_RV, into, out=dhat_NE[rows])
            dinto.append(dlogits_RV.t() @ hat_NE[rows])
        ctx.save_for_backward(hat_NE, factor_N, dhat_NE, *dinto)
        ctx.weights, ctx.frame = (norm_E, head_VE), frame
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor) -> Any:
        hat_NE, factor_N, dhat_NE, *dinto = ctx.saved_tensors
        norm_E, head_VE = ctx.weights
        dx_NE = normalise_back(dhat_NE, hat_NE, factor_N * dtotal, None, ctx.frame)
        dnorm, (dhead,) = unfold(dinto, norm_E, (head_VE,), ctx.frame)
        return dx_NE, dnorm * dtotal, dhead.mul_(dtotal), None, None, None


def _surprise(
    logits_RV: Tensor, y_R: Tensor, ignore: int, frame: Frame
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row (0 if it is to be ignored), and its gradient."""
    if frame.kernels:
        nats_R = torch.empty(len(y_R))
        call(frame.kernels.cross_entropy, logits_RV, y_R, nats_R, *logits_RV.shape, ignore)
        return nats_R, logits_RV
    share_RV = torch.softmax(logits_RV, -1)
    counts = y_R[:, None] != ignore
    place = y_R[:, None].where(counts, 0)
    chance = share_RV.gather(1, place)
    nats_R = chance.float().clamp_min(1e-38).log_().neg_().where(counts, 0.0)
    share_RV[torch.arange(len(place)), place[:, 0]] -= 1
    if not bool(counts.all()):
        share_RV.mul_(counts)
    return nats_R, share_RV
