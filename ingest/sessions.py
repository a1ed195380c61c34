"""Sessions of an outbound proxy: who asks for which host, how long, and who comes next.

Proxy providers read the user name: it says in which country to go out and under which session,
and the same session keeps its address. So a host gets one session and keeps it: to the host that
is one visitor from one place, at the pace of one. A session that is old, used up or broken is
replaced by a new one in the same place; sessions never change places to get an answer.
"""

import re
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from commonroot.config import Section
from ingest.places import Place, city_of, country_of, place_of

__all__ = ["ProxyConfig", "Session", "Sessions", "user_name"]

PART = re.compile(r"([^{}]*)\{(\w*)\}")
KNOWN = ("user", "country", "COUNTRY", "city", "session")


class ProxyConfig(Section):
    """An outbound proxy through which the crawl goes. Without an address there is none."""

    address: str = Field(default="", pattern=r"^(https?://[^\s/@:]+:\d{1,5})?$")
    """Such as http://gate.example.net:22225. The password comes from the environment
    (PROXY_PASSWORD), never from a config."""
    user: str = Field(default="", pattern=r"^[^\s:]*$")
    """Name of the account."""
    user_name: str = "{user}-country-{country}-city-{city}-session-{session}"
    """What the proxy is told as user name: {user}, {country} (us) or {COUNTRY} (US), {city},
    {session}. A part for which nothing is set drops out together with the text before it."""
    city_space: str = Field(default="", pattern=r"^[_+.-]?$")
    """Between the words of a city: nothing (newyork), or _ (new_york)."""
    places: tuple[Place, ...] = ()
    """Countries (ISO 3166-1) and cities, such as "DE" or "US/New York": each host is looked at from
    one of them, always the same. Empty: the provider chooses."""
    places_of: dict[str, Place] = Field(default_factory=dict)
    """`"example.org" = "FR"`, `"de" = "DE"`: from where a host, and all below it, is looked at."""
    sessions: int = Field(default=1_000, ge=1)
    """Sessions at once; a host beyond that takes the place of the one that waited longest."""
    session_minutes: float = Field(default=10.0, gt=0.0)
    """Age at which a session is replaced."""
    session_requests: int = Field(default=500, ge=1)
    """Requests after which a session is replaced."""
    look_up: bool = True
    """Look a host's name up here too and refuse private addresses; false where only the proxy can
    look up names."""
    ca_file: str = ""
    """PEM file of a further authority, for a proxy that opens TLS itself."""

    def without_account(self) -> "ProxyConfig":
        """What changes the crawl's result: places, not who pays for the way."""
        kept = {"places": self.places, "places_of": self.places_of}
        return ProxyConfig(**kept) if self.address else ProxyConfig()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [name for _, name in PART.findall(self.user_name)]
        rest = PART.sub("", self.user_name)
        unknown = [name for name in names if name not in KNOWN]
        if unknown or set("{}: ") & set(rest):
            raise ValueError(f"user_name {self.user_name!r} may hold {{{'}, {'.join(KNOWN)}}}")
        places = [*self.places, *self.places_of.values()]
        if places and not {"country", "COUNTRY"} & set(names):
            raise ValueError(f"places are set, and user_name {self.user_name!r} has no {{country}}")
        if any("/" in place for place in places) and "city" not in names:
            raise ValueError(f"cities are set, and user_name {self.user_name!r} has no {{city}}")
        return self


def user_name(config: ProxyConfig, place: str, session: str) -> str:
    """The template filled in; parts for which nothing is set drop out."""
    country = country_of(place)
    values = {
        "user": config.user, "country": country.lower(), "COUNTRY": country,
        "city": city_of(place, config.city_space), "session": session,
    }
    return PART.sub(lambda part: part[1] + values[part[2]] if values[part[2]] else "",
                    config.user_name)


@dataclass
class Session:
    """One visitor of one host."""

    host: str
    place: str
    user: str
    """Its whole user name at the proxy."""
    manager: Any
    """urllib3's connections that go out under this name."""
    opened: float
    requests: int = 0
    busy: int = 0
    """Requests that are under way."""


class Sessions:
    """All sessions of one crawl; safe to use from many threads.

    `connect` makes the connections of a user name. Memory is that of the live sessions, of which
    there are never more than the config says.
    """

    def __init__(
        self,
        config: ProxyConfig,
        connect: Callable[[str], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.replaced: Counter[str] = Counter()
        """Why sessions ended: age, requests, failure, room."""
        self._connect = connect
        self._clock = clock
        self._live: OrderedDict[str, Session] = OrderedDict()
        self._open = 0
        self._started = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, host: str) -> Iterator[Session]:
        """A host's session for one request; it is retired if an error comes out of the block."""
        session = self._take(host)
        try:
            yield session
        except BaseException:
            self.retire(session)
            raise
        finally:
            self._give_back(session)

    def place(self, host: str) -> str:
        """From where a host is looked at."""
        return place_of(host, self.config.places, self.config.places_of)

    def summary(self) -> str:
        """How many there were and why they ended, in words."""
        why = ", ".join(f"{why} {count:,}" for why, count in sorted(self.replaced.items()))
        return f"proxy: {self._started:,} sessions" + (f"; replaced for {why}" if why else "")

    def retire(self, session: Session, why: str = "failure") -> None:
        """Use it no more; requests that are under way may end."""
        with self._changed:
            self._end(session, why)

    def close(self) -> None:
        """Close what is idle, all of it once nothing is under way."""
        with self._changed:
            for session in list(self._live.values()):
                self._end(session, "")

    def _take(self, host: str) -> Session:
        with self._changed:
            while True:
                session = self._live.get(host)
                worn = self._worn(session) if session else ""
                if session and worn:
                    self._end(session, worn)
                elif session:
                    break
                elif self._open < self.config.sessions:
                    session = self._start(host)
                    break
                elif not self._make_room():
                    self._changed.wait()
            self._live.move_to_end(host)
            session.requests += 1
            session.busy += 1
            return session

    def _give_back(self, session: Session) -> None:
        with self._changed:
            session.busy -= 1
            self._close_if_over(session)

    def _start(self, host: str) -> Session:
        place = self.place(host)
        name = user_name(self.config, place, secrets.token_hex(6))
        self._open += 1
        self._started += 1
        session = Session(host, place, name, self._connect(name), self._clock())
        self._live[host] = session
        return session

    def _worn(self, session: Session) -> str:
        if self._clock() - session.opened >= 60.0 * self.config.session_minutes:
            return "age"
        return "requests" if session.requests >= self.config.session_requests else ""

    def _make_room(self) -> bool:
        idle = next((session for session in self._live.values() if not session.busy), None)
        if idle is not None:
            self._end(idle, "room")
        return idle is not None

    def _end(self, session: Session, why: str) -> None:
        if self._live.get(session.host) is session:
            del self._live[session.host]
            self.replaced.update([why] if why else [])
            self._close_if_over(session)

    def _close_if_over(self, session: Session) -> None:
        if not session.busy and self._live.get(session.host) is not session:
            session.manager.clear()
            self._open -= 1
        self._changed.notify_all()
