"""Flower's own strategies as ours: config `strategy = "flwr:FedMedian"`, `flwr:Krum`, ...

A wrapped strategy's `aggregate_train` is given what Flower would give it: one message a client with
its trained weights and metrics. Sampling, evaluation, validation of replies and checkpoints stay
with federate.rounds. It needs all replies at once: server memory is O(clients x model).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np

from commonroot.errors import ConfigError, RoundError
from federate.local import Weights
from federate.replies import Update
from federate.strategies.fedavg import FedAvg, Mean
from federate.wire import l2_norm

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, RecordDict

__all__ = ["PREFIX", "FlowerStrategy", "flower_options"]

PREFIX = "flwr:"
KEEPS: dict[str, tuple[str, ...]] = {
    "Bulyan": (),
    "FedAdagrad": ("m_t", "v_t"),
    "FedAdam": ("m_t", "v_t"),
    "FedAvg": (),
    "FedAvgM": ("momentum_vector",),
    "FedMedian": (),
    "FedProx": (),
    "FedTrimmedAvg": (),
    "FedYogi": ("m_t", "v_t"),
    "Krum": (),
    "MultiKrum": (),
    "QFedAvg": (),
}
"""The strategies that fit, each with the attributes that it carries from round to round. Those of
trees (FedXgb...) do not, nor the wrappers for differential privacy, whose noise has no seed."""


class FlowerStrategy(FedAvg):
    """One of Flower's strategies; `options` are its own keyword arguments (`flower_options`).

    Replies are handed over in the order of client names, so that arrival does not matter. A tensor
    that a client withholds stands there unchanged. `server_lr` scales the change that comes out.
    """

    def __init__(
        self, weights: Weights, server_lr: float = 1.0, *, name: str, **options: Any
    ) -> None:
        self.name = name
        self._flower = _class(name)(**options)
        # Flower's sampling is not used: with no share of nodes, `configure_train` asks for none.
        self._flower.fraction_train = 0.0
        self._rounds = 0
        super().__init__(weights, server_lr)

    def rule(self) -> dict[str, Any]:
        mu = getattr(self._flower, "proximal_mu", None)
        return {} if mu is None else {"name": "prox", "mu": float(mu)}

    def begin(self) -> None:
        self._replies: dict[str, _Reply] = {}

    def add(self, update: Update) -> None:
        # Kept in Flower's form at once, so that each reply is held only once.
        self._replies[update.client] = _reply(self.weights, update)

    def finish(self) -> float:
        """Apply what Flower makes of the replies; returns the L2 norm of the change."""
        new = self._aggregate()
        self._rounds += 1
        change: Mean = {
            name: np.subtract(value, self.weights[name], dtype=np.float64)
            for name, value in new.items()
        }
        if self.server_lr == 1.0:
            self.weights.update(new)
        else:
            self.step(change)
        return l2_norm(change)

    def state(self) -> Weights:
        """Flower's moments, and the rounds done, of which its bias corrections are made."""
        state: Weights = {"rounds:": np.array(self._rounds, np.float32)}
        for key in KEEPS[self.name]:
            moment = getattr(self._flower, key)
            if isinstance(moment, list):
                moment = dict(zip(self.weights, moment, strict=True))
            state |= {f"{key}:{name}": value for name, value in (moment or {}).items()}
        return state

    def restore(self, state: Weights) -> None:
        self._rounds = int(state["rounds:"].item())
        for key in KEEPS[self.name]:
            named = {n: state[f"{key}:{n}"] for n in self.weights if f"{key}:{n}" in state}
            moment = list(named.values()) if key == "momentum_vector" else named
            setattr(self._flower, key, moment or None)

    def _aggregate(self) -> Weights:
        from flwr.app import ConfigRecord
        from flwr.app.exception import AppExitException

        flower, number = self._flower, self._rounds + 1
        if hasattr(flower, "current_arrays"):
            # FedAvgM would go on from weights of its own, also after a rollback.
            flower.current_arrays = None
        flower.configure_train(number, _record(self.weights), ConfigRecord(), _NO_GRID)
        replies = [self._replies[client] for client in sorted(self._replies)]
        self._replies = {}
        try:
            with _quiet():
                arrays, _ = flower.aggregate_train(number, replies)
        except (AppExitException, ValueError) as error:
            raise RoundError(f"{PREFIX}{self.name} cannot aggregate: {error}") from None
        new = {name: array.numpy().astype(np.float32) for name, array in (arrays or {}).items()}
        for name, value in new.items():
            if not np.isfinite(value).all():
                raise RoundError(f"{PREFIX}{self.name}: {name} came out not finite")
        return new


def flower_options(name: str) -> dict[str, Parameter]:
    """The options of strategy `name` that the config may set: not those of Flower's sampling."""
    common = signature(_class("FedAvg")).parameters
    unfit = {*common, "selection_rule", "train_loss_key"}
    return {key: p for key, p in signature(_class(name)).parameters.items() if key not in unfit}


@cache
def _class(name: str) -> Any:
    if name not in KEEPS:
        raise ConfigError(f"no strategy {PREFIX}{name} that fits: {', '.join(sorted(KEEPS))}")
    from flwr.serverapp import strategy

    return getattr(strategy, name)


_NO_GRID: Any = None
"""`configure_train` does not look at it when it asks for no nodes."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Flower's warnings, but not the line that it logs about each round."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(frozen=True)
class _Reply:
    """What Flower's strategies read of a reply that came; a real Message needs a run to be in."""

    content: "RecordDict"

    def has_error(self) -> bool:
        return False


def _reply(weights: Weights, update: Update) -> _Reply:
    """The trained weights, the number of examples, the loss, as those strategies expect them."""
    from flwr.app import MetricRecord, RecordDict

    trained = {n: w + update.delta[n] if n in update.delta else w for n, w in weights.items()}
    metrics = MetricRecord({"num-examples": round(update.weight), "train_loss": update.loss})
    return _Reply(RecordDict({"arrays": _record(trained), "metrics": metrics}))


def _record(weights: Weights) -> "ArrayRecord":
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({name: Array(np.asarray(value)) for name, value in weights.items()})
