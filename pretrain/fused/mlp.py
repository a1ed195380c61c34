"""The gated MLP between its norm and its residual, forward and backward."""

from collections.abc import Sequence

import torch

from pretrain.fused.compiled import call
from pretrain.fused.frame import Frame, Kept, Parts, Tensor, Weights, add_up, fold, unfold

__all__ = ["Ready", "collect", "prepare", "think", "think_back"]

Ready = tuple[Tensor, Tensor]
"""Gate above up, the norm's weight folded in, and down."""


def prepare(weights: Weights, frame: Frame) -> Ready:
    """From norm, gate, up and down."""
    norm_E, gate_IE, up_IE, down_EI = weights
    return fold(norm_E, (gate_IE, up_IE), frame), down_EI.to(frame.dtype)


def think(hat_NE: Tensor, ready: Ready, frame: Frame) -> tuple[Tensor, Kept]:
    """W_down (silu(W_gate n) * W_up n) of the normed rows n."""
    into, down = ready
    made, mixed_NI = _mix(hat_NE, into, frame)
    return mixed_NI @ down.t(), (mixed_NI, made)


def think_back(
    dout_NE: Tensor, hat_NE: Tensor, kept: Kept, ready: Ready, frame: Frame
) -> tuple[Tensor, Parts]:
    """Gradients of the normed rows, and of what is in `ready`."""
    into, down = ready
    mixed_NI, made = kept
    ddown = dout_NE.t() @ mixed_NI
    dhat_NE, dinto = _mix_back(dout_NE @ down, made, hat_NE, into, frame)
    return dhat_NE, (dinto, ddown)


def collect(parts: Sequence[Parts], weights: Weights, frame: Frame) -> list[Tensor]:
    """Gradients of what went into `prepare`, from those of all parts of a batch."""
    norm_E, gate_IE, up_IE, _ = weights
    dinto, ddown = zip(*parts, strict=True)
    dnorm, (dgate, dup) = unfold(list(dinto), norm_E, (gate_IE, up_IE), frame)
    return [dnorm, dgate, dup, add_up(ddown)]


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
    dmixed_NI: Tensor, made: tuple[Tensor, ...], hat_NE: Tensor, into: Tensor, frame: Frame
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
