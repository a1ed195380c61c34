"""Query and key heads: normed and rotated as two long halves, and laid out for attention."""

import torch

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Tensor

__all__ = [
    "QUERIES",
    "blocks",
    "by_block",
    "by_token",
    "head_scales",
    "rows_of",
    "turn",
    "turn_back",
    "whole",
]

QUERIES = 128
"""Queries that share a block of keys: of the keys to their right they see none."""


def rows_of(q_proj: Tensor, k_proj: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Rows for the first halves of all query and key heads, and for the second ones.

    Rotations mix halves: side by side they are two long rows of torch's and not many short ones.
    Kernels take queries and keys as they are.
    """
    if frame.kernels:
        return q_proj, k_proj
    by_half = torch.cat([q_proj, k_proj]).view(frame.H + frame.G, 2, frame.D // 2, -1)
    return by_half[:, 0].flatten(0, 1), by_half[:, 1].flatten(0, 1)


def whole(first: Tensor, second: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Undo `rows_of`."""
    if frame.kernels:
        return first, second
    by_half = [half.view(frame.H + frame.G, frame.D // 2, -1) for half in (first, second)]
    rows = torch.stack(by_half, 1).flatten(0, 2)
    return rows[: frame.H * frame.D], rows[frame.H * frame.D :]


def head_scales(q_norm: Tensor, k_norm: Tensor, frame: Frame) -> Tensor:
    """Weights of the norms of queries and keys (2, A x D/2): first halves, second halves."""
    by_half = [norm.view(2, frame.D // 2) for norm in (q_norm, k_norm)]
    heads = (frame.H, frame.G)
    repeated = [norm.repeat(1, n) for norm, n in zip(by_half, heads, strict=True)]
    return torch.cat(repeated, 1)


def turn(
    made_NW: Tensor, scales: Tensor | None, frame: Frame
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    """Norm of each head (where it has one), rotation, layout; and what the way back needs.

    `made` has what `rows_of` says, and values. Queries come out as (blocks, B x G,
    heads x Q, D), keys and values as (B x G, T, D), all contiguous.
    """
    if frame.kernels:
        return _turn_at_once(made_NW, scales, frame)
    half = frame.cos_TA.shape[1]
    one, two = made_NW[:, :half].float(), made_NW[:, half : 2 * half].float()
    kept: tuple[Tensor, ...] = ()
    if scales is not None:
        squares = torch.addcmul(one * one, two, two)
        factor = _by_head(squares, frame).sum(-1, keepdim=True).div_(frame.D).add_(frame.eps)
        factor.rsqrt_()
        _by_head(one, frame).mul_(factor)
        _by_head(two, frame).mul_(factor)
        kept = one, two, factor
        one, two = one * scales[0], two * scales[1]
    one, two = one.view(frame.B, frame.T, -1), two.view(frame.B, frame.T, -1)
    turned_one = torch.addcmul(one * frame.cos_TA, two, frame.sin_TA, value=-1)
    turned_two = torch.addcmul(two * frame.cos_TA, one, frame.sin_TA)
    return _lay_out((turned_one, turned_two), made_NW[:, 2 * half :], frame), kept


def turn_back(
    dquery: Tensor,
    dkeys: list[Tensor],
    dvalues: list[Tensor],
    kept: tuple[Tensor, ...],
    scales: Tensor | None,
    frame: Frame,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients of what went into `turn`, and of the norms' weights.

    Those of keys and values come from each block of queries apart: (B x G, K, D).
    """
    if frame.kernels:
        return _turn_back_at_once(dquery, dkeys, dvalues, kept, scales, frame)
    half = frame.cos_TA.shape[1]
    dmade = dquery.new_empty(frame.B * frame.T, 2 * half + frame.G * frame.D)
    heads = dmade[:, 2 * half :].view(frame.B, frame.T, frame.G, frame.D)
    heads.copy_(_add_up(dvalues, frame).transpose(1, 2))
    done, dtwo = _gather_heads(dquery, _add_up(dkeys, frame), frame)
    back_one = torch.addcmul(done * frame.cos_TA, dtwo, frame.sin_TA).flatten(0, 1)
    back_two = torch.addcmul(dtwo * frame.cos_TA, done, frame.sin_TA, value=-1).flatten(0, 1)
    if scales is None:
        dmade[:, :half], dmade[:, half : 2 * half] = back_one, back_two
        return dmade, ()
    one, two, factor = kept
    dscales = [(back * hat).sum(0) for back, hat in ((back_one, one), (back_two, two))]
    back_one, back_two = back_one.mul_(scales[0]), back_two.mul_(scales[1])
    dots = _by_head(torch.addcmul(back_one * one, back_two, two), frame).sum(-1, keepdim=True)
    dots.div_(-frame.D)
    for place, back, hat in ((0, back_one, one), (half, back_two, two)):
        inward = _by_head(back, frame).addcmul_(_by_head(hat, frame), dots).mul_(factor)
        dmade[:, place : place + half] = inward.flatten(1)
    return dmade, _by_norm(dscales, frame)


def _by_norm(dscales: list[Tensor], frame: Frame) -> tuple[Tensor, Tensor]:
    """Undo `head_scales`."""
    by_half = [dscale.view(-1, frame.D // 2) for dscale in dscales]
    queries = torch.cat([heads[: frame.H].sum(0) for heads in by_half])
    keys = torch.cat([heads[frame.H :].sum(0) for heads in by_half])
    return queries, keys


def _turn_at_once(
    made_NW: Tensor, scales: Tensor | None, frame: Frame
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
    assert frame.kernels
    B, T, H, G, D = sizes = frame.B, frame.T, frame.H, frame.G, frame.D
    J, R, Q = blocks(frame)
    scale_2A = torch.ones(2, len(frame.cos_TA[0])) if scales is None else scales
    query = made_NW.new_empty(J, B * G, R * Q, D)
    key, value = made_NW.new_empty(2, B * G, T, D)
    factor_NA = torch.empty(B * T, H + G)
    call(
        frame.kernels.turn, made_NW, scale_2A, frame.cos_TA, frame.sin_TA,
        query, key, value, factor_NA, *sizes, Q, scales is not None, frame.eps,
    )  # fmt: skip
    return (query, key, value), (made_NW, scale_2A, factor_NA)


def _turn_back_at_once(
    dquery: Tensor,
    dkeys: list[Tensor],
    dvalues: list[Tensor],
    kept: tuple[Tensor, ...],
    scales: Tensor | None,
    frame: Frame,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    assert frame.kernels
    made_NW, scale_2A, factor_NA = kept
    sizes = frame.B, frame.T, frame.H, frame.G, frame.D
    J, _, Q = blocks(frame)
    dmade, dscale = torch.empty_like(made_NW), torch.empty(frame.B * J, *scale_2A.shape)
    call(
        frame.kernels.turn_back, dquery, dkeys, dvalues, made_NW, scale_2A, frame.cos_TA,
        frame.sin_TA, factor_NA, dmade, dscale, *sizes, Q, scales is not None,
    )  # fmt: skip
    if scales is None:
        return dmade, ()
    return dmade, _by_norm(list(dscale.sum(0)), frame)


def _by_head(x_NA: Tensor, frame: Frame) -> Tensor:
    return x_NA.view(len(x_NA), frame.H + frame.G, frame.D // 2)


def blocks(frame: Frame) -> tuple[int, int, int]:
    """Blocks of queries, query heads of a key head, and queries of a block."""
    Q = QUERIES if frame.T % QUERIES == 0 else frame.T
    return frame.T // Q, frame.H // frame.G, Q


def _lay_out(
    turned: tuple[Tensor, Tensor], value_NF: Tensor, frame: Frame
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, G, D = frame.B, frame.T, frame.G, frame.D
    J, R, Q = blocks(frame)
    query = torch.empty(J, B, G, R, Q, D, dtype=frame.dtype)
    key = torch.empty(B, G, T, D, dtype=frame.dtype)
    border = frame.H * D // 2
    for place, half in ((0, turned[0]), (D // 2, turned[1])):
        here = slice(place, place + D // 2)
        queries = half[..., :border].view(B, J, Q, G, R, D // 2)
        query[..., here].copy_(queries.permute(1, 0, 3, 4, 2, 5))
        key[..., here].copy_(half[..., border:].view(B, T, G, D // 2).transpose(1, 2))
    value = value_NF.view(B, T, G, D).transpose(1, 2).contiguous()
    return query.view(J, B * G, R * Q, D), key.view(B * G, T, D), value.view(B * G, T, D)


def _add_up(parts: list[Tensor], frame: Frame) -> Tensor:
    """Sum (B x G, T, D) in fp32 of what the queries of each block give to the keys they see."""
    total = parts[-1].float()
    for part in parts[:-1]:
        total[:, : part.shape[1]] += part
    return total.view(frame.B, frame.G, frame.T, frame.D)


def _gather_heads(dquery: Tensor, dkey: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys as halves (B, T, A x D/2) in fp32: undoes `_lay_out`."""
    B, T, G, D = frame.B, frame.T, frame.G, frame.D
    J, R, Q = blocks(frame)
    border = frame.H * D // 2
    queries = dquery.view(J, B, G, R, Q, D).permute(1, 0, 4, 2, 3, 5)
    keys = dkey.transpose(1, 2)
    halves = []
    for place in (0, D // 2):
        here = slice(place, place + D // 2)
        half = torch.empty(B, T, border + G * D // 2)
        half[..., :border].view(B, J, Q, G, R, D // 2).copy_(queries[..., here])
        half[..., border:].view(B, T, G, D // 2).copy_(keys[..., here])
        halves.append(half)
    return halves[0], halves[1]


def by_token(mixed: Tensor, frame: Frame) -> Tensor:
    """From the layout of queries to one row a token."""
    B, T, H, G, D = frame.B, frame.T, frame.H, frame.G, frame.D
    J, R, Q = blocks(frame)
    if not frame.kernels:
        heads = mixed.view(J, B, G, R, Q, D).permute(1, 0, 4, 2, 3, 5)
        return heads.reshape(B * T, H * D)
    mixed_NF = mixed.new_empty(B * T, H * D)
    call(frame.kernels.by_token, mixed, mixed_NF, B, T, H, D, Q)
    return mixed_NF


def by_block(mixed_NF: Tensor, frame: Frame) -> Tensor:
    """Undo `by_token`."""
    B, T, H, G, D = frame.B, frame.T, frame.H, frame.G, frame.D
    J, R, Q = blocks(frame)
    if not frame.kernels:
        heads = mixed_NF.view(B, J, Q, G, R, D).permute(1, 0, 3, 4, 2, 5)
        return heads.reshape(J, B * G, R * Q, D)
    mixed = mixed_NF.new_empty(J, B * G, R * Q, D)
    call(frame.kernels.by_block, mixed_NF, mixed, B, T, H, D, Q)
    return mixed
