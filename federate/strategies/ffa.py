"""LoRA with A frozen at its random start: averages of B are then exact.

Sun et al. 2024, FFA-LoRA, https://arxiv.org/abs/2403.12313.
"""

from typing import Any

from federate.lora.algebra import A
from federate.strategies.fedavg import FedAvg
from federate.wire import Shapes

__all__ = ["Ffa"]


class Ffa(FedAvg):
    """FedAvg over B alone: mean(B_i A) = mean(B_i) A. A is neither trained nor sent up."""

    def rule(self) -> dict[str, Any]:
        """Clients keep A as it came."""
        return {"name": "freeze", "suffix": A}

    def expected(self, rank: int = 0) -> Shapes:
        """Everything but A."""
        return {n: shape for n, shape in super().expected(rank).items() if not n.endswith(A)}

    def notes(self) -> dict[str, float]:
        """No aggregation error, by construction."""
        return {"aggregation_error": 0.0}
