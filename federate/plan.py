"""What the operator asks of a federated run."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from commonroot.artifact import write_atomic
from commonroot.config import Section
from commonroot.errors import ConfigError
from federate.local import LocalSteps
from federate.silo import SiloBounds
from pretrain.model import Compute

__all__ = ["FederateConfig", "Plan"]


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
    local: LocalSteps = LocalSteps()
    """What a client does in a round."""
    cooldown: float = Field(0.0, ge=0, le=1)
    """Share of the rounds over which the clients' learning rate falls to zero."""
    strategy: str = "fedavg"
    """Entry point of group commonroot.strategies."""
    server_lr: float = Field(1.0, gt=0)
    """The mean delta is scaled by this before it is applied."""
    quorum: float = Field(0.5, gt=0, le=1)
    """Share of the cohort whose valid replies make a round count; else the weights stay."""
    deadline_s: float = Field(600.0, gt=0)
    """Seconds after which a round goes on without the replies that are still missing."""
    most_void_rounds: int = Field(3, ge=1)
    """Rounds in a row without quorum that end the run as failed."""
    min_clients: int = Field(1, ge=1)
    """Clients that must be there before the first round."""
    wait_s: float = Field(120.0, gt=0)
    """Seconds to wait for `min_clients`."""
    evaluate_every: int = Field(2, ge=1)
    """Rounds between evaluations on the clients' validation text."""
    evaluate_blocks: int = Field(4, ge=1)
    """Blocks a client in those evaluations."""
    test_blocks: int = Field(12, ge=1)
    """Most blocks of a client's test text in the last evaluation, and of its validation text when
    it chooses between the global model and its own."""
    personal: LocalSteps = LocalSteps(steps=8)
    """Fine-tuning inside every client after the last round; its result never leaves."""
    largest_weight: float = Field(1000.0, gt=0)
    """A reply with a larger absolute value is excluded."""
    silo: SiloBounds = SiloBounds()
    """Bounds of the simulated silos; a deployed silo has its owner's own."""
    compute: Compute = Compute()
    """Where the simulated silos compute."""


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
