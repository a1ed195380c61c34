"""Causal attention with its norm and its residual, forward and backward."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Tensor, add, fold, normalise, normalise_back, unfold
from pretrain.fused.heads import (
    blocks,
    by_block,
    by_token,
    halves_of,
    head_scales,
    turn,
    turn_back,
    whole,
)

__all__ = ["Attention"]


class Attention(Function):
    """x + W_o attend(W_q n, W_k n, W_v n), where n is the RMS norm of x; causal, rotary."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NE: Tensor,
        norm_E: Tensor,
        q_proj: Tensor,
        k_proj: Tensor,
        v_proj: Tensor,
        o_proj: Tensor,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
        frame: Frame,
    ) -> Tensor:
        hat_NE, factor_N = normalise(x_NE, frame)
        halves = halves_of(q_proj, k_proj, frame)
        into = fold(norm_E, *halves, v_proj).to(frame.dtype)
        out = o_proj.to(frame.dtype)
        made = hat_NE @ into.t()
        scales = None
        if q_norm is not None and k_norm is not None:
            scales = head_scales(q_norm, k_norm, frame)
        (query, key, value), kept = turn(made, scales, frame)
        mixed, shares = _attend(query, key, value, frame)
        mixed_NF = by_token(mixed, frame)
        ctx.save_for_backward(hat_NE, factor_N, into, out, query, key, value, mixed_NF, *shares)
        ctx.kept, ctx.scales, ctx.frame = kept, scales, frame
        ctx.weights = norm_E, q_proj, k_proj, v_proj
        return add(x_NE, mixed_NF @ out.t(), frame)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NE: Tensor) -> Any:
        frame: Frame = ctx.frame
        hat_NE, factor_N, into, out, query, key, value, mixed_NF, *shares = ctx.saved_tensors
        norm_E, q_proj, k_proj, v_proj = ctx.weights
        dout = dy_NE.to(out.dtype)
        dmixed = by_block(dout @ out, frame)
        do_proj = dout.t() @ mixed_NF
        gradients = _attend_back(dmixed, query, key, value, shares, frame)
        dmade, dscales = turn_back(*gradients, ctx.kept, ctx.scales, frame)
        dx_NE = normalise_back(dmade @ into, hat_NE, factor_N, dy_NE, frame)
        halves = halves_of(q_proj, k_proj, frame)
        dinto = [dmade.t() @ hat_NE]
        dnorm, (first, second, dv_proj) = unfold(dinto, norm_E, (*halves, v_proj), frame)
        dq_proj, dk_proj = whole(first, second, frame)
        return dx_NE, dnorm, dq_proj, dk_proj, dv_proj, do_proj.float(), *dscales, None


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
