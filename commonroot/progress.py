"""Bars with time left on stderr, and metrics.jsonl.

A terminal gets a live bar; a log file gets one line every ten seconds.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commonroot.artifact import write_atomic

__all__ = ["Bar", "MetricsLog", "bar", "say"]

LINE_EVERY_S = 10.0


class Bar:
    """Progress of one piece of work; `total` in `unit`s, None if not known."""

    def __init__(self, total: int | None, what: str, unit: str, done: int = 0) -> None:
        self.total, self.what, self.unit = total, what, unit
        self.done = self._first = done
        self._fields: dict[str, Any] = {}
        self._live = sys.stderr.isatty()
        self._started = self._printed = time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self.done += n
        self._print(every=0.1 if self._live else LINE_EVERY_S)

    def start_at(self, done: int) -> None:
        """Go on, or back, to `done` units; the time left is reckoned from here."""
        self.done = self._first = done
        self._started = time.monotonic()

    def show(self, **fields: Any) -> None:
        """Stand these beside the bar: loss, bpb, tokens/s."""
        self._fields.update(fields)

    def finish(self) -> None:
        """Print the final state."""
        self._print(every=0.0)
        if self._live:
            print(file=sys.stderr)

    def _print(self, every: float) -> None:
        now = time.monotonic()
        if now - self._printed < every:
            return
        self._printed = now
        start, end = ("\r", "\x1b[K") if self._live else ("", "\n")
        print(f"{start}{self._line(now)}", end=end, file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        elapsed = now - self._started
        rate = (self.done - self._first) / elapsed if elapsed > 0 else 0.0
        parts = [f"{self.what}: {self.done:,}" + (f"/{self.total:,}" if self.total else "")]
        parts[0] += f" {self.unit}"
        if self.total and self._live:
            filled = int(20 * min(self.done / self.total, 1.0))
            parts.insert(0, "█" * filled + "·" * (20 - filled))
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"{_clock((self.total - self.done) / rate)} left")
        else:
            parts.append(_clock(elapsed))
        parts += [f"{key} {_short(value)}" for key, value in self._fields.items()]
        return " · ".join(parts)


@contextmanager
def bar(total: int | None, what: str, unit: str, done: int = 0) -> Iterator[Bar]:
    """Show progress while the block runs; `done` is where a resumed run starts."""
    shown = Bar(total, what, unit, done)
    try:
        yield shown
    finally:
        shown.finish()


class MetricsLog:
    """Append one JSON object a line; a resumed run first drops what lies past its checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **fields: Any) -> None:
        """Append one record."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")

    def keep(self, below: int, key: str) -> None:
        """Keep only whole records whose `key` is below `below`."""
        records = [record for record in self.read() if record.get(key, below) < below]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.path, lines)

    def read(self) -> list[dict[str, Any]]:
        """All whole records; a line cut by a kill is left out."""
        records = []
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records


def say(message: str) -> None:
    """One line to the person watching (stderr: stdout is for results)."""
    print(message, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _short(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
