"""Federated averaging of deltas, as a stream; the class that other strategies override.

McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
https://arxiv.org/abs/1602.05629; server learning rate: Reddi et al. 2021,
https://arxiv.org/abs/2003.00295.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from federate.local import Weights
from federate.replies import Update
from federate.wire import Shapes, l2_norm, shapes_of

__all__ = ["FedAvg", "Mean"]

Mean = dict[str, npt.NDArray[np.float64]]


class FedAvg:
    """Global weights plus the token-weighted mean of the deltas.

    Memory is O(model): a delta is added on arrival and forgotten. Sums are fp64, so that the order
    of arrival stays below fp32 rounding. A strategy of one's own overrides `step`, or more.
    """

    needs_fresh = False
    """Whether a delta makes no sense once the global weights have moved on."""

    heat = 1.0
    """The clients' learning rate of this round as a share of its peak, set before each round."""

    def __init__(self, weights: Weights, server_lr: float = 1.0) -> None:
        self.weights = weights
        self.server_lr = server_lr
        self.begin()

    def send(self, rank: int = 0) -> Weights:  # noqa: ARG002 (for clients of several LoRA ranks)
        """The tensors that a client (of this LoRA rank) is sent."""
        return self.weights

    def expected(self, rank: int = 0) -> Shapes:  # noqa: ARG002
        """Names and shapes of the delta that must come back."""
        return shapes_of(self.weights)

    def rule(self) -> dict[str, Any]:
        """What clients do beside plain steps (federate.rules): flat, JSON-able; {}: nothing."""
        return {}

    def extra(self) -> Weights:
        """Tensors that the rule needs at the client."""
        return {}

    def expected_extra(self) -> Shapes:
        """Names and shapes of what the rule sends back beside the delta."""
        return {}

    def begin(self) -> None:
        """Start a round."""
        self._sums: dict[str, Any] = {n: np.zeros(w.shape) for n, w in self.weights.items()}
        self._totals = dict.fromkeys(self.weights, 0.0)

    def add(self, update: Update) -> None:
        """Take one valid reply; a tensor that a client withholds is averaged over the others."""
        for name, value in update.delta.items():
            self._sums[name] += value * np.float64(update.weight)
            self._totals[name] += update.weight

    def finish(self) -> float:
        """Apply the mean delta; returns its L2 norm."""
        mean = {name: self._sums[name] / total for name, total in self._totals.items() if total}
        self.step(mean)
        return l2_norm(mean)

    def step(self, mean: Mean) -> None:
        """Apply the mean delta to the weights."""
        for name, delta in mean.items():
            moved = self.weights[name] + self.server_lr * delta
            self.weights[name] = moved.astype(np.float32)

    def state(self) -> Weights:
        """What a checkpoint must hold beside the weights: "kind:tensor name" -> array."""
        return {}

    def restore(self, state: Weights) -> None:
        """Take back what `state` gave."""

    def notes(self) -> dict[str, float]:
        """Figures of the last `finish` for the round's record."""
        return {}
