"""The training pass of a plain Llama or Qwen3 in few large operations, with a backward by hand.

Same weights and same function as the stock forward of transformers, for training on a CPU only:
half of a small model's step is spent between the matrix products, so what stands between them is
merged, kept in bf16 and computed once. Norm weights are folded into the matrix behind them, queries
see only blocks of keys that they may attend to, and the softmax over the vocabulary is at the same
time the gradient of the loss. docs/decisions.md says what each is worth.

Shape suffixes: B blocks, T tokens a block, N = B x T, E width of the residual stream, A heads of
queries and keys, H of queries, G of keys and values, D width of a head, I width of the MLP,
V vocabulary, Q queries of one block, K keys that they see.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["can_fuse", "fused_losses"]

Tensor = torch.Tensor
MODELS = ("llama", "qwen3")
QUERIES = 64
"""Queries that share a block of keys: of the keys to their right they see none."""
ROWS = 512
"""Tokens whose logits exist at a time."""


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


def can_fuse(model: "PreTrainedModel") -> bool:
    """Whether `fused_losses` computes what the stock forward of `model` would in training."""
    config = getattr(model, "config", None)
    if config is None or config.model_type not in MODELS or not model.training:
        return False
    plain = (
        config.hidden_act == "silu"
        and not config.attention_bias
        and not getattr(config, "mlp_bias", False)
        and not config.attention_dropout
        and not getattr(config, "use_sliding_window", False)
    )
    weights = list(model.parameters())
    return plain and all(
        type(weight) is torch.nn.Parameter and weight.device.type == "cpu" for weight in weights
    ) and all(
        type(module) is torch.nn.Linear
        for name, module in model.named_modules()
        if name.endswith(("_proj", "lm_head"))
    )


def fused_losses(model: "PreTrainedModel", x_BT: Tensor, y_BT: Tensor, ignore: int) -> Tensor:
    """Summed negative log-likelihood (nats) of the targets that are not `ignore`.

    Under autocast the products are in its type, and the sum is then exact to about 1e-4 a token.
    """
    inner: Any = model.model
    frame = _frame(model, x_BT)
    attend: Any = _Attention.apply
    think: Any = _Mlp.apply
    loss: Any = _Loss.apply
    with torch.autocast("cpu", enabled=False):  # types are chosen here, product by product
        hidden = inner.embed_tokens(x_BT).flatten(0, 1)
        for layer in inner.layers:
            attention, mlp = layer.self_attn, layer.mlp
            hidden = attend(
                hidden,
                layer.input_layernorm.weight,
                attention.q_proj.weight,
                attention.k_proj.weight,
                attention.v_proj.weight,
                attention.o_proj.weight,
                attention.q_norm.weight if hasattr(attention, "q_norm") else None,
                attention.k_norm.weight if hasattr(attention, "k_norm") else None,
                frame,
            )
            hidden = think(
                hidden,
                layer.post_attention_layernorm.weight,
                mlp.gate_proj.weight,
                mlp.up_proj.weight,
                mlp.down_proj.weight,
                frame,
            )
        total: Tensor = loss(
            hidden, inner.norm.weight, model.lm_head.weight, y_BT.flatten(), ignore, frame
        )
    return total


def _frame(model: "PreTrainedModel", x_BT: Tensor) -> Frame:
    config: Any = model.config
    (B, T), H, G = x_BT.shape, config.num_attention_heads, config.num_key_value_heads
    D = getattr(config, "head_dim", None) or config.hidden_size // H
    inner: Any = model.model
    with torch.no_grad():
        cos, sin = inner.rotary_emb(inner.norm.weight, torch.arange(T)[None])
    # Queries come out divided by the root of D, as attention wants them.
    scale_A = torch.cat([torch.full((H * D // 2,), D**-0.5), torch.ones(G * D // 2)])
    halves = [table[0, :, : D // 2].float().repeat(1, H + G) * scale_A for table in (cos, sin)]
    on = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if on else torch.float32
    return Frame(B, T, H, G, D, config.rms_norm_eps, dtype, halves[0], halves[1])


def _normalise(x_NE: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """RMS norm without its weight, in the products' type, and the factor of each row."""
    size_N = torch.linalg.vector_norm(x_NE, dim=-1, keepdim=True)
    factor_N = (size_N.square() / x_NE.shape[-1] + frame.eps).rsqrt()
    return (x_NE * factor_N).to(frame.dtype), factor_N


def _normalise_back(
    dhat_NE: Tensor, hat_NE: Tensor, factor_N: Tensor, residual_NE: Tensor
) -> Tensor:
    """Gradient of the norm's input, added to that of the residual stream."""
    dot_N = torch.linalg.vecdot(dhat_NE.float(), hat_NE.float()).unsqueeze(-1)
    inward = torch.addcmul(dhat_NE, hat_NE, dot_N.neg_().div_(hat_NE.shape[-1]).to(hat_NE.dtype))
    return torch.addcmul(residual_NE, inward, factor_N)


def _fold(norm_E: Tensor, *matrices: Tensor) -> Tensor:
    """The matrices below each other, the norm's weight folded in."""
    stacked = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    return stacked * norm_E


def _unfold(
    dfolded: Tensor, norm_E: Tensor, *matrices: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Gradients of the norm's weight and of each matrix."""
    dfolded = dfolded.float()
    stacked = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    dnorm_E = (dfolded * stacked).sum(0)
    return dnorm_E, (dfolded * norm_E).split([len(matrix) for matrix in matrices])


class _Mlp(Function):
    """x + W_down (silu(W_gate n) * W_up n), where n is the RMS norm of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x_NE: Tensor,
        norm_E: Tensor,
        gate_IE: Tensor,
        up_IE: Tensor,
        down_EI: Tensor,
        frame: Frame,
    ) -> Tensor:
        hat_NE, factor_N = _normalise(x_NE, frame)
        # Two products: halves of one would not be contiguous, which slows all that follows.
        gate, up = (_fold(norm_E, matrix).to(frame.dtype) for matrix in (gate_IE, up_IE))
        down = down_EI.to(frame.dtype)
        gate_NI, up_NI = hat_NE @ gate.t(), hat_NE @ up.t()
        active_NI = torch.nn.functional.silu(gate_NI)
        mixed_NI = active_NI * up_NI
        ctx.save_for_backward(
            hat_NE, factor_N, gate, up, down, gate_NI, up_NI, active_NI, mixed_NI
        )
        ctx.weights = norm_E, gate_IE, up_IE
        return x_NE + mixed_NI @ down.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NE: Tensor) -> Any:
        hat_NE, factor_N, gate, up, down, gate_NI, up_NI, active_NI, mixed_NI = ctx.saved_tensors
        norm_E, gate_IE, up_IE = ctx.weights
        dout = dy_NE.to(down.dtype)
        dmixed_NI = dout @ down
        ddown = dout.t() @ mixed_NI
        dup_NI = dmixed_NI * active_NI
        dgate_NI = torch.ops.aten.silu_backward(dmixed_NI.mul_(up_NI), gate_NI)
        dhat_NE = torch.addmm(dgate_NI @ gate, dup_NI, up)
        dx_NE = _normalise_back(dhat_NE, hat_NE, factor_N, dy_NE)
        dnorm, (dgate,) = _unfold(dgate_NI.t() @ hat_NE, norm_E, gate_IE)
        dnorm_up, (dup,) = _unfold(dup_NI.t() @ hat_NE, norm_E, up_IE)
        return dx_NE, dnorm + dnorm_up, dgate, dup, ddown.float(), None


class _Loss(Function):
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
        hat_NE, factor_N = _normalise(x_NE, frame)
        into = _fold(norm_E, head_VE).to(frame.dtype)
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
        dx_NE = _normalise_back(dhat_NE, hat_NE, factor_N * dtotal, inward)
        dnorm, (dhead,) = _unfold(dinto * dtotal, *ctx.weights)
        return dx_NE, dnorm, dhead, None, None, None


class _Attention(Function):
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
        hat_NE, factor_N = _normalise(x_NE, frame)
        halves = _halves(q_proj, k_proj, frame)
        into = _fold(norm_E, *halves, v_proj).to(frame.dtype)
        out = o_proj.to(frame.dtype)
        made = hat_NE @ into.t()
        half = halves[0].shape[0]
        scales = None
        if q_norm is not None and k_norm is not None:
            scales = _head_scales(q_norm, k_norm, frame)
        turned, kept = _turn(made[:, :half], made[:, half : 2 * half], scales, frame)
        query, key, value = _lay_out(turned, made[:, 2 * half :], frame)
        mixed, shares = _attend(query, key, value, frame)
        mixed_NF = _by_token(mixed, frame)
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
        dmixed = _by_block(dout @ out, frame)
        do_proj = dout.t() @ mixed_NF
        dquery, dkey, dvalue = _attend_back(dmixed, query, key, value, shares, frame)
        dmade = torch.empty(len(hat_NE), len(into), dtype=frame.dtype)
        half = (len(into) - len(v_proj)) // 2
        dscales = _turn_back(dquery, dkey, ctx.kept, ctx.scales, dmade, half, frame)
        heads = dmade[:, 2 * half :].view(frame.B, frame.T, frame.G, frame.D)
        heads.copy_(dvalue.view(frame.B, frame.G, frame.T, frame.D).transpose(1, 2))
        dx_NE = _normalise_back(dmade @ into, hat_NE, factor_N, dy_NE)
        halves = _halves(q_proj, k_proj, frame)
        dnorm, (first, second, dv_proj) = _unfold(dmade.t() @ hat_NE, norm_E, *halves, v_proj)
        dq_proj, dk_proj = _whole(first, second, frame)
        return dx_NE, dnorm, dq_proj, dk_proj, dv_proj, do_proj.float(), *dscales, None


def _halves(q_proj: Tensor, k_proj: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Rows for the first halves of all query and key heads, and for the second ones.

    Rotations mix halves: side by side they are two long rows and not many short ones.
    """
    by_half = torch.cat([q_proj, k_proj]).view(frame.H + frame.G, 2, frame.D // 2, -1)
    return by_half[:, 0].flatten(0, 1), by_half[:, 1].flatten(0, 1)


def _whole(first: Tensor, second: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Undo `_halves`."""
    by_half = [half.view(frame.H + frame.G, frame.D // 2, -1) for half in (first, second)]
    rows = torch.stack(by_half, 1).flatten(0, 2)
    return rows[: frame.H * frame.D], rows[frame.H * frame.D :]


def _head_scales(q_norm: Tensor, k_norm: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Weights of the norms of queries and keys, laid out as `_halves`."""
    by_half = [norm.view(2, frame.D // 2) for norm in (q_norm, k_norm)]
    heads = (frame.H, frame.G)
    first, second = (
        torch.cat([norm[half].repeat(n) for norm, n in zip(by_half, heads, strict=True)])
        for half in (0, 1)
    )
    return first, second


def _turn(
    first_NA: Tensor, second_NA: Tensor, scales: tuple[Tensor, Tensor] | None, frame: Frame
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
    """Norm of each head (where it has one) and rotation; and what the way back needs."""
    one, two = first_NA.float(), second_NA.float()
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
    return (turned_one, turned_two), kept


def _turn_back(
    dquery: Tensor,
    dkey: Tensor,
    kept: tuple[Tensor, ...],
    scales: tuple[Tensor, Tensor] | None,
    dmade: Tensor,
    half: int,
    frame: Frame,
) -> tuple[Tensor | None, Tensor | None]:
    """Write the gradient of the heads before `_turn`; returns that of their norms' weights."""
    done, dtwo = _gather_heads(dquery, dkey, frame)
    back_one = torch.addcmul(done * frame.cos_TA, dtwo, frame.sin_TA).flatten(0, 1)
    back_two = torch.addcmul(dtwo * frame.cos_TA, done, frame.sin_TA, value=-1).flatten(0, 1)
    if scales is None:
        dmade[:, :half], dmade[:, half : 2 * half] = back_one, back_two
        return None, None
    one, two, factor = kept
    dscales = [(back * hat).sum(0) for back, hat in ((back_one, one), (back_two, two))]
    back_one, back_two = back_one.mul_(scales[0]), back_two.mul_(scales[1])
    dots = _by_head(torch.addcmul(back_one * one, back_two, two), frame).sum(-1, keepdim=True)
    dots.div_(-frame.D)
    for place, back, hat in ((0, back_one, one), (half, back_two, two)):
        inward = _by_head(back, frame).addcmul_(_by_head(hat, frame), dots).mul_(factor)
        dmade[:, place : place + half] = inward.flatten(1)
    by_half = [dscale.view(-1, frame.D // 2) for dscale in dscales]
    queries = torch.cat([heads[: frame.H].sum(0) for heads in by_half])
    keys = torch.cat([heads[frame.H :].sum(0) for heads in by_half])
    return queries, keys


def _by_head(x_NA: Tensor, frame: Frame) -> Tensor:
    return x_NA.view(len(x_NA), frame.H + frame.G, frame.D // 2)


def _blocks(frame: Frame) -> tuple[int, int, int]:
    """Blocks of queries, query heads of a key head, and queries of a block."""
    Q = QUERIES if frame.T % QUERIES == 0 else frame.T
    return frame.T // Q, frame.H // frame.G, Q


def _lay_out(
    turned: tuple[Tensor, Tensor], value_NF: Tensor, frame: Frame
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B x G, blocks, heads x Q, D), keys and values (B x G, T, D), contiguous."""
    B, T, G, D = frame.B, frame.T, frame.G, frame.D
    J, R, Q = _blocks(frame)
    query = torch.empty(B, G, J, R, Q, D, dtype=frame.dtype)
    key = torch.empty(B, G, T, D, dtype=frame.dtype)
    border = frame.H * D // 2
    for place, half in ((0, turned[0]), (D // 2, turned[1])):
        here = slice(place, place + D // 2)
        queries = half[..., :border].view(B, J, Q, G, R, D // 2)
        query[..., here].copy_(queries.permute(0, 3, 1, 4, 2, 5))
        key[..., here].copy_(half[..., border:].view(B, T, G, D // 2).transpose(1, 2))
    value = value_NF.view(B, T, G, D).transpose(1, 2).contiguous()
    return query.view(B * G, J, R * Q, D), key.view(B * G, T, D), value.view(B * G, T, D)


def _gather_heads(dquery: Tensor, dkey: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Gradients of queries and keys as halves (B, T, A x D/2) in fp32: undoes `_lay_out`."""
    B, T, G, D = frame.B, frame.T, frame.G, frame.D
    J, R, Q = _blocks(frame)
    border = frame.H * D // 2
    queries = dquery.view(B, G, J, R, Q, D).permute(0, 2, 4, 1, 3, 5)
    keys = dkey.view(B, G, T, D).transpose(1, 2)
    halves = []
    for place in (0, D // 2):
        here = slice(place, place + D // 2)
        half = torch.empty(B, T, border + G * D // 2)
        half[..., :border].view(B, J, Q, G, R, D // 2).copy_(queries[..., here])
        half[..., border:].view(B, T, G, D // 2).copy_(keys[..., here])
        halves.append(half)
    return halves[0], halves[1]


def _by_token(mixed: Tensor, frame: Frame) -> Tensor:
    J, R, Q = _blocks(frame)
    heads = mixed.view(frame.B, frame.G, J, R, Q, frame.D).permute(0, 2, 4, 1, 3, 5)
    return heads.reshape(frame.B * frame.T, frame.H * frame.D)


def _by_block(mixed_NF: Tensor, frame: Frame) -> Tensor:
    J, R, Q = _blocks(frame)
    heads = mixed_NF.view(frame.B, J, Q, frame.G, R, frame.D).permute(0, 3, 1, 4, 2, 5)
    return heads.reshape(frame.B * frame.G, J, R * Q, frame.D)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, frame: Frame
) -> tuple[Tensor, list[Tensor]]:
    """Mixed values, laid out as the queries, and what share each had, block by block."""
    J, R, Q = _blocks(frame)
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
    Q = _blocks(frame)[2]
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
