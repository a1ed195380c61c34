"""Hosts that turned the crawl away: they are asked for nothing more.

A proxy could come back under another name from another place. It does not: sessions and places are
for seeing more of the web, not for getting round a host that said no.
"""

from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import urlsplit

from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import Outcome

__all__ = ["Refusals"]

SAID_NO = ("http-403", "http-429", "proxy-refused")


class Refusals:
    """Counts them by host, those of an interrupted run among them; `most` ends it, 0 never does.

    A host that keeps a delay is worked off by one thread, which notes what it sees at once; the
    rest is noted after each batch. So what is fetched depends on no thread's luck.
    """

    def __init__(self, most: int, frontier: Frontier) -> None:
        self._most = most
        self._urls: dict[str, set[str]] = defaultdict(set)
        for url in frontier.decided(SAID_NO) if most else ():
            self._urls[urlsplit(url).netloc].add(url)

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what hosts answered."""
        for outcome in outcomes:
            if self._most and outcome.decision in SAID_NO:
                self._urls[urlsplit(outcome.target.url).netloc].add(outcome.target.url)

    def refusal(self, target: Target) -> Outcome | None:
        """Why this target must not be fetched; None if it may."""
        said_no = self._urls.get(urlsplit(target.url).netloc, ())
        if not self._most or len(said_no) < self._most:
            return None
        return Outcome(target, "host-refused", f"after {min(said_no)}", asked=False)
