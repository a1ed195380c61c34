"""How fast a host is asked: as it was told, never faster than it answers, slower when it is busy.

A host that takes three seconds for an answer gets no request sooner than three seconds after the
last one; one that says 429 or 503 is left alone for twice as long each time, and the pause shrinks
with every good answer.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["BUSY", "Pace"]

BUSY = (429, 503)
LONGEST_S = 120.0
SHRINKS = 0.7
"""A pause after a good answer, of what it was."""
RECENT = 0.5
"""Share of the last answer in a host's latency."""


@dataclass
class _Host:
    next_at: float = 0.0
    latency_s: float = 0.0
    pause_s: float = 0.0
    kept_s: float = 0.0


@dataclass
class Pace:
    """The turns of all hosts; safe to use from several threads."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _hosts: dict[str, _Host] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, host: str, delay_s: float) -> None:
        """Sleep until it is this caller's turn. Without a delay only a busy host is waited for."""
        with self._lock:
            known = self._hosts.setdefault(host, _Host())
            kept = max(delay_s, known.pause_s, known.latency_s if delay_s else 0.0)
            known.kept_s = kept
            now = self.clock()
            start = max(now, known.next_at)
            known.next_at = start + kept
        if start > now:
            self.sleep(start - now)

    def sent(self, host: str, at: float) -> None:
        """A request went out then, perhaps long after its turn: the next one is that much later."""
        known = self._hosts.get(host)
        if known is not None and known.kept_s:
            with self._lock:
                known.next_at = max(known.next_at, at + known.kept_s)

    def note(self, host: str, seconds: float, status: int) -> None:
        """An answer took so long; with a busy status the next turn moves back."""
        with self._lock:
            known = self._hosts.setdefault(host, _Host())
            known.latency_s += RECENT * (seconds - known.latency_s)
            if status in BUSY:
                known.pause_s = min(LONGEST_S, max(1.0, 2 * known.pause_s, known.latency_s))
                known.next_at = max(known.next_at, self.clock() + known.pause_s)
            else:
                known.pause_s = SHRINKS * known.pause_s if known.pause_s > 0.1 else 0.0

    def pause(self, host: str) -> float:
        """Seconds that a busy host is being left alone between two requests."""
        return self._hosts[host].pause_s if host in self._hosts else 0.0
