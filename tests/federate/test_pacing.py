"""Pacing on toy clients: who arrives when, by hand; resume; fairness; time to a target."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from federate.pacing.cohort import least_asked_first
from federate.pacing.devices import Device, DeviceProfile, Load
from federate.pacing.modes import PacingConfig, discount
from federate.pacing.pacer import Flight, Pacer
from tests.federate.toy_rounds import PowerCut, Rounds, Silo, silos, spread, three

MODES = {
    "synchronous": PacingConfig(timeout_s=15),
    "deadline, drop": PacingConfig(mode="deadline", timeout_s=15, deadline_s=4),
    "deadline, use": PacingConfig(mode="deadline", timeout_s=15, deadline_s=4, late="use"),
    "fedbuff": PacingConfig(mode="fedbuff", timeout_s=15, concurrency=12, buffer=6),
}


def test_a_synchronous_round_lasts_as_long_as_its_slowest_client() -> None:
    rounds = Rounds(PacingConfig(), three(), silos("abc"), cohort=3).run(2)
    assert rounds.records[0]["came"] == [("a", 1, True, 0), ("b", 2, True, 0), ("c", 10, True, 0)]
    assert [r["end"] for r in rounds.records] == [10, 20]


def test_a_dropout_costs_a_synchronous_round_the_whole_time_out() -> None:
    devices = three(b=0.999999)
    rounds = Rounds(PacingConfig(timeout_s=60), devices, silos("abc"), cohort=3).run(1)
    assert rounds.records[0]["came"] == [("a", 1, True, 0), ("c", 10, True, 0), ("b", 60, False, 0)]
    assert rounds.silos["b"].trained == 0


def test_a_client_slower_than_the_time_out_is_given_up() -> None:
    rounds = Rounds(PacingConfig(timeout_s=9), three(), silos("abc"), cohort=3).run(1)
    assert rounds.records[0]["came"][-1] == ("c", 9, False, 0)


def test_a_deadline_round_takes_the_first_and_leaves_the_rest() -> None:
    pacing = PacingConfig(mode="deadline", deadline_s=8, over_selection=1.5)
    rounds = Rounds(pacing, three(), silos("abc"), cohort=2).run(2)
    first, second = rounds.records
    assert sorted(first["asked"]) == ["a", "b", "c"]
    assert first["came"] == [("a", 1, True, 0), ("b", 2, True, 0)]
    assert first["end"] == 2, "two of two have come"
    # c is at work until its deadline at 8 and is not asked; the others go on without it.
    assert sorted(second["asked"]) == ["a", "b"]
    assert second["came"] == [("a", 3, True, 0), ("b", 4, True, 0)]


def test_a_deadline_round_ends_with_what_has_come() -> None:
    pacing = PacingConfig(mode="deadline", deadline_s=8, over_selection=1.0)
    rounds = Rounds(pacing, three(), silos("abc"), cohort=3).run(1)
    assert rounds.records[0]["came"][-1] == ("c", 8, False, 0)
    assert rounds.records[0]["end"] == 8


def test_a_late_reply_joins_the_round_that_it_meets_with_its_age() -> None:
    pacing = PacingConfig(mode="deadline", deadline_s=8, over_selection=1.0, late="use")
    rounds = Rounds(pacing, three(), silos("abc"), cohort=3).run(2)
    first, second = rounds.records
    assert first["came"] == [("a", 1, True, 0), ("b", 2, True, 0)]
    assert first["end"] == 8
    # Asked at 0, c lands at 10, two seconds into the second round, one update old.
    assert second["came"] == [("a", 9, True, 0), ("b", 10, True, 0), ("c", 10, True, 1)]
    assert second["end"] == 10


def test_fedbuff_refills_a_slot_when_it_is_freed() -> None:
    names = {**three(), "d": Device("d", DeviceProfile(tokens_per_s=250))}  # d takes 4 s
    pacing = PacingConfig(mode="fedbuff", concurrency=2, buffer=2)
    rounds = Rounds(pacing, names, silos("abcd"))
    order = least_asked_first("abcd", dict.fromkeys("abcd", 0), 0)
    took = {"a": 1, "b": 2, "c": 10, "d": 4}
    rounds.run(1)
    arrivals = {name: float(took[name]) for name in order[:2]}
    first = min(arrivals, key=lambda name: (arrivals[name], name))
    arrivals[order[2]] = arrivals[first] + took[order[2]]
    expected = sorted((at, name) for name, at in arrivals.items())[:2]
    assert [(at, name) for name, at, *_ in rounds.records[0]["came"]] == expected
    assert rounds.records[0]["asked"] == order[:3]
    assert len(rounds.pacer.state()["flights"]) == 1


def test_fedbuff_counts_the_updates_that_a_client_missed() -> None:
    fast = {name: Device(name, DeviceProfile(tokens_per_s=1000)) for name in "defgh"}
    devices = {"c": three()["c"], **fast}
    pacing = PacingConfig(mode="fedbuff", concurrency=6, buffer=1)
    rounds = Rounds(pacing, devices, silos(devices)).run(60)
    slow = [row for r in rounds.records for row in r["came"] if row[0] == "c"]
    # While c works for 10 s the five others bring updates, one each.
    before = sum(1 for r in rounds.records for row in r["came"] if row[0] != "c" and row[1] < 10)
    assert slow[0][1] == 10
    assert slow[0][3] >= before > 20
    assert discount(0, 0.5) == 1
    assert discount(3, 0.5) == 0.5
    assert discount(3, 0.0) == 1


def test_refused_replies_do_not_fill_the_buffer_and_a_round_of_them_ends() -> None:
    pacing = PacingConfig(mode="fedbuff", concurrency=2, buffer=2)
    rounds = Rounds(pacing, three(), silos("abc"))
    seen = [arrival.client for arrival in rounds.pacer.arrivals(rounds)]
    assert sorted(seen) == ["a", "b", "c"]
    assert rounds.pacer.accepted == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [2, 50])
def test_the_number_of_workers_changes_nothing(mode: str, workers: int) -> None:
    one = Rounds(MODES[mode], spread(), silos(spread())).run(12)
    more = Rounds(MODES[mode], spread(), silos(spread()), step=workers).run(12)
    assert one.records == more.records
    assert one.weights.tobytes() == more.weights.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_run_resumes_to_the_same_bits_at_every_boundary_and_in_between(mode: str) -> None:
    whole = Rounds(MODES[mode], spread(), silos(spread())).run(14)
    for power in range(1, 90, 4):
        kept = silos(spread())
        cut = Rounds(MODES[mode], spread(), kept)
        cut.power, saved = power, cut.checkpoint()
        records: list[dict[str, Any]] = []
        try:
            while len(records) < 14:
                cut.round()
                saved, records = cut.checkpoint(), list(cut.records)
        except PowerCut:
            pass
        again = Rounds(MODES[mode], spread(), kept, step=3)
        again.resume(saved, records)
        again.run(14)
        assert again.records == whole.records
        assert again.weights.tobytes() == whole.weights.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_nobody_is_passed_over_and_nobody_is_asked_while_at_work(mode: str) -> None:
    rounds = Rounds(MODES[mode], spread(), silos(spread()))
    for _ in range(80):
        state = rounds.pacer.state()
        times, busy = state["times"], {flight["client"] for flight in state["flights"]}
        rounds.round()
        asked = rounds.records[-1]["asked"]
        waiting = times.keys() - busy - set(asked)
        assert len(set(asked)) == len(asked)
        assert not busy & set(asked)
        most = max(times[name] for name in asked)
        assert all(times[name] >= most for name in waiting)
    counts = rounds.pacer.state()["times"].values()
    assert min(counts) >= 4
    if mode == "synchronous":
        assert max(counts) - min(counts) <= 1


def test_the_order_is_drawn_anew_in_every_cycle() -> None:
    names = [f"c{i}" for i in range(20)]
    orders = [least_asked_first(names, dict.fromkeys(names, times), 0) for times in range(5)]
    assert len(set(map(tuple, orders))) == 5
    assert all(sorted(order) == sorted(names) for order in orders)
    assert least_asked_first(names, dict.fromkeys(names, 0), 1) != orders[0]


def test_slow_clients_take_part_only_when_adapted() -> None:
    devices = spread(dropout=0.0)
    slow = {name for name, one in devices.items() if one.profile.name == "100"}
    pacing = MODES["deadline, drop"]
    for target_s, expected in ((0.0, False), (3.9, True)):
        rounds = Rounds(pacing, devices, silos(devices), target_s=target_s).run(40)
        heard = {row[0] for r in rounds.records for row in r["came"] if row[2]}
        assert bool(heard & slow) is expected
        assert (slow <= heard) is expected
    assert rounds.steps(min(slow)) == 3


def test_who_is_away_is_not_asked_but_asked_first_when_back() -> None:
    kinds = DeviceProfile(tokens_per_s=1000, availability=0.4)
    devices = {name: Device(name, kinds) for name in map(str, range(30))}
    rounds = Rounds(PacingConfig(), devices, silos(devices), cohort=4).run(60)
    for number, record in enumerate(rounds.records):
        assert all(devices[name].is_available(number) for name in record["asked"])
    times = Counter(name for r in rounds.records for name in r["asked"])
    assert max(times.values()) - min(times.values()) <= 3


def test_a_device_without_the_memory_is_not_asked() -> None:
    devices = three()
    devices["b"] = Device("b", DeviceProfile(memory_mb=10))
    rounds = Rounds(PacingConfig(), devices, silos("abc"), cohort=3)
    rounds.load = lambda client: Load(1000, 0, 0, memory_mb=11)  # type: ignore[method-assign]
    assert sorted(rounds.run(1).records[0]["asked"]) == ["a", "c"]


def test_a_round_in_order_holds_one_reply_at_a_time() -> None:
    rounds = Rounds(MODES["synchronous"], spread(dropout=0.0), silos(spread()), cohort=30).run(3)
    assert rounds.most_held == 0
    buffered = Rounds(MODES["fedbuff"], spread(), silos(spread())).run(20)
    assert buffered.most_held < 12


def test_members_that_join_or_leave_before_a_resume() -> None:
    devices = spread(10, dropout=0.0)
    pacing = PacingConfig(mode="fedbuff", concurrency=3, buffer=2)
    rounds = Rounds(pacing, devices, silos(devices)).run(40)
    names = [*list(devices)[2:], "new"]
    profile = DeviceProfile(tokens_per_s=1000)
    changed = {name: Device(name, profile) for name in names}
    again = Rounds(pacing, changed, {n: rounds.silos.get(n, Silo(99)) for n in names})
    again.resume(rounds.checkpoint(), rounds.records)
    again.run(70)
    times = Counter(name for r in again.records[40:] for name in r["asked"])
    assert set(times) == set(names)
    assert times["new"] <= min(times.values()) + 3, "a newcomer is not asked to catch up"


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


def test_a_deadline_above_the_time_out_is_refused() -> None:
    with pytest.raises(ValidationError, match="lower it, or raise timeout_s"):
        PacingConfig(mode="deadline", deadline_s=10, timeout_s=5)


def time_to_target(pacing: PacingConfig, target_s: float = 0.0) -> tuple[float, float]:
    """Virtual seconds to a tenth of the first distance from the clients' mean; the mean distance
    of the last ten rounds within 300 virtual seconds."""
    devices = spread()
    rounds = Rounds(pacing, devices, silos(devices), target_s=target_s)
    best = np.mean([silo.optimum for silo in rounds.silos.values()], axis=0)
    path: list[tuple[float, float]] = []
    while rounds.pacer.now < 300:
        rounds.round()
        away = np.linalg.norm(rounds.weights - best) / np.linalg.norm(best)
        path.append((rounds.pacer.now, float(away)))
    reached = next(now for now, away in path if away < 0.1)
    return reached, float(np.mean([away for _, away in path[-10:]]))


def test_deadline_and_fedbuff_reach_the_target_three_times_sooner() -> None:
    waits, last = time_to_target(PacingConfig(timeout_s=15))
    buffered = PacingConfig(mode="fedbuff", timeout_s=15, concurrency=16, buffer=8)
    for pacing in (MODES["deadline, drop"], buffered):
        reached, end = time_to_target(pacing, target_s=3.5)
        assert waits / reached >= 3
        assert end == pytest.approx(last, abs=0.01), "sooner, and no worse in the end"
