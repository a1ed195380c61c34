"""Federated averaging of deltas, as a stream.

McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
https://arxiv.org/abs/1602.05629; server learning rate: Reddi et al. 2021,
https://arxiv.org/abs/2003.00295.
"""

import numpy as np

from federate.local import Weights

__all__ = ["FedAvg"]


class FedAvg:
    """Global weights plus the token-weighted mean of the deltas.

    Memory is O(model): a delta is added on arrival and forgotten. Sums are fp64, so that the order
    of arrival stays below fp32 rounding.
    """

    def __init__(self, weights: Weights, server_lr: float) -> None:
        self.weights = weights
        self.server_lr = server_lr
        self.begin()

    def begin(self) -> None:
        """Start a round."""
        self._sums = {name: np.zeros(value.shape) for name, value in self.weights.items()}
        self._totals = dict.fromkeys(self.weights, 0.0)

    def add(self, delta: Weights, weight: float) -> None:
        """Take one valid reply; a tensor that a client withholds is averaged over the others."""
        for name, value in delta.items():
            self._sums[name] += value * np.float64(weight)
            self._totals[name] += weight

    def finish(self) -> float:
        """Apply the mean delta; returns its L2 norm."""
        square = 0.0
        for name, total in self._totals.items():
            if total:
                step = self._sums[name] / total
                square += float(np.square(step).sum())
                self.weights[name] = (self.weights[name] + self.server_lr * step).astype(np.float32)
        return float(np.sqrt(square))

    def state(self) -> Weights:
        """What a checkpoint must hold beside the weights."""
        return {}

    def restore(self, state: Weights) -> None:
        """Take back what `state` gave."""
