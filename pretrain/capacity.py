"""What fits into this machine's memory: estimated from a model's config, before weights are read.

Weights stay in fp32 (4 bytes each). Training adds a gradient, AdamW's two moments, and as much
again for copies in 16 bits and gradients of parts of a batch; LoRA only for its factors. Kept for
the backward pass, a token and layer take 34 bytes for each unit of width in 16 bits (Korthikanti et
al. 2022, https://arxiv.org/abs/2205.05198), and a token's logits three times fp32.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from commonroot.errors import ConfigError
from commonroot.progress import say
from pretrain.evaluate import eval_rows
from pretrain.model import Compute, matmul_dtype, pick_device
from pretrain.speed import outline

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from pretrain.stage import PretrainConfig

__all__ = [
    "Needs",
    "asked",
    "check_fit",
    "check_training",
    "free_memory",
    "here",
    "needs",
    "require",
    "say_what_fits",
]

FP32 = 4
LORA_RANK = 8
"""Assumed where no rank is given."""
GB = 1e9


@dataclass(frozen=True)
class Needs:
    """Bytes that a model takes on its device."""

    parameters: int
    training: float
    """All weights trained."""
    lora: float
    """Factors of `rank` trained."""
    moments: float
    """Mean squared gradients of public text measured."""
    evaluation: float
    rank: int
    factors: int = 0
    """Parameters of the factors."""
    activations: float = 0.0
    """Of the blocks that are computed at once, kept for the backward pass."""


def needs(
    config: "PreTrainedConfig", context: int, batch: int, rank: int = 0, half: bool = False
) -> Needs:
    """Estimate for blocks of `context` tokens; `half`: activations in bf16."""
    from torch import nn

    rank, model = rank or LORA_RANK, outline(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    sides = [
        sum(weight.shape)
        for module in model.modules()
        if module is not head and not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2
    ]
    factors = rank * sum(sides)
    width = 34 * int(config.hidden_size) * int(config.num_hidden_layers) * (1 if half else 2)
    logits = 3 * FP32 * int(config.vocab_size)
    tokens, rows = context * batch, eval_rows(context, int(config.vocab_size))
    return Needs(
        parameters=parameters,
        training=5 * FP32 * parameters + tokens * (width + logits),
        lora=FP32 * (parameters + 4 * factors) + tokens * (width + logits),
        moments=4 * FP32 * parameters + tokens * (width + logits),
        evaluation=FP32 * parameters + rows * context * logits,
        rank=rank,
        factors=factors,
        activations=tokens * (width + logits),
    )


def check_fit(config: "PreTrainedConfig", section: "PretrainConfig", processes: int = 1) -> None:
    """Say what fits, and raise ConfigError if what `section` does with its base does not."""
    found, free = here(config, section.compute, section.context, section.at_once(processes))
    say(f"pretrain: {say_what_fits(found, free)}")
    for what, size in asked(section, found):
        require(what, size, free, found)


def check_training(
    config: "PreTrainedConfig", section: "PretrainConfig", processes: int = 1
) -> None:
    """Raise ConfigError if a new model of `section` cannot be trained here."""
    found, free = here(config, section.compute, section.context, section.at_once(processes))
    require("training this model", found.training, free, replace(found, lora=math.inf))


def here(
    config: "PreTrainedConfig", compute: Compute, context: int, batch: int, rank: int = 0
) -> tuple[Needs, float]:
    """What a model needs where it would run, and the bytes that are free there."""
    import torch

    device = pick_device(compute)
    half = matmul_dtype(compute, device) == torch.bfloat16
    return needs(config, context, batch, rank, half), free_memory(device)


def asked(section: "PretrainConfig", found: Needs) -> list[tuple[str, float]]:
    """What the stage does with an adopted base, and its bytes."""
    uses = [("evaluating this base", found.evaluation)]
    if section.continue_training:
        uses.append(("continued training of this base", found.training))
    if section.moment_batches:
        what = "measuring this base's second moments (pretrain.moment_batches = 0 does without)"
        uses.append((what, found.moments))
    return uses


def free_memory(device: "torch.device") -> float:
    """Bytes that this process can still take: of the device, within its container's limit."""
    import psutil
    import torch

    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = float(psutil.virtual_memory().available)
    limit, used = _of_group("memory.max"), _of_group("memory.current")
    return min(free, limit - used) if limit is not None and used is not None else free


def say_what_fits(found: Needs, free: float) -> str:
    """One line: what each use takes, what is free, what does not fit."""
    uses = {
        "training": found.training,
        f"LoRA of rank {found.rank}": found.lora,
        "evaluation": found.evaluation,
    }
    told = ", ".join(f"{use} {_gb(size)}{_verdict(size, free)}" for use, size in uses.items())
    return f"memory of {found.parameters:,} parameters: {told}; {_gb(free)} free"


def require(
    what: str, size: float, free: float, found: Needs, batch: str = "pretrain.micro_batch = 1"
) -> None:
    """Raise ConfigError with one line and the way out if `size` bytes do not fit."""
    if size <= free:
        return
    ways = f"a shorter pretrain.context, {batch}"
    if found.lora <= free:
        ways = f"adopt it as it is and train federate.lora.rank = {found.rank}, {ways}"
    raise ConfigError(
        f"{what} takes about {_gb(size)}, {_gb(free)} are free: {ways}, or a smaller model"
    )


def _verdict(size: float, free: float) -> str:
    return "" if size <= free else " (does not fit)"


def _gb(size: float) -> str:
    return f"{size / GB:.1f} GB"


def _of_group(name: str) -> float | None:
    try:
        return float(Path("/sys/fs/cgroup", name).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
