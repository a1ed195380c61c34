"""Causal attention with its norm and its residual, forward and backward."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused.frame import Frame, Tensor, fold, normalise, normalise_back, unfold
from pretrain.fused.heads import (
    blocks,
    by_block,
    by_token,
    halves_of,
    head_scales,
    lay_out,
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
        half = halves[0].shape[0]
        scales = None
        if q_norm is not None and k_norm is not None:
            scales = head_scales(q_norm, k_norm, frame)
        turned, kept = turn(made[:, :half], made[:, half : 2 * half], scales, frame)
        query, key, value = lay_out(turned, made[:, 2 * half :], frame)
        mixed, shares = _attend(query, key, value, frame)
        mixed_NF = by_token(mixed, frame)
        ctx.save_for_backward(hat_NE, factor_N, into, out, query, key, value, mixed_NF, *shares)
        ctx.kept, ctx.scales, ctx.frame = kept, scales, frame
        ctx.weights = norm_E, q_proj, k_proj, v_proj
        return x_NE + mixed_NF @ out.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NE: Tensor) -> Any:
        frame: Frame = ctx.frame
        hat_NE, factor_N, into, out, query, key, value, mixed_NF, *shares = ctx.saved_tensors
        norm_E, q_proj, k_proj, v_proj = ctx.weights
        dout = dy_NE.to(out.dtype)
        dmixed = by_block(dout @ out, frame)
        do_proj = dout.t() @ mixed_NF
        dquery, dkey, dvalue = _attend_back(dmixed, query, key, value, shares, frame)
        dmade = torch.empty(len(hat_NE), len(into), dtype=frame.dtype)
        half = (len(into) - len(v_proj)) // 2
        dscales = turn_back(dquery, dkey, ctx.kept, ctx.scales, dmade, half, frame)
        heads = dmade[:, 2 * half :].view(frame.B, frame.T, frame.G, frame.D)
        heads.copy_(dvalue.view(frame.B, frame.G, frame.T, frame.D).transpose(1, 2))
        dx_NE = normalise_back(dmade @ into, hat_NE, factor_N, dy_NE)
        halves = halves_of(q_proj, k_proj, frame)
        dnorm, (first, second, dv_proj) = unfold(dmade.t() @ hat_NE, norm_E, *halves, v_proj)
        dq_proj, dk_proj = whole(first, second, frame)
        return dx_NE, dnorm, dq_proj, dk_proj, dv_proj, do_proj.float(), *dscales, None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, frame: Frame
) -> tuple[Tensor, list[Tensor]]:
    """Mixed values, laid out as the queries, and what share each had, block by block."""
    J, R, Q = blocks(frame)
    ahead_QQ = torch.full((Q, Q), float("-inf"), dtype=frame.dtype).triu(1)
    mixed, shares = torch.empty_like(query), []
    for j in range(J):
        K = (j + 1) * Q
        scores = torch.bmm(query[:, j], key[:, :K].mT)
        scores.view(-1, R, Q, K)[..., K - Q :] += ahead_QQ
        shares.append(torch.softmax(scores, -1))
        mixed[:, j] = torch.bmm(shares[j], value[:, :K])
    return mixed, shares


def _attend_back(
    dmixed: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shares: list[Tensor],
    frame: Frame,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries (products' type), keys and values (fp32)."""
    Q = blocks(frame)[2]
    dquery = torch.empty_like(query)
    dkey, dvalue = torch.zeros(key.shape), torch.zeros(value.shape)
    for j, share in enumerate(shares):
        K = (j + 1) * Q
        dshare = torch.bmm(dmixed[:, j], value[:, :K].mT)
        dscores = torch.ops.aten._softmax_backward_data(dshare, share, -1, share.dtype)
        dquery[:, j] = torch.bmm(dscores, key[:, :K])
        dkey[:, :K] += torch.bmm(dscores.mT, query[:, j])
        dvalue[:, :K] += torch.bmm(share.mT, dmixed[:, j])
    return dquery, dkey, dvalue
