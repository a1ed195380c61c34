"""Server optimizers: the mean delta is their (negative) gradient.

Momentum: Hsu et al. 2019, https://arxiv.org/abs/1909.06335. Adagrad, Adam, Yogi: Reddi et al. 2021,
Adaptive Federated Optimization, https://arxiv.org/abs/2003.00295, without bias correction, as
there. Outer Nesterov: Douillard et al. 2023, DiLoCo, https://arxiv.org/abs/2311.08105.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from federate.local import Weights
from federate.strategies.fedavg import FedAvg, Mean

__all__ = ["DiLoCo", "FedAdagrad", "FedAdam", "FedAvgM", "FedYogi", "ServerOptimizer"]

Beta = Annotated[float, Field(ge=0, lt=1)]
Tau = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ServerOptimizer(FedAvg, ABC):
    """FedAvg that moves by server_lr along a `direction` made of the mean deltas so far.

    Moments are fp32: what another order of arrival changes in the last bits of the fp64 sums is
    rounded away each round, in them as in the weights. A tensor that no client sent keeps both.
    """

    def __init__(self, weights: Weights, server_lr: float, **start: float) -> None:
        self.moments: dict[str, Weights] = {
            kind: {n: np.full(w.shape, value, np.float32) for n, w in weights.items()}
            for kind, value in start.items()
        }
        super().__init__(weights, server_lr)

    @abstractmethod
    def direction(self, name: str, delta: Any) -> Any:
        """Where tensor `name` goes, given its mean delta (fp64); updates its moments."""

    def update(self, kind: str, name: str, value: Any) -> Any:
        """Keep a moment; returns it as kept, so that a resumed run computes with the same bits."""
        self.moments[kind][name] = value.astype(np.float32)
        return self.moments[kind][name]

    def step(self, mean: Mean) -> None:
        super().step({name: self.direction(name, delta) for name, delta in mean.items()})

    def state(self) -> Weights:
        return {
            f"{kind}:{name}": value
            for kind, moment in self.moments.items()
            for name, value in moment.items()
        }

    def restore(self, state: Weights) -> None:
        self.moments = {
            kind: {name: state[f"{kind}:{name}"] for name in moment}
            for kind, moment in self.moments.items()
        }


class FedAvgM(ServerOptimizer):
    """SGD with momentum: v = momentum * v + mean delta.

    With `cool` the momentum falls with the clients' learning rate, so that the last rounds settle
    what the earlier ones overshot (docs/decisions.md).
    """

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 1.0,
        *,
        momentum: Beta = 0.9,
        cool: bool = False,
    ) -> None:
        super().__init__(weights, server_lr, momentum=0.0)
        self.momentum, self.cool = momentum, cool

    def beta(self) -> float:
        """The momentum of this round."""
        return self.momentum * self.heat if self.cool else self.momentum

    def direction(self, name: str, delta: Any) -> Any:
        return self.update("momentum", name, self.beta() * self.moments["momentum"][name] + delta)


class DiLoCo(FedAvgM):
    """SGD with Nesterov momentum outside, many AdamW steps inside; the paper's constants."""

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 0.7,
        *,
        momentum: Beta = 0.9,
        cool: bool = False,
    ) -> None:
        super().__init__(weights, server_lr, momentum=momentum, cool=cool)

    def direction(self, name: str, delta: Any) -> Any:
        return delta + self.beta() * super().direction(name, delta)


class _Adaptive(ServerOptimizer):
    """direction = m / (sqrt(v) + tau), m the running mean of deltas, v of their squares.

    server_lr is then about the distance that each weight travels in a round: 0.001 to 0.01 for a
    language model; 1 destroys it. tau bounds the division where deltas are small.
    """

    def __init__(
        self,
        weights: Weights,
        server_lr: float = 0.01,
        *,
        beta_1: Beta = 0.9,
        beta_2: Beta = 0.99,
        tau: Tau = 1e-3,
    ) -> None:
        super().__init__(weights, server_lr, mean=0.0, square=tau**2)
        self.beta_1, self.beta_2, self.tau = beta_1, beta_2, tau

    def direction(self, name: str, delta: Any) -> Any:
        mean, square = self.moments["mean"][name], self.moments["square"][name]
        mean = self.update("mean", name, self.beta_1 * mean + (1 - self.beta_1) * delta)
        square = self.update("square", name, self.grown(square.astype(np.float64), delta**2))
        return mean / (np.sqrt(square, dtype=np.float64) + self.tau)

    @abstractmethod
    def grown(self, square: Any, new: Any) -> Any:
        """The next v."""


class FedAdagrad(_Adaptive):
    """v sums the squares up."""

    def __init__(
        self, weights: Weights, server_lr: float = 0.01, *, beta_1: Beta = 0.0, tau: Tau = 1e-3
    ) -> None:
        super().__init__(weights, server_lr, beta_1=beta_1, tau=tau)

    def grown(self, square: Any, new: Any) -> Any:
        return square + new


class FedAdam(_Adaptive):
    """v is a running mean of the squares."""

    def grown(self, square: Any, new: Any) -> Any:
        return self.beta_2 * square + (1 - self.beta_2) * new


class FedYogi(FedAdam):
    """v moves by the size of the new square alone, so that it forgets slowly."""

    def grown(self, square: Any, new: Any) -> Any:
        return square - (1 - self.beta_2) * new * np.sign(square - new)
