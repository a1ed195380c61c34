"""FedProx: local steps are pulled back towards the weights that the client received.

Li et al. 2020, Federated Optimization in Heterogeneous Networks,
https://arxiv.org/abs/1812.06127. With AdamW the proximal gradient mu * (w - w_received) is added
before the optimizer scales it, as any other part of the gradient.
"""

from typing import Annotated, Any

from pydantic import Field

from federate.local import Weights
from federate.strategies.fedavg import FedAvg

__all__ = ["FedProx"]


class FedProx(FedAvg):
    """FedAvg whose clients minimise their loss plus mu/2 of the squared distance travelled."""

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 1.0,
        *,
        mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01,
    ) -> None:
        super().__init__(weights, server_lr)
        self.mu = mu

    def rule(self) -> dict[str, Any]:
        return {"name": "prox", "mu": self.mu}
