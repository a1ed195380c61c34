"""The gated MLP with its norm and its residual, forward and backward."""

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Tensor, add, fold, normalise, normalise_back, unfold

__all__ = ["Mlp"]


class Mlp(Function):
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
        hat_NE, factor_N = normalise(x_NE, frame)
        into = fold(norm_E, gate_IE, up_IE).to(frame.dtype)
        down = down_EI.to(frame.dtype)
        made, mixed_NI = _mix(hat_NE, into, frame)
        ctx.save_for_backward(hat_NE, factor_N, into, down, mixed_NI, *made)
        ctx.weights, ctx.frame = (norm_E, gate_IE, up_IE), frame
        return add(x_NE, mixed_NI @ down.t(), frame)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NE: Tensor) -> Any:
        hat_NE, factor_N, into, down, mixed_NI, *made = ctx.saved_tensors
        norm_E, gate_IE, up_IE = ctx.weights
        dout = dy_NE.to(down.dtype)
        ddown = dout.t() @ mixed_NI
        dhat_NE, dinto = _mix_back(dout @ down, made, hat_NE, into, ctx.frame)
        dx_NE = normalise_back(dhat_NE, hat_NE, factor_N, dy_NE, ctx.frame)
        dnorm, (dgate, dup) = unfold([dinto], norm_E, (gate_IE, up_IE), ctx.frame)
        return dx_NE, dnorm, dgate, dup, ddown.float(), None


def _mix(hat_NE: Tensor, into: Tensor, frame: Frame) -> tuple[tuple[Tensor, ...], Tensor]:
    """What the way back needs, and silu(gate) * up."""
    if frame.kernels:
        made_N2I = hat_NE @ into.t()
        mixed_NI = made_N2I.new_empty(len(hat_NE), len(into) // 2)
        call(frame.kernels.swiglu, made_N2I, mixed_NI, *mixed_NI.shape)
        return (made_N2I,), mixed_NI
    # Two products: halves of one would not be contiguous, which slows all that follows in torch.
    gate_NI, up_NI = (hat_NE @ half.t() for half in into.chunk(2))
    active_NI = torch.nn.functional.silu(gate_NI)
    return (gate_NI, up_NI, active_NI), active_NI * up_NI


def _mix_back(
    dmixed_NI: Tensor, made: list[Tensor], hat_NE: Tensor, into: Tensor, frame: Frame
) -> tuple[Tensor, Tensor]:
    """Gradients of `hat` and `into`; that of what was mixed may be overwritten."""
    if frame.kernels:
        dmade_N2I = torch.empty_like(made[0])
        call(frame.kernels.swiglu_back, dmixed_NI, made[0], dmade_N2I, *dmixed_NI.shape)
        return dmade_N2I @ into, dmade_N2I.t() @ hat_NE
    gate_NI, up_NI, active_NI = made
    gate, up = into.chunk(2)
    dup_NI = dmixed_NI * active_NI
    dgate_NI = torch.ops.aten.silu_backward(dmixed_NI.mul_(up_NI), gate_NI)
    dinto = torch.cat([dgate_NI.t() @ hat_NE, dup_NI.t() @ hat_NE])
    return torch.addmm(dgate_NI @ gate, dup_NI, up), dinto
