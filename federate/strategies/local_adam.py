"""Local Adam with averaged moments: clients' AdamW goes on where the mean of the cohort's ended.

An AdamW that starts anew each round first has to find its first moment again, and scales its steps
by second moments that are not those of this text. Here both moments of the cohort are averaged like
the weights and start the next round's steps. As long as the loss is quadratic and the second
moments stand still, a round's mean is then that of synchronised steps with the whole cohort's
batch. Averaged moments: Iacob et al. 2025, DES-LOC, https://arxiv.org/abs/2505.22549; of the second
moments alone: FedAdamW, https://arxiv.org/abs/2510.27486.

Three times the traffic of FedAvg both ways. What is sent beside the delta are running means of
clipped gradients and of their squares, of which the owner's bounds must treat all as they treat the
delta.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from federate.local import Weights
from federate.replies import Update
from federate.strategies.fedopt import Beta, DiLoCo
from federate.wire import Shapes, shapes_of

__all__ = ["LocalAdam"]

FIRST, SECOND = "first", "second"
"""AdamW's moments; they travel as `first/<tensor>` and `second/<tensor>`."""


class LocalAdam(DiLoCo):
    """FedAvg of weights and of both moments; an outer Nesterov momentum may be added.

    The first round starts from the base's public second moments, as every strategy's rounds do.
    """

    def __init__(
        self, weights: Weights, server_lr: float = 1.0, *, momentum: Beta = 0.0, cool: bool = False
    ) -> None:
        self.shared: Weights = {}
        super().__init__(weights, server_lr, momentum=momentum, cool=cool)

    def rule(self) -> dict[str, Any]:
        return {"name": "adam"}

    def extra(self) -> Weights:
        return self.shared

    def expected_extra(self) -> Shapes:
        shapes = shapes_of(self.weights)
        return {
            f"{kind}/{name}": shape for kind in (FIRST, SECOND) for name, shape in shapes.items()
        }

    def begin(self) -> None:
        super().begin()
        self._moments: dict[str, Any] = defaultdict(float)
        self._shares: dict[str, float] = defaultdict(float)

    def add(self, update: Update) -> None:
        super().add(update)
        for name, moment in update.extra.items():
            self._moments[name] += moment * np.float64(update.weight)
            self._shares[name] += update.weight

    def finish(self) -> float:
        for name, total in self._moments.items():
            self.shared[name] = (total / self._shares[name]).astype(np.float32)
        return super().finish()

    def state(self) -> Weights:
        return super().state() | {f"moment:{name}": value for name, value in self.shared.items()}

    def restore(self, state: Weights) -> None:
        super().restore(state)
        kept = {key.partition(":") for key in state}
        self.shared = {name: state[f"{kind}:{name}"] for kind, _, name in kept if kind == "moment"}
