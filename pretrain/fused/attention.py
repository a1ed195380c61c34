"""Causal attention between its norm and its residual, forward and backward."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Kept, Parts, Tensor, Weights, add_up, fold, unfold
from pretrain.fused.heads import (
    blocks,
    by_block,
    by_token,
    head_scales,
    rows_of,
    turn,
    turn_back,
    whole,
)

__all__ = ["Ready", "attend", "attend_back", "collect", "prepare"]


@dataclass(frozen=True)
class Ready:
    """Weights as all blocks of a batch want them."""

    into: Tensor
    """Queries, keys and values, the norm's weight folded in."""
    out: Tensor
    scales: Tensor | None


def prepare(weights: Weights, frame: Frame) -> Ready:
    """From norm, q, k, v, o and, where heads have norms, those of q and k."""
    norm_E, q_proj, k_proj, v_proj, o_proj, *norms = weights
    into = fold(norm_E, (*rows_of(q_proj, k_proj, frame), v_proj), frame)
    scales = head_scales(norms[0], norms[1], frame) if norms else None
    return Ready(into, o_proj.to(frame.dtype), scales)


def attend(hat_NE: Tensor, ready: Ready, frame: Frame) -> tuple[Tensor, Kept]:
    """W_o attend(W_q n, W_k n, W_v n) of the normed rows n; causal, rotary."""
    (query, key, value), turned = turn(hat_NE @ ready.into.t(), ready.scales, frame)
    mixed, shares = _attend(query, key, value, frame)
    mixed_NF = by_token(mixed, frame)
    return mixed_NF @ ready.out.t(), ((query, key, value), turned, mixed_NF, shares)


def attend_back(
    dout_NE: Tensor, hat_NE: Tensor, kept: Kept, ready: Ready, frame: Frame
) -> tuple[Tensor, Parts]:
    """Gradients of the normed rows, and of what is in `Ready`."""
    (query, key, value), turned, mixed_NF, shares = kept
    dmixed = by_block(dout_NE @ ready.out, frame)
    dout = dout_NE.t() @ mixed_NF
    gradients = _attend_back(dmixed, query, key, value, shares, frame)
    dmade, dnorms = turn_back(*gradients, turned, ready.scales, frame)
    return dmade @ ready.into, (dmade.t() @ hat_NE, dout, *dnorms)


def collect(parts: Sequence[Parts], weights: Weights, frame: Frame) -> list[Tensor]:
    """Gradients of what went into `prepare`, from those of all parts of a batch."""
    norm_E, q_proj, k_proj, v_proj, *_ = weights
    dinto, *others = zip(*parts, strict=True)
    rows = rows_of(q_proj, k_proj, frame)
    dnorm, (first, second, dv_proj) = unfold(list(dinto), norm_E, (*rows, v_proj), frame)
    return [dnorm, *whole(first, second, frame), dv_proj, *map(add_up, others)]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, frame: Frame
) -> tuple[Tensor, list[Tensor]]:
    """Mixed values, laid out as the queries, and what share each had, block by block."""
    J, _, Q = blocks(frame)
    mixed, shares = torch.empty_like(query), []
    for j in range(J):
        K = (j + 1) * Q
        shares.append(_weigh(torch.bmm(query[j], key[:, :K].mT), frame))
        torch.bmm(shares[j], value[:, :K], out=mixed[j])
    return mixed, shares


def _attend_back(
    dmixed: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shares: list[Tensor],
    frame: Frame,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Gradients of queries, and of keys and values from each block of queries."""
    Q = blocks(frame)[2]
    dquery = torch.empty_like(query)
    dkeys, dvalues = [], []
    for j, share in enumerate(shares):
        K = (j + 1) * Q
        dshare = torch.bmm(dmixed[j], value[:, :K].mT)
        dscores = _weigh_back(dshare, share, frame)
        torch.bmm(dscores, key[:, :K], out=dquery[j])
        dkeys.append(torch.bmm(dscores.mT, query[j]))
        dvalues.append(torch.bmm(share.mT, dmixed[j]))
    return dquery, dkeys, dvalues


def _weigh(scores: Tensor, frame: Frame) -> Tensor:
    """Softmax of the scores (B x G, R x Q, K) over the keys that a query may see."""
    _, R, Q = blocks(frame)
    K = scores.shape[-1]
    if frame.kernels:
        call(frame.kernels.shares, scores, scores.shape[0] * R * Q, K, Q)
        return scores
    ahead_QQ = torch.full((Q, Q), float("-inf"), dtype=frame.dtype).triu(1)
    scores.view(-1, R, Q, K)[..., K - Q :] += ahead_QQ
    return torch.softmax(scores, -1)


def _weigh_back(dshare: Tensor, share: Tensor, frame: Frame) -> Tensor:
    """Gradient of the scores; that of the shares may be overwritten."""
    if not frame.kernels:
        dscores: Tensor = torch.ops.aten._softmax_backward_data(dshare, share, -1, share.dtype)
        return dscores
    Q = blocks(frame)[2]
    rows, K = share.shape[0] * share.shape[1], share.shape[2]
    call(frame.kernels.shares_back, dshare, share, rows, K, Q)
    return dshare
