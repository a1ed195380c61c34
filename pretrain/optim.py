"""Muon for the hidden matrices, AdamW for embeddings, norms and biases: one torch optimizer.

Muon replaces the gradient's momentum by the nearest matrix whose singular values are all one, so
that rare directions are learnt as fast as common ones (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/). Matrices of one shape are orthogonalised together.

Shape suffixes: K matrices of one shape, R rows, C columns (R <= C).
"""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Muon", "hidden_matrices", "orthogonalise"]

COEFFICIENTS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
"""Of an odd polynomial an iteration: Amsel et al. 2025, https://arxiv.org/abs/2505.16932."""
SAFETY = 1.02
"""Room for rounding in bf16: a singular value above one would grow without bound."""


def hidden_matrices(model: "PreTrainedModel") -> "list[torch.nn.Parameter]":
    """Trainable matrices between the embedding and the head."""
    outside = {
        id(module.weight)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
    }
    return [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and parameter.ndim == 2 and id(parameter) not in outside
    ]


class Muon(torch.optim.Optimizer):
    """Muon on `matrices`, AdamW on all other trainable parameters of `model`.

    Every group's `lr` is to be set before a step; `lr_ratio` says how that of the matrices, whose
    update has a fixed size, stands to AdamW's.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        lr_ratio: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        matrices = hidden_matrices(model)
        inside = {id(matrix) for matrix in matrices}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
        muon = {"params": matrices, "lr_ratio": lr_ratio, "momentum": momentum}
        adam = {"lr_ratio": 1.0, "betas": betas}
        groups = [
            {**muon, "weight_decay": weight_decay},
            {**adam, "params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
            {**adam, "params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        del closure
        for group in self.param_groups:
            if "momentum" in group:
                self._turn_matrices(group)
            else:
                self._adamw(group)

    def _turn_matrices(self, group: dict[str, Any]) -> None:
        """One Muon update, by shape."""
        by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape[matrix.shape].append(matrix)
        for (rows, columns), matrices in by_shape.items():
            ahead = [self._lookahead(matrix, group["momentum"]) for matrix in matrices]
            turned = orthogonalise(torch.stack([_whole(one) for one in ahead]))
            size = group["lr"] * max(1.0, rows / columns) ** 0.5
            for matrix, update in zip(matrices, turned, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(_part(update, matrix), alpha=-size)

    def _lookahead(self, matrix: torch.Tensor, momentum: float) -> torch.Tensor:
        """The gradient's running mean, a step ahead (Nesterov)."""
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        assert matrix.grad is not None
        mean: torch.Tensor = state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return torch.lerp(matrix.grad, mean, momentum)

    def _adamw(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if not self.state[p]:
                self.state[p] |= {
                    "step": torch.tensor(0.0, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self.state[p] for p in params]
        beta_1, beta_2 = group["betas"]
        adamw(
            params,
            [p.grad for p in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=beta_1,
            beta2=beta_2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def orthogonalise(matrices_KRC: torch.Tensor) -> torch.Tensor:
    """The matrices (K, R, C) with all singular values near one; singular vectors stay.

    Five Newton-Schulz-like iterations in bf16, where an error of a tenth does no harm.
    """
    wide = matrices_KRC.mT if matrices_KRC.shape[1] > matrices_KRC.shape[2] else matrices_KRC
    size = torch.linalg.vector_norm(wide, dim=(1, 2), keepdim=True)
    x_KRC: torch.Tensor = (wide / (size * SAFETY + 1e-7)).bfloat16()
    for a, b, c in COEFFICIENTS:
        gram_KRR = x_KRC @ x_KRC.mT
        turn_KRR = torch.baddbmm(gram_KRR, gram_KRR, gram_KRR, beta=b, alpha=c)
        x_KRC = torch.baddbmm(x_KRC, turn_KRR, x_KRC, beta=a)
    return x_KRC.mT if wide is not matrices_KRC else x_KRC


def _whole(matrix: torch.Tensor) -> torch.Tensor:
    """All of a matrix of which FSDP gave this process a part: singular vectors need it."""
    return matrix.full_tensor() if hasattr(matrix, "full_tensor") else matrix


def _part(update: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """What of the whole `update` belongs to this process's part of `matrix`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(matrix, DTensor):
        return update
    return distribute_tensor(update, matrix.device_mesh, matrix.placements, src_data_rank=None)
