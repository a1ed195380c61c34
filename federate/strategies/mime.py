"""MimeLite: the server's momentum is used, and held fixed, inside the clients' local steps.

Karimireddy et al. 2020, Mime, https://arxiv.org/abs/2008.03606; momentum out of deltas: Xu et al.
2021, FedCM, https://arxiv.org/abs/2106.10874.

In the paper the momentum is one of gradients at the received weights, which every client computes
for it and sends along. Here it is the last mean delta itself: a local step is (1 - beta) of the
optimizer's step plus beta/K of that delta, K steps a round. As the steps of a round sum up to
beta * m + (1 - beta) * (own steps), their mean over clients is the next m: with SGD inside this is
the paper's recursion with gradients taken along the way. It costs no gradient pass, nothing on the
way up, and lives where AdamW's steps live; a momentum of gradients would first have to be brought
through AdamW's scaling. Only the way down doubles.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from federate.local import Weights
from federate.strategies.fedavg import FedAvg, Mean

__all__ = ["MimeLite"]


class MimeLite(FedAvg):
    """FedAvg with momentum in the clients' steps. The first round has none and is FedAvg's.

    A run of few rounds needs a small beta: m remembers about 1 / (1 - beta) rounds.
    """

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 1.0,
        *,
        beta: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(weights, server_lr)
        self.beta = beta
        self.momentum: Weights = {}

    def rule(self) -> dict[str, Any]:
        return {"name": "mime", "beta": self.beta} if self.momentum else {}

    def extra(self) -> Weights:
        return self.momentum

    def step(self, mean: Mean) -> None:
        super().step(mean)
        # A tensor that nobody sent has no momentum.
        self.momentum = {
            name: mean[name].astype(np.float32) if name in mean else np.zeros_like(value)
            for name, value in self.weights.items()
        }

    def state(self) -> Weights:
        return {f"momentum:{name}": value for name, value in self.momentum.items()}

    def restore(self, state: Weights) -> None:
        self.momentum = {key.partition(":")[2]: value for key, value in state.items()}
