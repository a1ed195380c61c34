"""Head and cross-entropy in one, forward and backward."""

from collections.abc import Sequence

import torch

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Parts, Tensor, Weights, fold, unfold

__all__ = ["collect", "loss", "prepare"]

ROWS = 512
"""Tokens whose logits exist at a time."""
FEW = 4
"""Gradients of the head that wait for each other in the products' type; more are added up."""


def prepare(weights: Weights, frame: Frame) -> Tensor:
    """From norm and head: the head with the norm's weight folded in."""
    norm_E, head_VE = weights
    return fold(norm_E, (head_VE,), frame)


def loss(
    hat_NE: Tensor, into: Tensor, y_N: Tensor, ignore: int, frame: Frame
) -> tuple[Tensor, Tensor, Parts]:
    """Summed cross-entropy of softmax(W n) of the normed rows n; gradients of these, and of W, from
    some rows each or in fp32."""
    total = into.new_zeros((), dtype=torch.float32)
    dhat_NE = torch.empty_like(hat_NE)
    dinto: list[Tensor] = []
    sums = len(y_N) > FEW * ROWS
    for start in range(0, len(y_N), ROWS):
        rows = slice(start, start + ROWS)
        nats_R, dlogits_RV = _surprise(hat_NE[rows] @ into.t(), y_N[rows], ignore, frame)
        total += nats_R.sum()
        torch.mm(dlogits_RV, into, out=dhat_NE[rows])
        dpart = dlogits_RV.t() @ hat_NE[rows]
        if sums and dinto:
            dinto[0] += dpart
        else:
            dinto.append(dpart.float() if sums else dpart)
    return total, dhat_NE, tuple(dinto)


def collect(
    dtotal: Tensor, parts: Sequence[Parts], weights: Weights, frame: Frame
) -> list[Tensor]:
    """Gradients of what went into `prepare`, from those of all parts of a batch, which the
    gradient `dtotal` of their sum is not yet in."""
    norm_E, head_VE = weights
    dnorm, (dhead,) = unfold([one for part in parts for one in part], norm_E, (head_VE,), frame)
    return [dnorm * dtotal, dhead.mul_(dtotal)]


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
