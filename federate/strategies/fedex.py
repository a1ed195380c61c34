"""Exact LoRA aggregation: what averaging A and B misses goes to the frozen base.

Singhal et al. 2024, FedEx-LoRA, https://arxiv.org/abs/2410.09432.
"""

from dataclasses import replace

import numpy as np

from federate.local import Weights
from federate.lora.algebra import A, B, layers_of, product, residual
from federate.replies import Update
from federate.strategies.fedavg import Mean
from federate.strategies.naive_lora import NaiveLora

__all__ = ["FedEx"]


class FedEx(NaiveLora):
    """A and B are averaged; the rest of mean(B_i A_i) is added to the base weights everywhere.

    `scale` must be that of the LoRA layers. The offsets travel down, as large as the layers
    themselves (fp32); nothing more than A and B travels up.
    """

    needs_fresh = True

    def __init__(self, weights: Weights, server_lr: float = 1.0, scale: float = 2.0) -> None:
        self.scale = scale
        self._offsets: Weights = {}
        self._left = 0.0
        super().__init__(weights, server_lr)

    def send(self, rank: int = 0) -> Weights:
        """A, B and, once there are any, the offsets to the base."""
        offsets = {f"base/{name}": offset for name, offset in self._offsets.items()}
        return {**super().send(rank), **offsets}

    def add(self, update: Update) -> None:
        """Take one valid reply; a layer counts only if both its factors came."""
        whole = [layer + factor for layer in layers_of(update.delta) for factor in (A, B)]
        super().add(replace(update, delta={name: update.delta[name] for name in whole}))

    def step(self, mean: Mean) -> None:
        """Move the product of every layer to exactly where the mean of products lies."""
        before = dict(self.weights)
        super().step(mean)
        checks = []
        for layer in self._products.layers():
            start_OI, name = product(before, layer), f"{layer}.weight"
            goal_OI = start_OI + self.server_lr * (self._products.of(layer) - start_OI)
            now_OI = product(self.weights, layer)
            old_OI = self._offsets.get(name, np.zeros(goal_OI.shape, np.float32))
            new_OI = (old_OI + self.scale * (goal_OI - now_OI)).astype(np.float32)
            self._offsets[name] = new_OI
            moved_OI = (new_OI.astype(np.float64) - old_OI) / self.scale
            checks.append((goal_OI, now_OI + moved_OI))
        self._left = residual(checks)

    def state(self) -> Weights:
        """The offsets: "offset:<parameter of the base>"."""
        return {f"offset:{name}": offset for name, offset in self._offsets.items()}

    def restore(self, state: Weights) -> None:
        """Take back what `state` gave."""
        self._offsets = {name.removeprefix("offset:"): value for name, value in state.items()}

    def notes(self) -> dict[str, float]:
        """The error of averaging alone, which the offsets made up for, and what is left of it."""
        return {"naive_error": self._error, "aggregation_error": self._left}
