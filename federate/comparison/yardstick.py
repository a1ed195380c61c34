"""What every model of a comparison is measured on. Simulation only: it reads all shards."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from federate.local import Workbench
from federate.plan import FederateConfig
from federate.silo import Silo
from pretrain.evaluate import EvalSet

__all__ = ["Texts"]


@dataclass
class Texts:
    """What models are measured on, by client; the same for all arms and seeds."""

    bench: Workbench
    silos: Mapping[str, Silo]
    heldout: Sequence[str]
    rounds: FederateConfig
    public_blocks: int

    @cached_property
    def own(self) -> dict[str, EvalSet]:
        """A client's test text, for models that are judged on it."""
        return self._sets("test", self.rounds.test_blocks)

    @cached_property
    def cross(self) -> dict[str, EvalSet]:
        """A block of it, for other clients' models."""
        return self._sets("test", 1)

    @cached_property
    def watched(self) -> dict[str, EvalSet]:
        """Validation text as the rounds measure it."""
        return self._sets("validation", self.rounds.evaluate_blocks)

    @cached_property
    def judge(self) -> dict[str, EvalSet]:
        """Validation text that learning rates are chosen on."""
        return self._sets("validation", self.rounds.test_blocks)

    @cached_property
    def public(self) -> EvalSet:
        """Held-out public text."""
        return self.bench.eval_set(self.heldout, self.public_blocks)

    def mean(self, sets: Mapping[str, EvalSet], names: Iterable[str]) -> float:
        """Mean bpb over clients of what is on the bench."""
        return float(np.mean([self.bench.bits_per_byte(sets[name]) for name in names]))

    def _sets(self, side: str, blocks: int) -> dict[str, EvalSet]:
        return {
            name: self.bench.eval_set(getattr(silo.split, side), blocks)
            for name, silo in self.silos.items()
        }
