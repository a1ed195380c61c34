"""What simulated rounds take in memory, estimated before anything is loaded.

In one process a model stands there many times: the silo's weights and the base that it starts from,
gradients, moments and those that the base brings, what was trained and its delta, the server's
weights and its sum in fp64. These are counted, not measured; what messages hold for a moment comes
on top, so a run that is let through may still be short of memory.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from federate.plan import FederateConfig
from pretrain.adopt import context_of, settings_of
from pretrain.capacity import FP32, Needs, here, require

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["check_rounds_fit", "rounds_need"]

TRAINED, FROZEN = 12, 2
"""Copies in fp32 of what is trained, and of what is frozen beside LoRA factors."""
WORKER = 8
"""Of the copies of what is trained those that each further worker holds."""


def check_rounds_fit(section: FederateConfig, base: Path) -> None:
    """Raise ConfigError with one line if the rounds of `section` do not fit into memory."""
    config = settings_of(base)
    size, free, found = rounds_need(section, config, context_of(base, config))
    what = f"LoRA of rank {section.lora.rank} in rounds" if section.lora.rank else "rounds"
    require(f"{what} on this base", size, free, found)


def rounds_need(
    section: FederateConfig, config: "PreTrainedConfig", context: int
) -> tuple[float, float, Needs]:
    """Bytes that the rounds take, bytes that are free, and what else the model would take."""
    local = math.ceil(section.local.batch * (1 + section.local.replay))
    batch, rank = max(local, section.personal.batch), section.lora.rank
    found, free = here(config, section.compute, context, batch, rank)
    trained, frozen = (found.factors, found.parameters) if rank else (found.parameters, 0)
    workers = section.workers if section.engine == "inprocess" else 1
    copies = TRAINED + section.local.svrg + max(0, workers - 1) * (WORKER + section.local.svrg)
    kept = FP32 * (copies * trained + max(1, workers) * FROZEN * frozen)
    return kept + max(1, workers) * found.activations, free, found
