"""One training step and its schedule: used by pretrain, by every silo and by every compare arm.

Shape suffixes: B blocks a batch, T tokens a block, V vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from commonroot.errors import DivergedError
from commonroot.memory import keep_freed_memory
from pretrain.model import Compute, autocast
from pretrain.packing import IGNORE, Int64

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.stage import PretrainConfig

__all__ = [
    "Correction",
    "Gradients",
    "Step",
    "gradients",
    "make_optimizer",
    "pick_losses",
    "pick_optimizer",
    "schedule",
    "stock_losses",
    "token_losses",
    "train",
]

LossFunction = Callable[["PreTrainedModel", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]
Gradients = Callable[["PreTrainedModel", Int64, Int64, Compute], "Step"]
"""Leaves a clipped gradient in the parameters: `gradients`, or what an algorithm makes of it."""


class Correction(Protocol):
    """What an algorithm does around each optimizer step, e.g. against client drift."""

    def before_step(self) -> None:
        """Gradients stand in the parameters, clipped; they may be changed."""

    def after_step(self) -> None:
        """The optimizer has stepped."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step did."""

    loss: float
    """Mean nats a target token."""
    tokens: int
    """Target tokens."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""


def schedule(peak: float, steps: int, warmup: int, decay: float) -> Callable[[int], float]:
    """Warm up linearly, hold, then fall linearly over the last `decay` share (WSD).

    Source: Hu et al. 2024, MiniCPM, https://arxiv.org/abs/2404.06395.
    """
    fall_from = steps - max(1, round(steps * decay)) if decay else steps

    def lr(step: int) -> float:
        rise = min(1.0, (step + 1) / (warmup + 1))
        fall = (steps - step) / (steps - fall_from + 1) if step >= fall_from else 1.0
        return peak * rise * fall

    return lr


def make_optimizer(
    model: "PreTrainedModel", weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
) -> "torch.optim.AdamW":
    """AdamW (https://arxiv.org/abs/1711.05101); norms and other vectors are not decayed.

    From random weights pretrain.optim's Muon learns faster.
    """
    import torch

    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)


def pick_optimizer(
    model: "PreTrainedModel", section: "PretrainConfig"
) -> "torch.optim.Optimizer":
    """The one that pretraining was asked for."""
    if section.optimizer == "adamw":
        return make_optimizer(model, section.weight_decay)
    from pretrain.optim import Muon

    return Muon(model, section.matrix_lr / section.lr, section.weight_decay)


def pick_losses(compute: Compute) -> LossFunction:
    """The one that steps on `compute` take."""
    return token_losses if compute.fused else stock_losses


def token_losses(
    model: "PreTrainedModel", x_BT: "torch.Tensor", y_BT: "torch.Tensor"
) -> "torch.Tensor":
    """Summed negative log-likelihood (nats) of the targets that are not IGNORE.

    By pretrain.fused where it does the same faster.
    """
    from pretrain.fused.losses import can_fuse, fused_losses

    return fused_losses(model, x_BT, y_BT, IGNORE) if can_fuse(model) else stock_losses(
        model, x_BT, y_BT
    )


def stock_losses(
    model: "PreTrainedModel", x_BT: "torch.Tensor", y_BT: "torch.Tensor"
) -> "torch.Tensor":
    """The same by the model's own forward."""
    import torch.nn.functional as functional

    logits_BTV = model(input_ids=x_BT, use_cache=False).logits
    return functional.cross_entropy(
        logits_BTV.flatten(0, 1).float(), y_BT.flatten(), ignore_index=IGNORE, reduction="sum"
    )


def gradients(
    model: "PreTrainedModel",
    x_BT: Int64,
    y_BT: Int64,
    compute: Compute,
    clip: float = 1.0,
    losses: LossFunction | None = None,
    passes: int = 1,
    over: float | None = None,
) -> Step:
    """Leave the gradient of the mean loss in the parameters, clipped to an L2 norm of about `clip`.

    Rows k, k + `passes`, … are computed at once and the gradients of all k add up, so that less
    stands in memory. `losses`: by `pick_losses` if not given. `over`: what their sum is divided by,
    if not by the batch's own tokens.
    """
    import torch

    device = next(model.parameters()).device
    tokens, nats = int((y_BT != IGNORE).sum()), 0.0
    over = max(tokens, 1) if over is None else over
    losses = losses or pick_losses(compute)
    for k in range(passes):
        x, y = (torch.from_numpy(rows_BT[k::passes]).to(device) for rows_BT in (x_BT, y_BT))
        with autocast(compute, device):
            total = losses(model, x, y)
        (total / over).backward()
        nats += float(total.detach())
    return Step(nats / over, tokens, _clip(model, clip))


def _clip(model: "PreTrainedModel", most: float) -> float:
    """The gradient's L2 norm before it was brought down to `most`, if it was above.

    The norm that divides is rounded to bf16: its last bits depend on how many processes hold parts
    of the gradient, and would grow.
    """
    import torch
    from torch.nn.utils import get_total_norm

    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = get_total_norm(gradients)
    whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    if float(whole) > most:  # many small products by one would take a hundredth of a step
        factor = most / float(whole.to(torch.bfloat16))
        for gradient in gradients:
            gradient.mul_(factor)
    return float(whole)


def train(
    model: "PreTrainedModel",
    optimizer: "torch.optim.Optimizer",
    batches: Iterable[tuple[Int64, Int64]],
    lr: Callable[[int], float],
    compute: Compute,
    first_step: int = 0,
    gradient: Gradients = gradients,
    correction: Correction | None = None,
) -> Iterator[Step]:
    """Take one optimizer step a batch, from step `first_step` of schedule `lr` on.

    Raises DivergedError as soon as a loss or gradient is not finite; the weights are then still
    those of the step before.
    """
    keep_freed_memory()
    model.train()
    for number, (x_BT, y_BT) in enumerate(batches, start=first_step):
        step = gradient(model, x_BT, y_BT, compute)
        if not (math.isfinite(step.grad_norm) and math.isfinite(step.loss)):
            optimizer.zero_grad(set_to_none=True)  # a warm model is used by others as well
            raise DivergedError(number, f"loss {step.loss} is not finite")
        for group in optimizer.param_groups:
            group["lr"] = lr(number) * group.get("lr_ratio", 1.0)
        if correction:
            correction.before_step()
        optimizer.step()
        if correction:
            correction.after_step()
        optimizer.zero_grad(set_to_none=True)
        yield step
