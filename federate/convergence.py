"""When a run has learnt enough, and what it falls back to when it diverges."""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from commonroot.config import Section

__all__ = ["Progress", "StopConfig"]


class StopConfig(Section):
    """Judged on the clients' validation text, each time it is measured."""

    patience: int = Field(0, ge=0)
    """Measurements in a row without a gain that end the run; 0: never."""
    min_gain: float = Field(0.002, ge=0)
    """Bits per byte that count as a gain."""
    target_bpb: float = Field(0.0, ge=0)
    """The run ends when validation is at or below this; 0: no target."""
    diverged: float = Field(0.3, gt=0)
    """Bits per byte above the best at which the run goes back to its best weights."""


@dataclass
class Progress:
    """What the rounds so far have shown; part of every round's checkpoint."""

    best_bpb: float = float("inf")
    best_round: int = 0
    """Rounds done when the best was measured."""
    waited: int = 0
    """Measurements since the last gain."""
    rollbacks: int = 0
    void: int = 0
    """Rounds in a row without quorum."""
    ended: str = ""
    """Why the run ends before its last round."""

    def judge(self, stop: StopConfig, bpb: float, done: int) -> str:
        """Take one measurement in; returns "better", "rollback" or ""."""
        diverged = not bpb <= self.best_bpb + stop.diverged
        gained = bpb < self.best_bpb - stop.min_gain
        better = bpb < self.best_bpb
        if better:
            self.best_bpb, self.best_round = bpb, done
        self.waited = 0 if gained else self.waited + 1
        if stop.target_bpb and bpb <= stop.target_bpb:
            self.ended = f"the target of {stop.target_bpb:g} bpb is reached"
        elif stop.patience and self.waited >= stop.patience:
            self.ended = f"no gain in {self.waited} measurements"
        if diverged:
            self.rollbacks += 1
            return "rollback"
        return "better" if better else ""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"best_bpb": None if self.best_bpb == float("inf") else self.best_bpb}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Progress":
        """From what `plain` gave; {} starts anew."""
        progress = cls(**plain)
        if progress.best_bpb is None:
            progress.best_bpb = float("inf")
        return progress
