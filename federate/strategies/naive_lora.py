"""Averages of the LoRA factors A and B apart, and how far that is from the mean of the products.

As in FedIT, Zhang et al. 2023, https://arxiv.org/abs/2305.05644.
"""

from federate.lora.algebra import ProductMean, product, residual
from federate.replies import Update
from federate.strategies.fedavg import FedAvg, Mean

__all__ = ["NaiveLora"]


class NaiveLora(FedAvg):
    """FedAvg that notes the aggregation error.

    ||mean(B_i A_i) - mean(B_i) mean(A_i)||_F over ||mean(B_i A_i)||_F, all layers together.
    """

    def begin(self) -> None:
        """Start a round."""
        super().begin()
        self._products = ProductMean()
        self._error = 0.0

    def add(self, update: Update) -> None:
        """Take one valid reply."""
        super().add(update)
        trained = {name: self.weights[name] + delta for name, delta in update.delta.items()}
        self._products.add(trained, update.weight)

    def step(self, mean: Mean) -> None:
        """Apply the mean delta to A and to B."""
        averaged = {name: self.weights[name] + delta for name, delta in mean.items()}
        self._error = residual(
            (self._products.of(layer), product(averaged, layer))
            for layer in self._products.layers()
        )
        super().step(mean)

    def notes(self) -> dict[str, float]:
        """The aggregation error of the last round."""
        return {"aggregation_error": self._error}
