"""LoRA for clients of different rank: products are averaged, and cut to each client's rank by SVD.

Bai et al. 2024, FlexLoRA, https://arxiv.org/abs/2402.11505.
"""

import numpy as np

from federate.local import Weights
from federate.lora.algebra import A, B, ProductMean, factorise, product, residual
from federate.replies import Update
from federate.strategies.fedavg import FedAvg
from federate.wire import Shapes, shapes_of

__all__ = ["FlexLora"]


class FlexLora(FedAvg):
    """Mean of B_i A_i as full matrices, factorised again at the highest rank, that of `weights`.

    A client of a lower rank gets the leading part, which is the best of its rank. As in the paper
    its reply is averaged as it is, so it also pulls what it was not sent towards zero; with
    `by_change` the mean is over what clients changed (B_i A_i minus what each was sent), and what
    some were not sent stays. scale must not depend on the rank (federate.lora.adapter).
    """

    needs_fresh = True

    def __init__(self, weights: Weights, server_lr: float = 1.0, by_change: bool = False) -> None:
        self.by_change = by_change
        self._error = 0.0
        super().__init__(weights, server_lr)

    def send(self, rank: int = 0) -> Weights:
        """The factors cut to `rank`; 0: all of them."""
        if not rank:
            return self.weights
        return {
            name: value[:rank] if name.endswith(A) else value[:, :rank]
            for name, value in self.weights.items()
        }

    def expected(self, rank: int = 0) -> Shapes:
        """Shapes of factors of that rank."""
        return shapes_of(self.send(rank))

    def begin(self) -> None:
        """Start a round."""
        self._replies, self._sent = ProductMean(), ProductMean()

    def add(self, update: Update) -> None:
        """Take one valid reply; a layer counts only if both its factors came."""
        sent = {name: self.send(update.rank)[name] for name in update.delta}
        trained = {name: sent[name] + delta for name, delta in update.delta.items()}
        self._replies.add(trained, update.weight)
        if self.by_change:
            self._sent.add(sent, update.weight)

    def finish(self) -> float:
        """Move every layer's product and factorise it; returns the L2 norm of the mean change."""
        checks, squares = [], 0.0
        for layer in self._replies.layers():
            start_OI = product(self.weights, layer)
            origin_OI = self._sent.of(layer) if self.by_change else start_OI
            change_OI = self._replies.of(layer) - origin_OI
            goal_OI = start_OI + self.server_lr * change_OI
            old_a_rI = self.weights[layer + A]
            a_rI, b_Or = factorise(goal_OI, len(old_a_rI), old_a_rI)
            self.weights[layer + A], self.weights[layer + B] = a_rI, b_Or
            checks.append((goal_OI, product(self.weights, layer)))
            squares += float(np.square(change_OI).sum())
        self._error = residual(checks)
        return float(np.sqrt(squares))

    def notes(self) -> dict[str, float]:
        """What the highest rank cannot hold of the averaged products."""
        return {"aggregation_error": self._error}
