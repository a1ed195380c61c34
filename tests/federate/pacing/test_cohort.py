"""Who is asked next: nobody is passed over, and only who is there, free and able."""

from collections import Counter

import pytest

from federate.pacing.cohort import least_asked_first
from federate.pacing.devices import Device, DeviceProfile, Load
from federate.pacing.modes import PacingConfig
from tests.federate.pacing.toy_rounds import MODES, Rounds, Silo, silos, spread, three


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
