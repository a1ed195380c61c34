"""The rules of each site: its robots.txt, fetched once, kept in the frontier and obeyed."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin

from ingest import optout, robots
from ingest.archive import Archive
from ingest.fetch import Fetcher, FetchFailed, Response
from ingest.links import canonical_url, origin
from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import REDIRECTS, Outcome

__all__ = ["SiteRules"]

ROBOTS_TYPES = ("text/plain", "text/html", "application/octet-stream", "")
MAX_REDIRECTS = 5
"""RFC 9309, 2.3.1.2."""

Answer = tuple[str, bytes, list[Response]]


class SiteRules:
    """robots.txt of every origin met so far. Read by many threads, changed by one."""

    def __init__(self, fetcher: Fetcher, frontier: Frontier) -> None:
        self._fetcher = fetcher
        self._frontier = frontier
        self._agent = fetcher.config.agent
        self._known: dict[str, tuple[str, robots.Robots]] = {}

    def learn(
        self, targets: Iterable[Target], warc: Archive, pool: ThreadPoolExecutor
    ) -> list[str]:
        """Have the rules for all these targets; returns the origins that were fetched just now.

        What was fetched is archived and part of the open transaction.
        """
        origins = sorted({origin(target.url) for target in targets} - self._known.keys())
        stored = {name: self._frontier.robots(name) for name in origins}
        missing = [name for name in origins if stored[name] is None]
        for name, answer in zip(missing, pool.map(self._fetch, missing), strict=True):
            verdict, body, responses = answer
            for response in responses:
                warc.add(response)
            self._frontier.set_robots(name, verdict, body)
            stored[name] = (verdict, body)
        for name, entry in stored.items():
            verdict, body = entry or ("unreachable", b"")
            found = verdict == "found"
            problem = body.decode() if verdict == "unreachable" else ""
            self._known[name] = (problem, robots.parse(body if found else b""))
        return missing

    def refusal(self, target: Target) -> Outcome | None:
        """Why this target must not be fetched; None if it may."""
        problem, rules = self._known[origin(target.url)]
        if problem:
            return Outcome(target, "robots-unreachable", problem, asked=False)
        if not rules.allows(self._agent, target.url):
            return Outcome(target, "robots", "disallowed", asked=False)
        delay = rules.crawl_delay(self._agent) or 0.0
        if delay > self._fetcher.config.max_crawl_delay_s:
            return Outcome(target, "robots", f"Crawl-delay of {delay:g} s", asked=False)
        if target.kind == "page":
            refused = optout.from_robots(rules, self._agent, target.url)
            if refused:
                return Outcome(target, "opt-out-robots", opt_out=refused, asked=False)
        return None

    def crawl_delay(self, url: str) -> float | None:
        """Seconds that the site asks us to keep between requests."""
        return self._known[origin(url)][1].crawl_delay(self._agent)

    def sitemaps(self, name: str, in_scope: Callable[[str], bool]) -> list[Target]:
        """Sitemaps that an origin's robots.txt names."""
        urls = [canonical_url(url, name + "/") for url in self._known[name][1].sitemaps]
        return [Target(url, "sitemap", 0, 0) for url in urls if url and in_scope(url)]

    def _fetch(self, name: str) -> Answer:
        """RFC 9309, 2.3.1: absent means all is allowed, out of reach means nothing is."""
        url, responses = name + "/robots.txt", list[Response]()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self._fetcher.get(url, ROBOTS_TYPES)
            except FetchFailed as error:
                return "unreachable", str(error).encode(), responses
            responses.append(response)
            if response.status in REDIRECTS and response.header("Location"):
                url = urljoin(url, response.header("Location"))
                continue
            if response.status == 200 and not response.withheld:
                return "found", response.body[: robots.MAX_BYTES], responses
            if response.status >= 500 or response.status == 429:
                said = f"{url} answered {response.status}: nothing is fetched from there"
                return "unreachable", said.encode(), responses
            return "absent", b"", responses
        return "absent", b"", responses
