"""What a crawl may still ask for: pages, bytes, minutes, pages of one host, of one pattern."""

import time
from collections import Counter
from typing import NamedTuple, Protocol

from ingest.links import host_of
from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import Outcome
from ingest.sources.rules import SiteRules
from ingest.sources.traps import Credits, circular, pattern_of

__all__ = ["Budget", "Limits", "Planned"]

NEUTRAL = ("redirect", "canonical-elsewhere")
"""Decisions that say nothing about what a pattern of addresses is worth."""
LISTS = {"feed": 20, "sitemap": 1_000}
"""Most of a kind from one host: some sites have a feed for the comments on every page."""


class Limits(Protocol):
    """What the config says."""

    @property
    def max_pages(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def max_minutes(self) -> float: ...
    @property
    def host_pages(self) -> int: ...
    @property
    def trap_pages(self) -> int: ...


class Planned(NamedTuple):
    """A target of a batch; `decided` is its outcome if it is not to be asked for."""

    target: Target
    decided: Outcome | None


class Budget:
    """What is left. Spent in the order of the targets, so that it is the same in every run."""

    def __init__(self, limits: Limits, frontier: Frontier, rules: SiteRules) -> None:
        self._limits = limits
        self._frontier = frontier
        self._rules = rules
        self._credits = Credits(frontier, limits.trap_pages)
        self._stop_at = time.monotonic() + 60.0 * limits.max_minutes
        self._counts = Counter(frontier.counters())
        self._changed: set[str] = set()

    def batch(self, window: list[Target]) -> tuple[list[Planned], list[Target]]:
        """(what is next, what is left for later: it must wait to see what the pages before it give,
        or there is no budget for it). Nothing is next if a budget is spent."""
        if time.monotonic() > self._stop_at or self._counts["bytes"] >= self._limits.max_bytes:
            return [], window
        promised: Counter[str] = Counter()
        batch: list[Planned] = []
        later = []
        for index, target in enumerate(window):
            decided = self._rules.refusal(target) or self._refusal(target, promised)
            if decided is None:
                pattern = pattern_of(target.url) if target.kind == "page" else None
                if pattern and promised[pattern] >= self._credits.left(pattern):
                    later.append(target)
                    continue
                if target.kind == "page" and self._spent("pages", promised, self._limits.max_pages):
                    return batch, later + window[index:]
                promised.update(filter(None, (_purse(target), _all(target), pattern)))
            batch.append(Planned(target, decided))
        return batch, later

    def spend(self, outcome: Outcome) -> None:
        """Note what a target cost."""
        target = outcome.target
        self._count("bytes", outcome.bytes)
        self._count("confirmed", bool(outcome.response and outcome.response.confirmed))
        if outcome.asked:
            for name in (_purse(target), _all(target)):
                self._count(name, 1)
            pattern = pattern_of(target.url) if target.kind == "page" else None
            if pattern and not outcome.decision.startswith(NEUTRAL):
                self._credits.spend(pattern, outcome.texts)

    def save(self) -> None:
        """Write it down (part of the frontier's open transaction)."""
        self._frontier.set_counters({name: self._counts[name] for name in sorted(self._changed)})
        self._changed.clear()

    def _refusal(self, target: Target, promised: Counter[str]) -> Outcome | None:
        """Why a target that its site allows is not asked for all the same."""
        most = LISTS.get(target.kind, self._limits.host_pages)
        full = self._spent(_purse(target), promised, most)
        if target.kind != "page":
            return Outcome(target, f"{target.kind}-limit", asked=False) if full else None
        if circular(target.url):
            return Outcome(target, "trap", "the path goes in circles", asked=False)
        pattern = pattern_of(target.url)
        if pattern and self._credits.left(pattern) <= 0:
            said = f"{pattern}: {self._limits.trap_pages} pages without new text"
            return Outcome(target, "trap", said, asked=False)
        return Outcome(target, "host-budget", asked=False) if full else None

    def _spent(self, name: str, promised: Counter[str], most: int) -> bool:
        return self._counts[name] + promised[name] >= most

    def _count(self, name: str, more: int) -> None:
        if more:
            self._counts[name] += more
            self._changed.add(name)


def _purse(target: Target) -> str:
    """What is counted of a host: its pages, its feeds, its sitemaps."""
    return f"{target.kind}s of {host_of(target.url)}"


def _all(target: Target) -> str:
    return f"{target.kind}s"
