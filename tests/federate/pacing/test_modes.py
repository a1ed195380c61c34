"""Each mode by hand: who arrives when, when a round ends, and how soon a target is reached."""

import numpy as np
import pytest
from pydantic import ValidationError

from federate.pacing.cohort import least_asked_first
from federate.pacing.devices import Device, DeviceProfile
from federate.pacing.modes import PacingConfig, discount
from tests.federate.pacing.toy_rounds import MODES, Rounds, silos, spread, three


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
