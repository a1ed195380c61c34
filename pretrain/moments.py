"""The optimizer's memory of public text: AdamW's second moments, measured once and handed on.

Fine-tuning starts many short runs: every client in every round, and AdamW with empty moments makes
its first steps the sign of a noisy gradient, the same size for a rare token's row as for any other.
With the second moments of public text in their place, federated training forgot less of the public
text and came closer to centralised training (docs/decisions.md). They are public, travel once with
the base, and nothing of a client is in them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pretrain.model import Compute
from pretrain.train import gradients

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.loop import Data

__all__ = ["FILE", "Moments", "load_moments", "prime", "save_moments"]

FILE = "moments.safetensors"
WARM = 1000.0
"""Steps that a primed optimizer believes to have behind it: its bias corrections are then 1, and
first moments that start at zero warm the first ten steps up by themselves."""

Moments = dict[str, "torch.Tensor"]


def save_moments(
    model: "PreTrainedModel",
    data: "Data",
    batch: int,
    batches: int,
    compute: Compute,
    folder: Path,
    passes: int = 1,
) -> None:
    """Write the mean squared gradient (clipped as in training) over `batches` batches of `data`.

    `passes`: as pretrain.train.gradients.
    """
    import torch
    from safetensors.torch import save_file

    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for number in range(batches):
        gradients(model, *data.batch(0, number, batch), compute, passes=passes)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                sums[name] += parameter.grad.square()
        model.zero_grad(set_to_none=True)
    save_file({name: (total / batches).cpu() for name, total in sums.items()}, folder / FILE)


def load_moments(base: Path) -> Moments | None:
    """What `save_moments` wrote beside a base model, or None."""
    from safetensors.torch import load_file

    return load_file(base / FILE) if (base / FILE).is_file() else None


def prime(
    optimizer: "torch.optim.AdamW", model: "PreTrainedModel", moments: Moments | None
) -> None:
    """Start AdamW from public second moments, as if it had run for long; None leaves it empty."""
    import torch

    for name, parameter in model.named_parameters():
        if moments and parameter.requires_grad:
            optimizer.state[parameter] = {
                "step": torch.tensor(WARM),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": moments[name].to(parameter.device, copy=True),
            }
