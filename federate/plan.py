"""What the operator asks of a federated run."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from commonroot.artifact import write_atomic
from commonroot.config import Section
from commonroot.errors import ConfigError
from federate.bounds import SiloBounds
from federate.compression.codec import CodecConfig
from federate.convergence import StopConfig
from federate.local import LocalSteps
from federate.lora.adapter import LoraConfig
from federate.pacing.devices import DevicesConfig
from federate.pacing.modes import PacingConfig
from federate.personalize import PersonalConfig
from pretrain.model import Compute
from pretrain.train import schedule

__all__ = ["FederateConfig", "Plan"]


def _usual_strategy(before: dict[str, Any]) -> str:
    """FlexLoRA gains most of the ways to aggregate factors (docs/decisions.md)."""
    wants_factors = before["lora"].rank > 0 and not before["pacing"].takes_stale
    return "flexlora" if wants_factors else "fedavg"


class FederateConfig(Section):
    """[federate]"""

    engine: str = Field("inprocess", pattern="^(inprocess|simulation|deployment)$")
    """inprocess: one process, reproducible to the bit; simulation: Flower's Ray engine;
    deployment: a SuperLink and SuperNodes that are already running, or on loopback."""
    seed: int = Field(0, ge=0)
    """Seed of cohorts and of the clients' data order."""
    rounds: int = Field(10, ge=1)
    """Rounds of: send, train locally, aggregate."""
    cohort: int = Field(8, ge=1)
    """Clients asked in a round; all of them if there are fewer."""
    hold_out: int = Field(0, ge=0)
    """Clients kept out of all rounds; they get the model at the end, like newcomers."""
    local: LocalSteps = LocalSteps()
    """What a client does in a round."""
    lora: LoraConfig = LoraConfig()
    """What is trained: all weights, or low-rank factors beside frozen ones."""
    schedule: str = Field("hold", pattern="^(hold|cosine)$")
    """How the clients' learning rate goes over the rounds: hold, then fall to zero in the last
    `cooldown` share; or a half cosine over all rounds."""
    cooldown: float = Field(0.0, ge=0, le=1)
    """Share of the rounds over which the clients' learning rate falls to zero."""
    pacing: PacingConfig = PacingConfig()
    """When a round asks clients, and which replies make it."""
    strategy: str = Field(default_factory=_usual_strategy)
    """fedavg, fedprox, …: an entry point of group commonroot.strategies; or flwr:NAME for one of
    Flower's own (these hold all replies of a round in memory). Unset, LoRA factors are aggregated
    by flexlora, or by fedavg where replies may be stale."""
    server_lr: float | None = Field(None, gt=0)
    """The mean delta is scaled by this before it is applied; unset: the strategy's own default
    (1 for fedavg)."""
    strategy_options: dict[str, float | int | str] = Field(default_factory=dict)
    """Keyword arguments of the strategy, such as `mu` of fedprox."""
    up: CodecConfig = CodecConfig()
    """How deltas are encoded on their way up."""
    down: CodecConfig = CodecConfig()
    """How the global weights' difference from the base is encoded on its way down."""
    quorum: float = Field(0.5, gt=0, le=1)
    """Share of the cohort (fedbuff: of the buffer) whose valid replies make a round count; else the
    weights stay."""
    devices: DevicesConfig = DevicesConfig()
    """Simulated devices and their virtual clock."""
    most_void_rounds: int = Field(3, ge=1)
    """Rounds in a row without quorum that end the run as failed."""
    min_clients: int = Field(1, ge=1)
    """Clients that must be there before the first round."""
    wait_s: float = Field(120.0, gt=0)
    """Seconds to wait for `min_clients`."""
    evaluate_every: int = Field(2, ge=1)
    """Rounds between evaluations on the clients' validation text."""
    evaluate_clients: int = Field(0, ge=0)
    """Clients in those evaluations; 0: all."""
    evaluate_blocks: int = Field(4, ge=1)
    """Blocks a client in those evaluations."""
    test_blocks: int = Field(12, ge=1)
    """Most blocks of a client's test text in the last evaluation, and of its validation text when
    it chooses between the global model and its own."""
    test_clients: int = Field(0, ge=0)
    """Clients in the last evaluation, the only ones that personalise; 0: all."""
    chat: bool = False
    """The clients hold chats: the published tokenizer then carries the template of their turns."""
    test_records: int = Field(0, ge=0)
    """Most prompt + completion or chat records a client for exact match, F1 and accuracy."""
    personal: PersonalConfig = PersonalConfig(steps=8)
    """Fine-tuning inside every client; its result never leaves."""
    stop: StopConfig = StopConfig()
    """When to end before the last round."""
    keep_best: bool = True
    """End with the weights that validation liked best, not with the last."""
    largest_weight: float = Field(1000.0, gt=0)
    """A reply with a larger absolute value is excluded."""
    silo: SiloBounds = SiloBounds()
    """Bounds of the simulated silos; a deployed silo has its owner's own."""
    compute: Compute = Compute()
    """Where the simulated silos compute."""
    workers: int = Field(0, ge=0)
    """Processes of the in-process engine that train clients side by side, each with
    compute.threads threads; 0: in this process."""

    @model_validator(mode="after")
    def _possible(self) -> "FederateConfig":
        timeless = self.engine == "inprocess" and not self.devices.profiles
        if timeless and self.pacing.mode != "synchronous":
            raise ValueError(
                "without federate.devices.profiles no time passes in the in-process engine: "
                "set pacing.mode = 'synchronous', or describe the devices"
            )
        if self.workers and not self.compute.threads:
            raise ValueError(
                "workers need federate.compute.threads, such as 1: results depend on it"
            )
        return self

    def lr(self, number: int) -> float:
        """The clients' peak learning rate in round `number`."""
        if self.schedule == "cosine":
            return self.local.lr * 0.5 * (1 + math.cos(math.pi * number / self.rounds))
        return schedule(self.local.lr, self.rounds, 0, self.cooldown)(number)


@dataclass(frozen=True)
class Plan:
    """One run: handed to the round loop in this process or, as a file, to a Flower ServerApp."""

    run: str
    """Name of the run towards the silos: new for new work, the same when resumed."""
    work: Path
    """Folder for checkpoints and results."""
    base: Path
    """Checkpoint that the run starts from."""
    expect: int
    """Clients to wait for."""
    config: FederateConfig

    def save(self, path: Path) -> None:
        """Write as JSON, paths absolute."""
        plain = {
            "run": self.run,
            "work": str(self.work.resolve()),
            "base": str(self.base.resolve()),
            "expect": self.expect,
            "config": self.config.model_dump(mode="json"),
        }
        write_atomic(path, json.dumps(plain, indent=1))

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read what `save` wrote. Raises ConfigError if it is not that."""
        try:
            plain = json.loads(path.read_text("utf-8"))
            config = FederateConfig.model_validate(plain["config"])
            return cls(
                plain["run"], Path(plain["work"]), Path(plain["base"]), plain["expect"], config
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{path} is no plan of a federated run") from None
