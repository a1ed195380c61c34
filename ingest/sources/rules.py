"""The rules of each site: robots.txt and what it says about training in files beside it.

Fetched once, kept in the frontier and obeyed.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urljoin

from ingest import optout, reservations, robots
from ingest.archive import Archive
from ingest.fetch import Fetcher, FetchFailed, Response
from ingest.links import canonical_url, origin
from ingest.reservations import AI_TXT, TDMREP, Reservation, site_reservations
from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import REDIRECTS, Outcome

__all__ = ["SiteRules"]

ROBOTS_TYPES = ("text/plain", "text/html", "application/octet-stream", "")
MAX_REDIRECTS = 5
"""RFC 9309, 2.3.1.2."""
SITEMAP = "/sitemap.xml"
"""Where a sitemap lies that nobody names."""

FILE_BYTES = 1_000_000
FILE_TYPES = (
    "application/json", "application/xml", "application/rsl+xml", "text/xml", *ROBOTS_TYPES,
)


@dataclass
class _Answer:
    verdict: str
    """found, absent or unreachable."""
    body: bytes
    responses: list[Response]
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rules:
    problem: str
    robots: robots.Robots
    reserved: list[Reservation]


class SiteRules:
    """robots.txt of every origin met so far. Read by many threads, changed by one."""

    def __init__(self, fetcher: Fetcher, frontier: Frontier) -> None:
        self._fetcher = fetcher
        self._frontier = frontier
        self._agent = fetcher.config.agent
        self._known: dict[str, _Rules] = {}

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
            for response in answer.responses:
                warc.add(response)
            self._frontier.set_robots(name, answer.verdict, answer.body)
            self._frontier.set_reservations(name, answer.files)
            stored[name] = answer.verdict, answer.body
        for name, entry in stored.items():
            verdict, body = entry or ("unreachable", b"")
            problem = body.decode() if verdict == "unreachable" else ""
            rules = robots.parse(body if verdict == "found" else b"")
            reserved = site_reservations(self._frontier.reservations(name), self._agent)
            self._known[name] = _Rules(problem, rules, reserved)
        return missing

    def refusal(self, target: Target) -> Outcome | None:
        """Why this target must not be fetched; None if it may."""
        known = self._known[origin(target.url)]
        if known.problem:
            return Outcome(target, "robots-unreachable", known.problem, asked=False)
        rules = known.robots
        if not rules.allows(self._agent, target.url):
            return Outcome(target, "robots", "disallowed", asked=False)
        delay = rules.crawl_delay(self._agent) or 0.0
        if delay > self._fetcher.config.max_crawl_delay_s:
            return Outcome(target, "robots", f"Crawl-delay of {delay:g} s", asked=False)
        if target.kind == "page":
            refused = optout.from_robots(rules, self._agent, target.url)
            if refused:
                return Outcome(target, "opt-out-robots", opt_out=refused, asked=False)
            refused = reservations.refusal(known.reserved, target.url)
            if refused:
                return Outcome(target, "opt-out-site", opt_out=refused, asked=False)
        return None

    def crawl_delay(self, url: str) -> float | None:
        """Seconds that the site asks us to keep between requests."""
        return self._known[origin(url)].robots.crawl_delay(self._agent)

    def sitemaps(self, name: str, in_scope: Callable[[str], bool]) -> list[Target]:
        """Sitemaps that an origin's robots.txt names; of one that names none, where it may lie."""
        known = self._known[name]
        named = known.robots.sitemaps or (() if known.problem else (SITEMAP,))
        urls = [canonical_url(url, name + "/") for url in named]
        return [Target(url, "sitemap", 0, 0) for url in urls if url and in_scope(url)]

    def _fetch(self, name: str) -> _Answer:
        answer = self._robots(name)
        if answer.verdict != "unreachable":
            rules = robots.parse(answer.body if answer.verdict == "found" else b"")
            places = {path: name + path for path in (TDMREP, AI_TXT)}
            places |= {url: url for url in rules.licences}
            for key, place in places.items():
                body = self._file(place, rules, answer.responses)
                if body is not None:
                    answer.files[key] = body
                elif key == place:
                    answer.files[key] = b""  # a licence that is named and not there
        return answer

    def _file(
        self, place: str, rules: robots.Robots, responses: list[Response]
    ) -> bytes | None:
        """A file beside robots.txt, None if there is none; it is archived if there is."""
        delay = rules.crawl_delay(self._agent) or 0.0
        left_alone = delay > self._fetcher.config.max_crawl_delay_s
        if left_alone or not rules.allows(self._agent, place):
            return None
        try:
            response = self._fetcher.get(place, FILE_TYPES, delay, most_bytes=FILE_BYTES)
        except FetchFailed:
            return None
        if response.status != 200 or response.withheld:
            return None
        responses.append(response)
        return response.body

    def _robots(self, name: str) -> _Answer:
        """RFC 9309, 2.3.1: absent means all is allowed, out of reach means nothing is."""
        url, responses = name + "/robots.txt", list[Response]()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self._fetcher.get(url, ROBOTS_TYPES)
            except FetchFailed as error:
                return _Answer("unreachable", str(error).encode(), responses)
            responses.append(response)
            if response.status in REDIRECTS and response.header("Location"):
                url = urljoin(url, response.header("Location"))
                continue
            if response.status == 200 and not response.withheld:
                return _Answer("found", response.body[: robots.MAX_BYTES], responses)
            if response.status >= 500 or response.status == 429:
                said = f"{url} answered {response.status}: nothing is fetched from there"
                return _Answer("unreachable", said.encode(), responses)
            return _Answer("absent", b"", responses)
        return _Answer("absent", b"", responses)
