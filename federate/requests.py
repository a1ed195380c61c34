"""What the server asks of a silo: one JSON object in the message's config, checked on arrival."""

from typing import Any

from pydantic import Field

from commonroot.config import Section
from federate.compression.codec import CodecConfig
from federate.local import LocalSteps
from federate.lora.adapter import LoraConfig
from federate.personalize import PersonalConfig

__all__ = ["EvaluateAsk", "TrainAsk"]


class TrainAsk(Section):
    """Train on the shard and answer with a delta."""

    run: str = Field(pattern="^[A-Za-z0-9]{1,64}$")
    """Name of the run; new for new work."""
    round: int = Field(ge=0)
    """Number of the request within the run, as this silo counts: rising, not always by one."""
    seed: int = Field(0, ge=0)
    """Seed of the data order."""
    local: LocalSteps
    """What to do."""
    lora: LoraConfig = LoraConfig()
    """What is trained: all weights, or low-rank factors of this rank."""
    rule: dict[str, Any] = Field(default_factory=dict)
    """What the strategy asks for beside plain steps (federate.rules)."""
    up: CodecConfig = CodecConfig()
    """How the delta is encoded."""
    personal: PersonalConfig | None = None
    """Also advance the client's personal model in this round (Ditto)."""


class EvaluateAsk(Section):
    """Measure the weights on the shard; with `personal`, also fine-tune them for this client."""

    run: str = Field(pattern="^[A-Za-z0-9]{1,64}$")
    """Name of the run."""
    round: int = Field(ge=0)
    """Rounds done."""
    seed: int = Field(0, ge=0)
    """Seed of the data order of personalisation."""
    split: str = Field("validation", pattern="^(validation|test)$")
    """Which of the client's texts."""
    most_blocks: int = Field(0, ge=0)
    """Most blocks of it; 0: all."""
    most_records: int = Field(0, ge=0)
    """Most records for exact match, F1 and accuracy; 0: bpb only."""
    lora: LoraConfig = LoraConfig()
    """What the weights are."""
    personal: PersonalConfig | None = None
    """Personalise as well."""
