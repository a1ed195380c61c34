"""Hosts that turned the crawl away: they are asked for nothing more.

A proxy could come back under another name from another place. It does not: sessions and places are
for seeing more of the web, not for getting round a host that said no. Only pages count: many a
store of files says 403 of a sitemap or feed that it does not have.
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
        for url in frontier.decided("page", SAID_NO) if most else ():
            self._urls[urlsplit(url).netloc].add(url)

    def note(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what hosts answered."""
        for outcome in outcomes:
            url, kind = outcome.target[:2]
            if self._most and kind == "page" and outcome.decision in SAID_NO:
                self._urls[urlsplit(url).netloc].add(url)

    def refusal(self, target: Target) -> Outcome | None:
        """Why this target must not be fetched; None if it may."""
        said_no = self._urls.get(urlsplit(target.url).netloc, ())
        if not self._most or len(said_no) < self._most:
            return None
        return Outcome(target, "host-refused", f"after {min(said_no)}", asked=False)

    def summary(self) -> str:
        """Which hosts were left, in words; "" if none was."""
        ended = {host: min(urls) for host, urls in self._urls.items() if len(urls) >= self._most}
        if not ended:
            return ""
        said = f"{len(ended):,} host{'s' if len(ended) > 1 else ''} said no"
        return f"{said} (403 or 429; {min(ended.values())}) and got no further request: " + (
            "gather.web.refusals says how often is enough"
        )
