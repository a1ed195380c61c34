"""The devices that clients run on, as a model: how long a request takes, who is there, who fails.

With them a run has a virtual clock. Everything drawn is a pure function of (seed, client, round),
so that a run repeats to the bit whatever the machine that simulates it. What is heterogeneous
follows FedScale (Lai et al. 2022, https://arxiv.org/abs/2105.11367): compute, bandwidth up and
down, memory, availability, and devices that leave in the middle of a round.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from commonroot.config import Section
from federate.local import LocalSteps

__all__ = [
    "Device",
    "DeviceProfile",
    "DevicesConfig",
    "Load",
    "adapted",
    "adapted_rank",
    "devices_of",
]

TRANSFER_SHARE = 0.5
"""Of a device's time, what a lower LoRA rank may leave to sending; the rest is for training."""
AVAILABLE, DROPOUT, JITTER = range(3)
"""What is drawn, as the last word of a seed."""


class DeviceProfile(Section):
    """A kind of device."""

    name: str = "device"
    """What records and reports call it."""
    share: float = Field(1.0, gt=0)
    """Of the clients, relative to the shares of the other profiles."""
    tokens_per_s: float = Field(1000.0, gt=0)
    """Training speed."""
    memory_mb: float = Field(4096.0, gt=0)
    """For training, in units of 10^6 bytes; a request that needs more is not sent."""
    down_kb_s: float = Field(1000.0, gt=0)
    """From the server, in units of 1,000 bytes a second."""
    up_kb_s: float = Field(1000.0, gt=0)
    """To the server, in units of 1,000 bytes a second."""
    availability: float = Field(1.0, gt=0, le=1)
    """Chance that the client can be asked in a given round."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Chance that a client that was asked never answers."""


class DevicesConfig(Section):
    """[federate.devices]: simulated devices and the virtual clock that goes with them."""

    profiles: tuple[DeviceProfile, ...] = ()
    """Kinds of devices; none: no virtual clock, requests take the time that they take."""
    seed: int = Field(0, ge=0)
    """Of who has which device, of dropouts, availability and jitter."""
    jitter: float = Field(0.0, ge=0, le=2)
    """Standard deviation of the logarithm of a device's speed from round to round."""
    adapt: bool = False
    """Ask slow devices for fewer local steps, and small ones for a lower LoRA rank."""
    target_s: float = Field(60.0, gt=0)
    """Virtual seconds in which an adapted request ends; keep it below a deadline by the jitter."""


@dataclass(frozen=True)
class Load:
    """What one training request costs a device."""

    tokens: int
    """That it trains on, each as often as it is passed over."""
    down_bytes: int
    """That it receives."""
    up_bytes: int
    """That it is expected to send."""
    memory_mb: float = 0.0
    """That it needs while training, in units of 10^6 bytes."""


@dataclass(frozen=True)
class Device:
    """One client's device; `number` is the round in which it is asked."""

    client: str
    profile: DeviceProfile
    seed: int = 0
    jitter: float = 0.0

    def seconds(self, load: Load, number: int) -> float:
        """Virtual seconds from sending the request to the reply's arrival."""
        spread = math.exp(self.jitter * float(self._draw(number, JITTER).standard_normal()))
        return self.transfer_s(load) + load.tokens / self.profile.tokens_per_s * spread

    def transfer_s(self, load: Load) -> float:
        """The part of `seconds` that is spent on receiving and sending."""
        down = load.down_bytes / (1000 * self.profile.down_kb_s)
        return down + load.up_bytes / (1000 * self.profile.up_kb_s)

    def fits(self, load: Load) -> bool:
        """Whether its memory is enough."""
        return load.memory_mb <= self.profile.memory_mb

    def is_available(self, number: int) -> bool:
        """Whether it can be asked in this round."""
        return float(self._draw(number, AVAILABLE).random()) < self.profile.availability

    def drops_out(self, number: int) -> bool:
        """Whether it never answers when asked in this round."""
        return float(self._draw(number, DROPOUT).random()) < self.profile.dropout

    def _draw(self, number: int, what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self._key, number, what])

    @cached_property
    def _key(self) -> int:
        return int.from_bytes(hashlib.sha256(self.client.encode()).digest()[:8], "big")


def devices_of(names: Iterable[str], config: DevicesConfig) -> dict[str, Device]:
    """Client -> its device, in sorted order; {} without profiles.

    Each profile gets its share of the clients exactly, up to rounding to whole clients (largest
    remainder, earlier profiles first); who gets which is drawn with the seed.
    """
    clients = sorted(names)
    if not config.profiles or not clients:
        return {}
    kinds = [
        profile
        for profile, count in zip(config.profiles, _counts(config, len(clients)), strict=True)
        for _ in range(count)
    ]
    order = np.random.default_rng([config.seed, len(clients)]).permutation(len(clients))
    given = {clients[int(place)]: kind for place, kind in zip(order, kinds, strict=True)}
    return {name: Device(name, given[name], config.seed, config.jitter) for name in clients}


def _counts(config: DevicesConfig, clients: int) -> list[int]:
    whole = sum(profile.share for profile in config.profiles)
    exact = [clients * profile.share / whole for profile in config.profiles]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: clients - sum(counts)]:
        counts[i] += 1
    return counts


def adapted(local: LocalSteps, device: Device, target_s: float, load: Load) -> LocalSteps:
    """As many of the local steps as the device ends within `target_s` seconds, at least one.

    `load` is what all of `local` costs. The client's weight falls with its tokens, as it should;
    how few steps are worth asking for is the caller's choice of `target_s`.
    """
    step_s = load.tokens / local.steps / device.profile.tokens_per_s
    fitting = math.floor((target_s - device.transfer_s(load)) / step_s + 1e-9)
    steps = max(1, min(local.steps, fitting))
    warmup = round(local.warmup * steps / local.steps)
    return local.model_copy(update={"steps": steps, "warmup": warmup})


def adapted_rank(ladder: Mapping[int, Load], device: Device, target_s: float) -> int | None:
    """The highest LoRA rank of `ladder` (rank -> its load) that suits the device.

    It fits into the memory, and sending takes at most half of `target_s`. If none is that quick
    the lowest that fits into the memory; None if none does: the client cannot take part.
    """
    fitting = sorted(rank for rank, load in ladder.items() if device.fits(load))
    quick = [r for r in fitting if device.transfer_s(ladder[r]) <= TRANSFER_SHARE * target_s]
    return quick[-1] if quick else next(iter(fitting), None)
