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
        # Two products: halves of one would not be contiguous, which slows all that follows.
        gate, up = (fold(norm_E, matrix).to(frame.dtype) for matrix in (gate_IE, up_IE))
        down = down_EI.to(frame.dtype)
        gate_NI, up_NI = hat_NE @ gate.t(), hat_NE @ up.t()
        mixed_NI = _mix(gate_NI, up_NI, frame)
        ctx.save_for_backward(hat_NE, factor_N, gate, up, down, gate_NI, up_NI, mixed_NI)
        ctx.weights, ctx.frame = (norm_E, gate_IE, up_IE), frame
        return add(x_NE, mixed_NI @ down.t(), frame)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_NE: Tensor) -> Any:
        hat_NE, factor_N, gate, up, down, gate_NI, up_NI, mixed_NI = ctx.saved_tensors
        norm_E, gate_IE, up_IE = ctx.weights
        dout = dy_NE.to(down.dtype)
        dmixed_NI = dout @ down
        ddown = dout.t() @ mixed_NI
        dgate_NI, dup_NI = _mix_back(dmixed_NI, gate_NI, up_NI, ctx.frame)
        dhat_NE = torch.addmm(dgate_NI @ gate, dup_NI, up)
        dx_NE = normalise_back(dhat_NE, hat_NE, factor_N, dy_NE, ctx.frame)
        dnorm, (dgate,) = unfold(dgate_NI.t() @ hat_NE, norm_E, gate_IE)
        dnorm_up, (dup,) = unfold(dup_NI.t() @ hat_NE, norm_E, up_IE)
        return dx_NE, dnorm + dnorm_up, dgate, dup, ddown.float(), None


def _mix(gate_NI: Tensor, up_NI: Tensor, frame: Frame) -> Tensor:
    if not frame.kernels:
        return torch.nn.functional.silu(gate_NI) * up_NI
    mixed_NI = torch.empty_like(gate_NI)
    call(frame.kernels.swiglu, gate_NI, up_NI, mixed_NI, *gate_NI.shape)
    return mixed_NI


def _mix_back(
    dmixed_NI: Tensor, gate_NI: Tensor, up_NI: Tensor, frame: Frame
) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up; that of what they were mixed to may be overwritten."""
    if not frame.kernels:
        dup_NI = dmixed_NI * torch.nn.functional.silu(gate_NI)
        return torch.ops.aten.silu_backward(dmixed_NI.mul_(up_NI), gate_NI), dup_NI
    dgate_NI, dup_NI = torch.empty_like(gate_NI), torch.empty_like(up_NI)
    call(
        frame.kernels.swiglu_back, dmixed_NI, gate_NI, up_NI, dgate_NI, dup_NI, *gate_NI.shape
    )
    return dgate_NI, dup_NI
