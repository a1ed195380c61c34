"""Each weight moves by a fixed step where most clients want it to go.

Bernstein et al. 2019, signSGD with majority vote, https://arxiv.org/abs/1810.05291, over deltas in
place of gradients: one client, however large its delta, has one vote.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from federate.replies import Update
from federate.strategies.fedavg import FedAvg

__all__ = ["SignMajority"]


class SignMajority(FedAvg):
    """FedAvg with votes in place of deltas; a tie moves nothing."""

    def __init__(
        self, weights: Any, server_lr: float = 1.0, *, size: Annotated[float, Field(gt=0)] = 1e-3
    ) -> None:
        super().__init__(weights, server_lr)
        self.size = size

    def begin(self) -> None:
        self.votes = {name: np.zeros(value.shape) for name, value in self.weights.items()}

    def add(self, update: Update) -> None:
        for name, delta in update.delta.items():
            self.votes[name] += np.sign(delta)

    def finish(self) -> float:
        change = {name: self.size * np.sign(votes) for name, votes in self.votes.items()}
        self.step(change)
        return float(np.sqrt(sum(np.square(value).sum() for value in change.values())))
