"""LoRA with A frozen in each round and chosen anew between rounds, by SVD of B A.

Lee et al. 2025, FedSVD, https://arxiv.org/abs/2505.12805.
"""

from federate.local import Weights
from federate.lora.algebra import A, B, layers_of, product, refactorise, residual
from federate.strategies.fedavg import Mean
from federate.strategies.ffa import Ffa

__all__ = ["FedSvd"]


class FedSvd(Ffa):
    """FFA, then B A is factorised again: A holds its right singular vectors, B the rest.

    A is orthonormal from the first round on (there within the span of its random start, as B is
    zero).
    """

    needs_fresh = True

    def __init__(self, weights: Weights, server_lr: float = 1.0) -> None:
        super().__init__(weights, server_lr)
        self._error = self._refactorise()

    def step(self, mean: Mean) -> None:
        """Apply the mean delta of B, then turn A."""
        super().step(mean)
        self._error = self._refactorise()

    def notes(self) -> dict[str, float]:
        """What the new factors miss of the averaged product: rounding to fp32."""
        return {"aggregation_error": self._error}

    def _refactorise(self) -> float:
        checks = []
        for layer in layers_of(self.weights):
            before_OI = product(self.weights, layer)
            a_rI, b_Or = refactorise(self.weights[layer + A], self.weights[layer + B])
            self.weights[layer + A], self.weights[layer + B] = a_rI, b_Or
            checks.append((before_OI, product(self.weights, layer)))
        return residual(checks)
