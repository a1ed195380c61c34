"""Toy clients behind a real pacer: no torch, no Flower, weights of four numbers."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from federate.local import LocalSteps
from federate.pacing.devices import Device, DeviceProfile, DevicesConfig, Load, adapted, devices_of
from federate.pacing.modes import PacingConfig, discount
from federate.pacing.pacer import Flight, Pacer

LOCAL = LocalSteps(steps=10, batch=1)
STEP_TOKENS = 100
MODES = {
    "synchronous": PacingConfig(timeout_s=15),
    "deadline, drop": PacingConfig(mode="deadline", timeout_s=15, deadline_s=4),
    "deadline, use": PacingConfig(mode="deadline", timeout_s=15, deadline_s=4, late="use"),
    "fedbuff": PacingConfig(mode="fedbuff", timeout_s=15, concurrency=12, buffer=6),
}


class Silo:
    """Moves the weights towards its own optimum, and keeps its last reply as a real silo does."""

    def __init__(self, seed: int) -> None:
        self.optimum = np.random.default_rng([7, seed]).normal(1.0, 0.1, 4)
        self.kept: tuple[int, np.ndarray] = (-1, np.zeros(4))
        self.trained = 0

    def answer(self, number: int, weights: np.ndarray, steps: int) -> np.ndarray:
        if number != self.kept[0]:
            assert number > self.kept[0], "the request is over: a real silo would refuse it"
            self.trained += 1
            # The silo has a state of its own, as SCAFFOLD's or a codec's residual is.
            wanted = self.optimum + 0.01 / self.trained
            self.kept = number, (wanted - weights) * (1 - 0.95**steps)
        return self.kept[1]


class PowerCut(Exception):
    pass


class Rounds:
    """A round loop around a pacer, and the courier that it gives it."""

    def __init__(
        self,
        pacing: PacingConfig,
        devices: dict[str, Device],
        silos: dict[str, Silo],
        cohort: int = 8,
        target_s: float = 0.0,
        step: int = 1,
        seed: int = 0,
    ) -> None:
        self.silos, self.target_s, self.step = silos, target_s, step
        self.pacing, self.weights = pacing, np.zeros(4)
        self.pacer: Pacer[np.ndarray] = Pacer(pacing, silos, cohort, seed, devices)
        self.records: list[dict[str, Any]] = []
        self.waiting: dict[str, Flight] = {}
        self.sent: dict[str, np.ndarray] = {}
        self.most_held = 0
        self.power = 10**9

    def steps(self, client: str) -> int:
        if not self.target_s:
            return LOCAL.steps
        full = Load(LOCAL.steps * STEP_TOKENS, 0, 0)
        return adapted(LOCAL, self.pacer.devices[client], self.target_s, full).steps

    def load(self, client: str) -> Load:
        return Load(self.steps(client) * STEP_TOKENS, 0, 0)

    def push(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.waiting[flight.client] = flight
            self.sent[flight.client] = self.weights.copy()

    def pull(self) -> Iterator[tuple[str, np.ndarray]]:
        """An engine with `step` workers."""
        for name in list(self.waiting)[: self.step]:
            flight = self.waiting.pop(name)
            reply = self.silos[name].answer(flight.number, self.sent[name], self.steps(name))
            self.power -= 1
            if not self.power:
                raise PowerCut
            yield name, reply

    def round(self) -> None:
        total, weight, came = np.zeros(4), 0.0, []
        for arrival in self.pacer.arrivals(self):
            self.most_held = max(self.most_held, len(self.pacer._replies))
            came.append((arrival.client, arrival.at, arrival.reply is not None, arrival.staleness))
            if arrival.reply is not None:
                factor = discount(arrival.staleness, self.pacing.staleness_exponent)
                factor *= self.steps(arrival.client)
                total, weight = total + factor * arrival.reply, weight + factor
                self.pacer.accept()
        if weight:
            self.weights = self.weights + total / weight
        self.pacer.close(bool(weight))
        asked = list(self.pacer.asked)
        self.records.append({"asked": asked, "came": came, "end": self.pacer.now})

    def run(self, rounds: int) -> "Rounds":
        while len(self.records) < rounds:
            self.round()
        return self

    def checkpoint(self) -> tuple[str, np.ndarray]:
        return json.dumps(self.pacer.state()), self.weights.copy()

    def resume(self, saved: tuple[str, np.ndarray], records: list[dict[str, Any]]) -> None:
        self.pacer.restore(json.loads(saved[0]))
        self.weights, self.records = saved[1].copy(), list(records)


def three(**dropout: float) -> dict[str, Device]:
    """a takes 1 s, b 2 s and c 10 s for 1,000 tokens."""
    speed = {"a": 1000.0, "b": 500.0, "c": 100.0}
    return {
        name: Device(name, DeviceProfile(tokens_per_s=rate, dropout=dropout.get(name, 0.0)))
        for name, rate in speed.items()
    }


def silos(names: Any) -> dict[str, Silo]:
    return {name: Silo(place) for place, name in enumerate(sorted(names))}


def spread(count: int = 40, dropout: float = 0.2) -> dict[str, Device]:
    """Ten-fold speed spread: 1, 3 and 10 s for the full request."""
    kinds = ((1000, 4), (333, 3), (100, 3))
    profiles = tuple(
        DeviceProfile(name=f"{rate}", tokens_per_s=rate, share=share, dropout=dropout)
        for rate, share in kinds
    )
    return devices_of([f"c{i:02d}" for i in range(count)], DevicesConfig(profiles=profiles, seed=3))
