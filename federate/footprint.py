"""What simulated rounds take in memory, estimated before anything is loaded.

In one process a model stands there many times. The server: its bench's weights and the base beside
them, the global weights, their sum in fp64, the message. A silo: its bench's weights, base and
public moments; what arrived, gradient and moments in training; then what was trained, its delta
(clipped, encoded, in the reply, kept as state). LoRA factors replace these in rounds, but after the
last one each client makes a personal model, and that is of all weights. The factors are measured
(docs/decisions.md).
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from federate.plan import FederateConfig
from pretrain.adopt import context_of, settings_of
from pretrain.capacity import FP32, Needs, here, require

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["check_rounds_fit", "rounds_need"]

SERVER, SILO = 6, 14
"""Copies in fp32 of what is trained that the server holds, and each silo that works at a time."""
BASES, PERSONAL = 2, 10
"""The same of the frozen weights beside LoRA factors, the personal model at the end included."""
PROCESS = 0.3e9
"""Bytes of a worker before it holds a model: torch and transformers."""


def check_rounds_fit(section: FederateConfig, base: Path) -> None:
    """Raise ConfigError with one line if the rounds of `section` do not fit into memory."""
    config = settings_of(base)
    size, free, found = rounds_need(section, config, context_of(base, config))
    what = f"LoRA of rank {section.lora.rank} in rounds" if section.lora.rank else "rounds"
    require(f"{what} on this base", size, free, found, batch="a smaller federate.local.batch")


def rounds_need(
    section: FederateConfig, config: "PreTrainedConfig", context: int
) -> tuple[float, float, Needs]:
    """Bytes that the rounds take, bytes that are free, and what else the model would take; `lora`
    of this is that of rounds, infinite where they train factors already."""
    local = math.ceil(section.local.batch * (1 + section.local.replay))
    batch, rank = max(local, section.personal.batch), section.lora.rank
    found, free = here(config, section.compute, context, batch, rank)
    lora = _bytes(section, found, found.factors, found.parameters)
    size = lora if rank else _bytes(section, found, found.parameters, 0)
    return size, free, replace(found, lora=math.inf if rank else lora)


def _bytes(section: FederateConfig, found: Needs, trained: int, frozen: int) -> float:
    """Of rounds that train as many parameters beside frozen ones."""
    workers = section.workers if section.engine == "inprocess" else 0
    silos = max(1, workers)
    copies = SERVER * trained + BASES * frozen
    copies += silos * ((SILO + section.local.svrg) * trained + PERSONAL * frozen)
    passing = max(found.activations, found.evaluation - FP32 * found.parameters)
    return FP32 * copies + silos * passing + workers * PROCESS
