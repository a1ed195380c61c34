"""All layers forward and backward, for two halves of a batch at the same time.

A small model's products and kernels are so short that two threads wait for each other, and for
Python, between any two of them. Halves of a batch meet only before and after: weights are prepared
once for both, and their gradients are added once.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pretrain.fused import attention, loss, mlp
from pretrain.fused.frame import (
    Frame,
    Kept,
    Normed,
    Parts,
    Tensor,
    Weights,
    normalise,
    normalise_back,
)
from pretrain.fused.halves import at_once, halves

__all__ = ["Batch", "Pass"]

Layers = list[tuple[Weights, Weights]]
"""Weights of attention and MLP."""
Ready = tuple[list[tuple[attention.Ready, mlp.Ready]], Tensor]
"""What is prepared of the layers and of the head."""


@dataclass(frozen=True)
class Batch:
    """What a pass learns from."""

    x_BT: Tensor
    y_BT: Tensor
    ignore: int
    """Target that does not count."""
    padding: int | None
    """Token whose embedding is not learnt."""

    def part(self, blocks: slice) -> "Batch":
        """Some blocks of it."""
        return replace(self, x_BT=self.x_BT[blocks], y_BT=self.y_BT[blocks])


class Pass(Function):
    """Summed cross-entropy of a batch.

    After `layers` come the weights of embedding, last norm and head, and once more those of all
    layers in their order: autograd sees arguments only.
    """

    @staticmethod
    def forward(
        ctx: Any, batch: Batch, frame: Frame, layers: Layers,
        embed_VE: Tensor, norm_E: Tensor, head_VE: Tensor, *_: Tensor,
    ) -> Tensor:  # fmt: skip
        prepared = [(attention.prepare(a, frame), mlp.prepare(m, frame)) for a, m in layers]
        ready = prepared, loss.prepare((norm_E, head_VE), frame)
        blocks = len(batch.x_BT)
        split = halves(blocks) if frame.kernels else [slice(0, blocks)]
        parts = [batch.part(some) for some in split]
        ways = at_once(lambda part: _there(part, embed_VE, ready, frame), parts, frame.kernels)
        ctx.back = [(part, kept) for part, (_, kept) in zip(parts, ways, strict=True)]
        ctx.ready, ctx.frame, ctx.layers = ready, frame, layers
        ctx.ends = embed_VE, norm_E, head_VE
        return torch.stack([total for total, _ in ways]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor) -> Any:
        frame, (embed_VE, *head) = ctx.frame, ctx.ends

        def back(way: tuple[Batch, list[Kept]]) -> tuple[Tensor, *tuple[Parts, ...]]:
            part, kept = way
            return _back(dtotal, part, kept, len(embed_VE), ctx.ready, frame)

        dembeds, *parts = zip(*at_once(back, ctx.back, frame.kernels), strict=True)
        ctx.ready = None  # room for gradients in fp32, for which parts make way one by one
        dhead = loss.collect(dtotal, parts.pop(0), head, frame)
        dlayers = []
        for a, m in ctx.layers:
            dlayers += attention.collect(parts.pop(0), a, frame)
            dlayers += mlp.collect(parts.pop(0), m, frame)
        dembed = dembeds[0] if len(dembeds) == 1 else dembeds[0].add_(dembeds[1])
        return None, None, None, dembed, *dhead, *dlayers


@torch.no_grad()
def _there(part: Batch, embed_VE: Tensor, ready: Ready, frame: Frame) -> tuple[Tensor, list[Kept]]:
    """The loss, and what each layer keeps for the way back."""
    frame = replace(frame, B=len(part.x_BT))
    layers, head = ready
    out_NE, kept = None, []
    x_NE = torch.nn.functional.embedding(part.x_BT.flatten(), embed_VE)
    for forward, _, weights in _branches(layers):
        x_NE, normed = normalise(x_NE, out_NE, frame)
        out_NE, own = forward(normed.hat_NE, weights, frame)
        kept.append((normed, own))
    _, normed = normalise(x_NE, out_NE, frame)
    total, *own = loss.loss(normed.hat_NE, head, part.y_BT.flatten(), part.ignore, frame)
    return total, [*kept, (normed, own)]


@torch.no_grad()
def _back(
    dtotal: Tensor, part: Batch, kept: list[Kept], words: int, ready: Ready, frame: Frame
) -> tuple[Tensor, *tuple[Parts, ...]]:
    """Gradients of the embedding, of the head and of each branch; uses up what was kept."""
    frame = replace(frame, B=len(part.x_BT))
    (hat_NE, factor_N), (dhat_NE, of_head) = kept.pop()
    normed = Normed(hat_NE, factor_N * dtotal)
    dx_NE, dout_NE = normalise_back(dhat_NE, normed, None, frame)
    branches: list[Parts] = []
    for _, backward, weights in reversed(_branches(ready[0])):
        normed, own = kept.pop()
        dhat_NE, parts = backward(dout_NE, normed.hat_NE, own, weights, frame)
        dx_NE, dout_NE = normalise_back(dhat_NE, normed, dx_NE, frame)
        branches.append(parts)
    padding = -1 if part.padding is None else part.padding
    dembed_VE = torch.ops.aten.embedding_dense_backward(
        dx_NE, part.x_BT.flatten(), words, padding, False
    )
    return dembed_VE, of_head, *reversed(branches)


def _branches(layers: list[tuple[attention.Ready, mlp.Ready]]) -> list[tuple[Any, Any, Any]]:
    """What stands beside the residual stream, from the first on: there, back, and its weights."""
    return [
        branch
        for attends, thinks in layers
        for branch in (
            (attention.attend, attention.attend_back, attends),
            (mlp.think, mlp.think_back, thinks),
        )
    ]
