"""Device profiles: arithmetic by hand, exact shares, draws that depend on the seed alone."""

import pytest
from pydantic import ValidationError

from federate.local import LocalSteps
from federate.pacing.devices import (
    Device,
    DeviceProfile,
    DevicesConfig,
    Load,
    adapted,
    adapted_rank,
    devices_of,
)

PHONE = DeviceProfile(name="phone", tokens_per_s=100, down_kb_s=50, up_kb_s=20, memory_mb=500)


def device(**changes: object) -> Device:
    return Device("a", PHONE.model_copy(update=changes))


def test_seconds_are_receiving_training_and_sending() -> None:
    load = Load(tokens=1_000, down_bytes=100_000, up_bytes=60_000)
    # 100,000 / 50,000 + 1,000 / 100 + 60,000 / 20,000
    assert device().seconds(load, 0) == 2 + 10 + 3
    assert device().transfer_s(load) == 5


def test_jitter_changes_the_speed_by_round_but_not_from_run_to_run() -> None:
    load = Load(1_000, 0, 0)
    shaky = [Device("a", PHONE, seed=1, jitter=0.3).seconds(load, n) for n in range(2_000)]
    again = [Device("a", PHONE, seed=1, jitter=0.3).seconds(load, n) for n in range(2_000)]
    assert shaky == again
    assert len(set(shaky)) == 2_000
    assert sorted(shaky)[1_000] == pytest.approx(10, rel=0.05)
    assert Device("b", PHONE, seed=1, jitter=0.3).seconds(load, 0) != shaky[0]
    assert Device("a", PHONE, seed=2, jitter=0.3).seconds(load, 0) != shaky[0]


def test_profiles_get_their_share_of_the_clients_whatever_the_order_of_names() -> None:
    slow, fast = DeviceProfile(name="slow", share=1), DeviceProfile(name="fast", share=3)
    names = [f"c{i}" for i in range(43)]
    config = DevicesConfig(profiles=(slow, fast), seed=5)
    given = devices_of(names, config)
    kinds = [one.profile.name for one in given.values()]
    assert (kinds.count("slow"), kinds.count("fast")) == (11, 32)
    assert devices_of(reversed(names), config) == given
    other = devices_of(names, config.model_copy(update={"seed": 6}))
    assert [one.profile.name for one in other.values()] != kinds
    assert devices_of(names, DevicesConfig()) == {}


def test_equal_shares_of_few_clients_leave_nobody_without_a_device() -> None:
    config = DevicesConfig(profiles=tuple(DeviceProfile(name=n) for n in "xyz"))
    given = devices_of(["a", "b", "c", "d"], config)
    assert sorted(one.profile.name for one in given.values()) == ["x", "x", "y", "z"]


def test_dropouts_and_availability_come_at_their_rate_and_independently() -> None:
    one = device(dropout=0.2, availability=0.7)
    gone = [one.drops_out(number) for number in range(4_000)]
    there = [one.is_available(number) for number in range(4_000)]
    assert gone == [one.drops_out(number) for number in range(4_000)]
    assert sum(gone) / 4_000 == pytest.approx(0.2, abs=0.02)
    assert sum(there) / 4_000 == pytest.approx(0.7, abs=0.02)
    both = sum(a and b for a, b in zip(gone, there, strict=True))
    assert both / 4_000 == pytest.approx(0.14, abs=0.02)
    assert not any(device().drops_out(n) for n in range(100))
    assert all(device().is_available(n) for n in range(100))


def test_a_slow_device_is_asked_for_the_steps_that_it_ends_in_time() -> None:
    local = LocalSteps(steps=10, batch=4, warmup=4)
    load = Load(tokens=10_000, down_bytes=100_000, up_bytes=60_000)  # 10 s a step, 5 s of transfer
    assert adapted(local, device(), 35, load) == LocalSteps(steps=3, batch=4, warmup=1)
    assert adapted(local, device(), 34.9, load).steps == 2
    assert adapted(local, device(), 1, load).steps == 1
    assert adapted(local, device(tokens_per_s=1e6), 35, load) == local
    fewer = adapted(local, device(), 35, load)
    assert device().seconds(Load(1_000 * fewer.steps, 100_000, 60_000), 0) <= 35


def test_a_small_device_gets_the_highest_rank_that_fits_and_sends_in_time() -> None:
    ladder = {r: Load(1_000, 10_000 * r, 10_000 * r, memory_mb=100 + 50 * r) for r in (2, 4, 8, 16)}
    # Rank 8 needs exactly 500 MB; it moves 80 kB each way: 1.6 s down, 4 s up.
    assert adapted_rank(ladder, device(), 100) == 8
    assert adapted_rank(ladder, device(memory_mb=499), 100) == 4
    assert adapted_rank(ladder, device(), 11.2) == 8
    assert adapted_rank(ladder, device(), 11) == 4
    assert adapted_rank(ladder, device(), 0.1) == 2, "slow is better than absent"
    assert adapted_rank(ladder, device(memory_mb=150), 100) is None


@pytest.mark.parametrize("bad", [{"dropout": 1}, {"availability": 0}, {"up_kb_s": 0}, {"x": 1}])
def test_impossible_profiles_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DeviceProfile(**bad)
