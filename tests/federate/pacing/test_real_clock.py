"""The event loop without simulated devices: deadlines and late replies on a real clock."""

import json
from typing import Any

import pytest

from federate.pacing.devices import Load
from federate.pacing.modes import PacingConfig
from federate.pacing.pacer import Flight, Pacer
from tests.federate.pacing.toy_rounds import three


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Network:
    """Answers on a real clock: each pull lets half a second pass."""

    def __init__(self, clock: Clock, takes: dict[str, float]) -> None:
        self.clock, self.takes, self.due = clock, takes, dict[str, float]()

    def load(self, client: str) -> Load:
        raise AssertionError("there are no simulated devices")

    def push(self, flights: list[Flight]) -> None:
        self.due |= {f.client: self.clock() + self.takes[f.client] for f in flights}

    def pull(self) -> list[tuple[str, str]]:
        self.clock.now += 0.5
        come = sorted(name for name, at in self.due.items() if at <= self.clock())
        return [(name, f"reply of {name}") for name in come if self.due.pop(name)]


@pytest.mark.parametrize(
    ("pacing", "expected"),
    [
        (PacingConfig(timeout_s=6), [("a", 1, True), ("b", 2, True), ("c", 6, False)]),
        (PacingConfig(mode="deadline", deadline_s=4), [("a", 1, True), ("b", 2, True)]),
        (
            PacingConfig(mode="fedbuff", concurrency=3, buffer=2),
            [("a", 1, True), ("b", 2, True)],
        ),
    ],
)
def test_without_devices_the_same_modes_run_on_the_real_clock(pacing: Any, expected: Any) -> None:
    clock = Clock()
    network = Network(clock, {"a": 1.0, "b": 2.0, "c": 10.0})
    cohort = 2 if pacing.mode == "deadline" else 3
    pacer: Pacer[str] = Pacer(pacing, "abc", cohort, 0, clock=clock)
    seen = []
    for arrival in pacer.arrivals(network):
        seen.append((arrival.client, arrival.at, arrival.reply is not None))
        if arrival.reply is not None:
            assert arrival.reply == f"reply of {arrival.client}"
            pacer.accept()
    assert seen == expected


def test_on_the_real_clock_a_deadline_ends_a_round_and_a_void_one_ages_nobody() -> None:
    clock = Clock()
    network = Network(clock, {"a": 1.0, "b": 2.0, "c": 10.0})
    pacing = PacingConfig(mode="deadline", deadline_s=4, late="use")
    pacer: Pacer[str] = Pacer(pacing, "abc", 3, 0, clock=clock)
    rounds = []
    for updated in (False, True, True):  # the first is void
        rounds.append([(one.client, one.at, one.staleness) for one in pacer.arrivals(network)])
        pacer.close(updated)
    assert rounds == [
        [("a", 1, 0), ("b", 2, 0)],  # until 4
        [("a", 5, 0), ("b", 6, 0)],  # until 8
        [("a", 9, 0), ("b", 10, 0), ("c", 10, 1)],
    ]


def test_on_the_real_clock_a_late_reply_is_dropped_and_frees_its_client() -> None:
    clock = Clock()
    network = Network(clock, {"a": 1.0, "b": 2.0, "c": 3.0})
    pacing = PacingConfig(mode="deadline", deadline_s=4, over_selection=1.5)
    pacer: Pacer[str] = Pacer(pacing, "abc", 2, 0, clock=clock)
    seen: list[tuple[str, float, bool]] = []
    for _ in range(3):
        for arrival in pacer.arrivals(network):
            seen.append((arrival.client, arrival.at, arrival.reply is not None))
            if arrival.reply is not None:
                pacer.accept()
        pacer.close(True)
    assert seen[:4] == [("a", 1, True), ("b", 2, True), ("a", 3, True), ("c", 3, False)]
    assert seen[4:] == [("b", 4, True), ("a", 5, True), ("b", 6, True)]


def test_on_the_real_clock_a_stale_reply_and_the_time_of_day_survive_a_resume() -> None:
    clock = Clock()
    network = Network(clock, {"a": 1.0, "b": 2.0, "c": 10.0})
    pacing = PacingConfig(mode="fedbuff", concurrency=3, buffer=2)
    pacer: Pacer[str] = Pacer(pacing, "abc", 3, 0, clock=clock)
    for _ in pacer.arrivals(network):
        pacer.accept()
    pacer.close(True)
    state = json.loads(json.dumps(pacer.state()))
    assert [flight["client"] for flight in state["flights"]] == ["c"]
    clock.now += 1000  # the server was down
    again: Pacer[str] = Pacer(pacing, "abc", 3, 0, clock=clock)
    again.restore(state)
    assert again.now == 2
    network.due.clear()  # and its messages are gone; c has its answer ready
    network.takes["c"] = 0.5
    arrivals = iter(again.arrivals(network))
    first = next(arrivals)
    assert (first.client, first.number, first.staleness) == ("c", 0, 1)
    assert first.at == 2.5


def test_an_engine_that_loses_a_reply_does_not_hang_the_virtual_clock() -> None:
    clock = Clock()

    class Deaf(Network):
        def push(self, flights: list[Flight]) -> None:
            super().push([flight for flight in flights if flight.client != "a"])

    pacer: Pacer[str] = Pacer(PacingConfig(timeout_s=30), "abc", 3, 0, three(), clock)
    deaf = Deaf(clock, dict.fromkeys("abc", 0.5))
    deaf.load = lambda client: Load(1000, 0, 0)  # type: ignore[method-assign]
    came = {arrival.client: arrival.reply for arrival in pacer.arrivals(deaf)}
    assert came == {"a": None, "b": "reply of b", "c": "reply of c"}
