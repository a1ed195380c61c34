"""When a round asks clients and which replies make it: three modes, as numbers for one event loop.

- synchronous: asks a cohort, and waits for each reply or for its time-out.
- deadline: asks more than a cohort and takes the first that come in time (Bonawitz et al. 2019,
  https://arxiv.org/abs/1902.01046); a late reply is dropped, or used in the round that it meets.
- fedbuff: keeps `concurrency` clients at work; every `buffer` replies make a server update (Nguyen
  et al. 2022, https://arxiv.org/abs/2106.06639).
"""

import math

from pydantic import Field, model_validator

from commonroot.config import Section

__all__ = ["PacingConfig", "discount"]


class PacingConfig(Section):
    """[federate.pacing]: seconds are virtual with federate.devices, else real."""

    mode: str = Field("synchronous", pattern="^(synchronous|deadline|fedbuff)$")
    """synchronous: a round waits for its cohort; deadline: it takes the first that come in time;
    fedbuff: clients work asynchronously, every few replies make a round."""
    timeout_s: float = Field(600.0, gt=0)
    """Seconds after which a reply is given up: what a dropout costs a synchronous round."""
    deadline_s: float = Field(60.0, gt=0)
    """deadline: seconds after which a round ends with what has come; at most `timeout_s`."""
    over_selection: float = Field(1.3, ge=1, le=10)
    """deadline: clients asked for each one of the cohort."""
    late: str = Field("drop", pattern="^(drop|use)$")
    """deadline: a reply that comes after its round is dropped, or used in the one that it meets."""
    concurrency: int = Field(8, ge=1)
    """fedbuff: clients at work at any time; there should be `concurrency` + `buffer` or more."""
    buffer: int = Field(4, ge=1)
    """fedbuff: accepted replies that make a server update."""
    staleness_exponent: float = Field(0.5, ge=0, le=10)
    """A reply that is s updates old counts (1 + s)^-exponent as much; 0: as much as any other."""

    @model_validator(mode="after")
    def _deadline_first(self) -> "PacingConfig":
        if self.mode == "deadline" and self.deadline_s > self.timeout_s:
            raise ValueError("deadline_s is above timeout_s: lower it, or raise timeout_s")
        return self

    @property
    def takes_stale(self) -> bool:
        """Whether a round takes replies to requests of earlier rounds."""
        return self.mode == "fedbuff" or (self.mode == "deadline" and self.late == "use")

    @property
    def round_s(self) -> float:
        """The longest that a round lasts."""
        return self.deadline_s if self.mode == "deadline" else math.inf

    @property
    def patience_s(self) -> float:
        """How long a reply is waited for; until then its client is not asked again."""
        dropped = self.mode == "deadline" and self.late == "drop"
        return self.deadline_s if dropped else self.timeout_s

    def goal(self, cohort: int) -> int:
        """Accepted replies that end a round."""
        return self.buffer if self.mode == "fedbuff" else cohort

    def room(self, cohort: int, asked: int, under_way: int) -> int:
        """Clients to ask now, after `asked` in this round and with `under_way` at work."""
        if self.mode == "fedbuff":
            return max(0, self.concurrency - under_way)
        factor = self.over_selection if self.mode == "deadline" else 1.0
        return max(0, math.ceil(cohort * factor - 1e-9) - asked)


def discount(staleness: int, exponent: float) -> float:
    """(1 + staleness)^-exponent: what a reply counts for that is so many server updates old."""
    return float((1 + staleness) ** -exponent)
