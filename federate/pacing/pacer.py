"""The event loop of a federated run: whom to ask now, and what arrives next.

In a round (one server update) it asks clients as long as the mode has room, hands over replies in
the order of arrival, and ends the round when enough were accepted, when its time is over, or when
nothing is under way that could count.

With devices the clock is virtual: what a request takes is known when it is sent, so replies are
computed at once, in any order and by any engine, and handed over in the order of their virtual
arrival. Without devices it is the real clock, and the order is that of the network.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from federate.pacing.cohort import least_asked_first
from federate.pacing.devices import Device, Load
from federate.pacing.modes import PacingConfig

__all__ = ["Arrival", "Courier", "Flight", "Pacer"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Flight:
    """A request under way."""

    client: str
    number: int
    """Round in which it was asked: the request's number towards the client."""
    version: int
    """Server updates done when it was asked."""
    asked_at: float
    lands_at: float
    """When it is answered or given up; on the real clock, when it is given up."""
    lost: bool = False
    """Virtual clock: the device drops out or is too slow; the request is not even sent."""


@dataclass(frozen=True)
class Arrival(Generic[R]):
    """A reply, or the certainty that none counts any more."""

    client: str
    reply: R | None
    """None: it never came, or it came after its round and stale ones are not taken."""
    number: int
    """Round in which the client was asked."""
    staleness: int
    """Server updates since then."""
    asked_at: float
    at: float
    """Seconds since the start of the run."""


class Courier(Protocol[R_co]):
    """What the pacer needs of the round loop; R is a reply in whatever form it has."""

    def load(self, client: str) -> Load:
        """What a request to this client costs; asked for on the virtual clock only."""

    def push(self, flights: list[Flight]) -> None:
        """Send these requests, in this order. After a resume a flight of an earlier round comes
        again: the same request under the same number, which its silo answers as it did then."""

    def pull(self) -> Iterable[tuple[str, R_co]]:
        """Replies that have come to each client's last request; waits a little if there are
        none."""


class Pacer(Generic[R]):
    """Drives the rounds of one run.

    A round: `for arrival in pacer.arrivals(courier)`, with `pacer.accept()` after each reply that
    counts, then `pacer.close(updated)`. Between rounds `state()` is all that a checkpoint needs. No
    reply is in it: each silo keeps its last one, so a resumed run pushes what was under way again,
    under the same number, and gets the same bytes. For this to hold, a client that was at work when
    a round began is not asked in that round.
    """

    def __init__(
        self,
        config: PacingConfig,
        names: Iterable[str],
        cohort: int,
        seed: int,
        devices: Mapping[str, Device] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.cohort, self.seed = config, cohort, seed
        self.devices = devices or {}
        self.now = 0.0
        """Seconds since the start of the run: virtual with devices, else real."""
        self.number = 0
        """Of this round."""
        self.version = 0
        """Server updates done."""
        self.asked: list[str] = []
        """Clients asked in this round."""
        self.accepted = 0
        """Replies accepted in this round."""
        self._times = dict.fromkeys(sorted(names), 0)
        self._flights: dict[str, Flight] = {}
        self._replies: dict[str, R] = {}
        self._awaited: set[str] = set()
        self._again: list[Flight] = []
        self._clock, self._began = clock, clock()

    def arrivals(self, courier: Courier[R]) -> Iterator[Arrival[R]]:
        """Ask, and yield what comes, until the round is over."""
        self.asked, self.accepted = [], 0
        again, self._again = self._again, []
        self._push(courier, again)
        limit, turns = self.now + self.config.round_s, self._turns(courier)
        while self.accepted < self.config.goal(self.cohort):
            room = self.config.room(self.cohort, len(self.asked), len(self._flights))
            self._ask(courier, list(islice(turns, room)))
            if not any(map(self._counts, self._flights.values())):
                break
            flight = self._next(courier, limit)
            if flight is None:
                break
            yield self._land(flight)
        self._settle(courier)

    def accept(self) -> None:
        """The reply that was handed over last counts."""
        self.accepted += 1

    def close(self, updated: bool) -> None:
        """End the round; `updated`: the global weights have changed."""
        self.number += 1
        self.version += updated

    def state(self) -> dict[str, Any]:
        """What a checkpoint between rounds must hold, as JSON."""
        return {
            "now": self.now,
            "number": self.number,
            "version": self.version,
            "times": dict(self._times),
            "flights": [asdict(flight) for flight in self._flights.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave. A client that is new counts as asked as often as the one
        that was asked least; one that is gone is forgotten."""
        self.now, self.number, self.version = state["now"], state["number"], state["version"]
        self._began = self._clock() - self.now
        least = min(state["times"].values(), default=0)
        self._times = {name: state["times"].get(name, least) for name in self._times}
        flights = [Flight(**plain) for plain in state["flights"]]
        self._flights = {f.client: f for f in flights if f.client in self._times}
        self._again = list(self._flights.values()) if self.config.takes_stale else []

    def _turns(self, courier: Courier[R]) -> Iterator[str]:
        """Who may be asked in this round, in order."""
        idle = [name for name in self._times if name not in self._flights]
        ordered = least_asked_first(idle, self._times, self.seed)
        return (name for name in ordered if self._can_be_asked(name, courier))

    def _can_be_asked(self, name: str, courier: Courier[R]) -> bool:
        device = self.devices.get(name)
        return device is None or (
            device.is_available(self.number) and device.fits(courier.load(name))
        )

    def _ask(self, courier: Courier[R], names: list[str]) -> None:
        flights = [self._flight(courier, name) for name in names]
        self.asked += names
        self._times.update({name: self._times[name] + 1 for name in names})
        self._flights.update({flight.client: flight for flight in flights})
        # An engine that works in this order lets the pacer hand over at once and hold little.
        self._push(courier, sorted(flights, key=_landing))

    def _flight(self, courier: Courier[R], name: str) -> Flight:
        end, lost = self.now + self.config.patience_s, False
        if self.devices:
            device = self.devices[name]
            arrival = self.now + device.seconds(courier.load(name), self.number)
            lost = arrival > end or device.drops_out(self.number)
            end = end if lost else arrival
        return Flight(name, self.number, self.version, self.now, end, lost)

    def _push(self, courier: Courier[R], flights: list[Flight]) -> None:
        sent = [flight for flight in flights if not flight.lost]
        if sent:
            courier.push(sent)
        self._awaited.update(flight.client for flight in sent)

    def _pull(self, courier: Courier[R]) -> bool:
        """Take what has come; whether anything has."""
        come = dict(courier.pull())
        self._awaited -= come.keys()
        self._replies.update({n: reply for n, reply in come.items() if n in self._flights})
        return bool(come)

    def _counts(self, flight: Flight) -> bool:
        return flight.number == self.number or self.config.takes_stale

    def _next(self, courier: Courier[R], limit: float) -> Flight | None:
        """The flight that ends next, the clock being set to that moment; None: `limit` is first."""
        if not self.devices:
            return self._next_real(courier, limit)
        flight = min(self._flights.values(), key=_landing)
        self.now = min(limit, flight.lands_at)
        if flight.lands_at > limit:
            return None
        self._wait_for({flight.client}, courier)
        return flight

    def _next_real(self, courier: Courier[R], limit: float) -> Flight | None:
        while True:
            if not self._replies:
                self._pull(courier)
            self.now = self._clock() - self._began
            if self._replies:
                return self._flights[next(iter(self._replies))]
            flight = min(self._flights.values(), key=_landing)
            if flight.lands_at <= self.now:
                return flight
            if limit <= self.now:
                return None

    def _wait_for(self, clients: set[str], courier: Courier[R]) -> None:
        """On the virtual clock: until these replies are computed, or an engine has lost them."""
        quiet_since = self._clock()
        while clients & self._awaited:
            if self._pull(courier):
                quiet_since = self._clock()
            elif self._clock() - quiet_since > self.config.timeout_s:
                self._awaited -= clients

    def _land(self, flight: Flight) -> Arrival[R]:
        del self._flights[flight.client]
        reply = self._replies.pop(flight.client, None)
        return Arrival(
            flight.client,
            reply if self._counts(flight) else None,
            flight.number,
            self.version - flight.version,
            flight.asked_at,
            self.now,
        )

    def _settle(self, courier: Courier[R]) -> None:
        """On the virtual clock every silo holds its reply before a checkpoint is written."""
        if not self.devices:
            return
        self._wait_for(set(self._awaited), courier)
        if not self.config.takes_stale:
            self._replies.clear()


def _landing(flight: Flight) -> tuple[float, str]:
    return flight.lands_at, flight.client
