"""SCAFFOLD: control variates take out of each client's steps where it drifts from the others.

Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378. There the local optimizer is SGD, and a
client's control variate c_i can be read off its delta (option II). Here it is AdamW, which scales
gradients, so c_i is the mean gradient over the local steps (close to option I, which takes the
gradient at the received weights, and free), and c - c_i is added to the gradient before AdamW: with
c_i = g_i and c = 0 nobody moves, whatever AdamW makes of a gradient.

Traffic doubles both ways. c_i stays in the silo; what is sent is its change, an average of clipped
gradients, of which the owner's bounds must treat all as they treat the delta.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from federate.local import Weights
from federate.replies import Update
from federate.strategies.fedavg import FedAvg
from federate.wire import Shapes, shapes_of

__all__ = ["Scaffold"]


class Scaffold(FedAvg):
    """FedAvg plus c, the mean over all `clients` of their c_i; unknown ones count as zero.

    c takes every valid change (c += |S|/N mean(dc)), also in a round that is void for the weights:
    the silo has already moved its c_i. A reply that comes too late leaves c off by its dc / N.
    """

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 1.0,
        *,
        clients: Annotated[int, Field(ge=1)],
    ) -> None:
        self.clients = clients
        self.control = {n: np.zeros(w.shape, np.float32) for n, w in weights.items()}
        self._changes: dict[str, Any] = {}
        super().__init__(weights, server_lr)

    def rule(self) -> dict[str, Any]:
        return {"name": "scaffold"}

    def extra(self) -> Weights:
        return self.control

    def expected_extra(self) -> Shapes:
        return shapes_of(self.control)

    def begin(self) -> None:
        super().begin()
        self._fold()

    def add(self, update: Update) -> None:
        super().add(update)
        for name, change in update.extra.items():
            self._changes[name] = self._changes.get(name, 0.0) + change.astype(np.float64)

    def finish(self) -> float:
        self._fold()
        return super().finish()

    def state(self) -> Weights:
        self._fold()
        return {f"control:{name}": value for name, value in self.control.items()}

    def restore(self, state: Weights) -> None:
        self.control = {name: state[f"control:{name}"] for name in self.control}
        self._changes = {}

    def _fold(self) -> None:
        for name, change in self._changes.items():
            self.control[name] = (self.control[name] + change / self.clients).astype(np.float32)
        self._changes = {}
