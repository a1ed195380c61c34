"""The crawl frontier on disk: which URLs are known, which are done, what each one gave.

One SQLite transaction a batch. The archive's committed length stands in the same transaction, so
after a kill the two agree: what was not committed is cut off and fetched again, nothing is lost
and nothing is doubled.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ingest.links import host_key

__all__ = ["Frontier", "Target"]

REMEMBERED = 200_000
"""Addresses of which it is kept in memory that they are queued."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS targets (
  url TEXT PRIMARY KEY, kind TEXT NOT NULL, round INTEGER NOT NULL, depth INTEGER NOT NULL,
  hops INTEGER NOT NULL, record TEXT);
CREATE INDEX IF NOT EXISTS by_round ON targets (round);
CREATE TABLE IF NOT EXISTS robots (origin TEXT PRIMARY KEY, verdict TEXT NOT NULL, body BLOB);
CREATE TABLE IF NOT EXISTS reservations (origin TEXT PRIMARY KEY, files TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS patterns (pattern TEXT PRIMARY KEY, credit INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS texts (hash INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS earlier (
  url TEXT PRIMARY KEY, offset INTEGER NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL);
"""


class Target(NamedTuple):
    """A URL to be fetched: page, sitemap or feed, `depth` links and `hops` redirects away."""

    url: str
    kind: str
    depth: int
    hops: int


class Frontier:
    """Rounds of targets; round r + 1 holds what the pages of round r pointed to."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)
        self._queued: dict[str, tuple[int, int, int]] = {}
        """Of addresses queued lately: round, depth, hops. Most links were seen before."""

    def __enter__(self) -> "Frontier":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def counter(self, name: str) -> int:
        """A number that belongs to the committed state; 0 if never set."""
        row = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def set_counter(self, name: str, value: int) -> None:
        """Set a number (part of the open transaction)."""
        self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, value))

    def counters(self) -> dict[str, int]:
        """All numbers of the committed state."""
        return dict(self._db.execute("SELECT name, value FROM counters"))

    def set_counters(self, values: Mapping[str, int]) -> None:
        """Set numbers (part of the open transaction)."""
        self._db.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", values.items())

    def add(self, targets: Iterable[Target], round_: int) -> None:
        """Queue targets for a round; of two ways to a new one the shorter counts."""
        self._db.executemany(
            "INSERT INTO targets VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (url) DO UPDATE SET "
            "depth = min(depth, excluded.depth), hops = min(hops, excluded.hops) "
            "WHERE record IS NULL AND round = excluded.round",
            [
                (t.url, t.kind, round_, t.depth, t.hops)
                for t in targets if self._matters(t, round_)
            ],
        )

    def settled(self, url: str, round_: int, depth: int, hops: int) -> bool:
        """Is a target known as well or better already? (False is always right, also after a
        kill.) Changes nothing, so threads may ask."""
        known = self._queued.get(url)
        if known is None:
            return False
        first, least_depth, least_hops = known
        return first < round_ or (first == round_ and least_depth <= depth and least_hops <= hops)

    def _matters(self, target: Target, round_: int) -> bool:
        """Could the statement above change anything?"""
        if self.settled(target.url, round_, target.depth, target.hops):
            return False
        first, depth, hops = self._queued.get(target.url, (round_ + 1, target.depth, target.hops))
        if target.url not in self._queued or first == round_:
            if len(self._queued) >= REMEMBERED:
                self._queued.clear()
            least = min(depth, target.depth), min(hops, target.hops)
            self._queued[target.url] = (round_, *least)
        return True

    def finish(self, records: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Store what became of targets, by URL (part of the open transaction)."""
        self._db.executemany(
            "UPDATE targets SET record = ? WHERE url = ?",
            [(json.dumps(record, ensure_ascii=False), url) for url, record in records],
        )

    def commit(self) -> None:
        """Make all since the last commit permanent."""
        self._db.commit()

    def last_round(self) -> int:
        """The highest round that holds a target, -1 if there is none."""
        row = self._db.execute("SELECT max(round) FROM targets").fetchone()
        return -1 if row[0] is None else int(row[0])

    def pending(self, round_: int) -> list[Target]:
        """Open targets of a round: hosts take turns, each host's URLs in sorted order.

        The order is computed over the whole round, done or not, so that it is the same after a
        resume and a page budget always cuts at the same place.
        """
        rows = self._db.execute(
            "SELECT url, kind, depth, hops, record IS NULL FROM targets WHERE round = ? "
            "ORDER BY kind DESC, url", (round_,),
        )
        seen: dict[str, int] = defaultdict(int)
        ranked = []
        for url, kind, depth, hops, is_open in rows:
            host = host_key(url)
            seen[host] += 1
            ranked.append((seen[host], host, is_open, Target(url, kind, depth, hops)))
        ranked.sort(key=lambda entry: entry[:2])
        return [target for *_, is_open, target in ranked if is_open]

    def lines(self) -> str:
        """What became of every finished target: one JSON line each, sorted by URL."""
        rows = self._db.execute("SELECT record FROM targets WHERE record IS NOT NULL ORDER BY url")
        return "".join(f"{row[0]}\n" for row in rows)

    def decided(self, kind: str, decisions: Sequence[str]) -> list[str]:
        """Addresses of a kind of which one of these things became."""
        marks = ",".join("?" * len(decisions))
        query = (
            "SELECT url FROM targets WHERE kind = ? AND "
            f"json_extract(record, '$.decision') IN ({marks})"
        )
        return [str(row[0]) for row in self._db.execute(query, (kind, *decisions))]

    def decision(self, url: str) -> str | None:
        """What became of a URL; "" if it waits, None if it is not known."""
        row = self._db.execute("SELECT record FROM targets WHERE url = ?", (url,)).fetchone()
        return row and (json.loads(row[0])["decision"] if row[0] else "")

    def credits(self) -> dict[str, int]:
        """Stored credits of patterns of addresses."""
        return dict(self._db.execute("SELECT pattern, credit FROM patterns"))

    def set_credit(self, pattern: str, credit: int) -> None:
        """Store a pattern's credit (part of the open transaction)."""
        self._db.execute("INSERT OR REPLACE INTO patterns VALUES (?, ?)", (pattern, credit))

    def add_texts(self, hashes: Iterable[int]) -> int:
        """Note pieces of text (part of the open transaction); how many of them are new."""
        before = self._db.total_changes
        rows = ((number,) for number in hashes)
        self._db.executemany("INSERT OR IGNORE INTO texts VALUES (?)", rows)
        return self._db.total_changes - before

    def set_earlier(self, pages: Iterable[tuple[str, int, str, str]]) -> None:
        """Note (url, offset, ETag, Last-Modified) of an earlier archive."""
        self._db.executemany("INSERT OR REPLACE INTO earlier VALUES (?, ?, ?, ?)", pages)

    def earlier(self, url: str) -> tuple[int, str, str] | None:
        """(offset, ETag, Last-Modified) of a page of the earlier archive."""
        query = "SELECT offset, etag, modified FROM earlier WHERE url = ?"
        row = self._db.execute(query, (url,)).fetchone()
        return (int(row[0]), str(row[1]), str(row[2])) if row else None

    def open_count(self) -> int:
        """Targets that were found but never fetched."""
        row = self._db.execute("SELECT count(*) FROM targets WHERE record IS NULL").fetchone()
        return int(row[0])

    def robots(self, origin: str) -> tuple[str, bytes] | None:
        """Stored (verdict, robots.txt) of an origin."""
        query = "SELECT verdict, body FROM robots WHERE origin = ?"
        row = self._db.execute(query, (origin,)).fetchone()
        return (str(row[0]), bytes(row[1])) if row else None

    def set_robots(self, origin: str, verdict: str, body: bytes) -> None:
        """Store an origin's robots.txt (part of the open transaction)."""
        self._db.execute("INSERT OR REPLACE INTO robots VALUES (?, ?, ?)", (origin, verdict, body))

    def reservations(self, origin: str) -> dict[str, bytes]:
        """Stored files, by name, in which an origin may refuse training."""
        query = "SELECT files FROM reservations WHERE origin = ?"
        row = self._db.execute(query, (origin,)).fetchone()
        files = json.loads(row[0]) if row else {}
        return {name: text.encode("latin-1") for name, text in files.items()}

    def set_reservations(self, origin: str, files: dict[str, bytes]) -> None:
        """Store those files (part of the open transaction)."""
        text = json.dumps({name: body.decode("latin-1") for name, body in files.items()})
        self._db.execute("INSERT OR REPLACE INTO reservations VALUES (?, ?)", (origin, text))

    def robots_count(self) -> dict[str, int]:
        """How many origins gave which verdict."""
        rows = self._db.execute("SELECT verdict, count(*) FROM robots GROUP BY verdict ORDER BY 1")
        return {str(verdict): int(count) for verdict, count in rows}
