"""The crawler: seeds and sitemaps, scope and budget, one round of links after the other.

What it fetches is a function of the site and the config alone: a round is worked off in one fixed
order, budgets are spent in that order, and links count only when their whole round is done. So a
run that was killed and resumed ends with the same pages as one that was not.
"""

import resource
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from commonroot.errors import ConfigError
from commonroot.progress import Bar, bar, say
from ingest.archive import Archive
from ingest.fetch import HTML_TYPES, Fetcher, FetchFailed
from ingest.links import host_of
from ingest.proxy import ProxiedFetcher
from ingest.robots import matches, target_of
from ingest.sitemaps import LIST_TYPES, MAX_BYTES
from ingest.sources.budget import Budget, Planned
from ingest.sources.earlier import Earlier
from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import Bounds, Outcome, judge
from ingest.sources.refused import Refusals
from ingest.sources.rules import SiteRules
from ingest.sources.web import WebConfig

__all__ = ["crawl"]

BATCH = 64
FILES, FILES_A_THREAD = 256, 4
"""Open files: the process's own; two for a new connection, and the idle ones of others."""
Known = tuple[int, dict[str, str]] | None
"""Of a page that an earlier crawl holds: where, and the headers that ask whether it changed."""


def crawl(
    config: WebConfig, seeds: Sequence[str], archive: Path, scratch: Path,
    earlier: Path | None = None,
) -> Frontier:
    """Crawl into `archive` (WARC), keeping the frontier in `scratch`; returns it, finished.

    `earlier` is the archive of a crawl before. The caller closes the frontier. Its counter `warc`
    is the archive's length, `confirmed` the pages that were taken from `earlier`.
    """
    frontier = Frontier(scratch / "frontier.sqlite")
    crawler = Crawler(config, seeds, frontier, Earlier(earlier, frontier) if earlier else None)
    try:
        with Archive(archive, frontier.counter("warc")) as warc:
            crawler.run(warc)
    except BaseException:
        frontier.__exit__()
        raise
    finally:
        crawler.fetcher.close()
    for told in crawler.summaries():
        say(told)
    return frontier


class Crawler:
    """One crawl: scope, and the loop over rounds and batches."""

    def __init__(
        self, config: WebConfig, seeds: Sequence[str], frontier: Frontier,
        earlier: Earlier | None = None,
    ) -> None:
        self.config = config
        self.seeds = seeds
        self.frontier = frontier
        self.earlier = earlier
        self.fetcher = _client(config)
        self.rules = SiteRules(self.fetcher, frontier)
        self.budget = Budget(config, frontier, self.rules)
        self.refusals = Refusals(config.refusals, frontier)
        self.size = max(BATCH, config.threads)
        hosts = [host_of(seed) for seed in seeds] + list(config.hosts)
        self.scope = {_site(host) for host in hosts}
        self.bounds = Bounds(
            config.agent, config.max_depth, config.max_redirects, config.feeds, self._in_scope,
            self._on_site,
        )

    def run(self, warc: Archive) -> None:
        """Work off rounds until there is nothing left or a budget is spent."""
        if self.frontier.last_round() < 0:
            self.frontier.add((Target(seed, "page", 0, 0) for seed in self.seeds), 0)
            self.frontier.commit()
        with (
            ThreadPoolExecutor(self.config.threads) as pool,
            bar(None, "crawl", "pages", self.frontier.counter("pages")) as shown,
        ):
            round_ = 0
            while round_ <= self.frontier.last_round():
                if not self._run_round(round_, warc, pool, shown):
                    return
                round_ += 1

    def summaries(self) -> list[str]:
        """What is worth saying at the end, a line each."""
        lines = [self.refusals.summary()]
        if isinstance(self.fetcher, ProxiedFetcher):
            lines.append(self.fetcher.sessions.summary())
        return [line for line in lines if line]

    def _run_round(self, round_: int, warc: Archive, pool: ThreadPoolExecutor, shown: Bar) -> bool:
        """Work off one round; False if a budget ended before it."""
        pending = self.frontier.pending(round_)
        self.bounds = replace(self.bounds, settled=lambda url, depth: self.frontier.settled(
            url, round_ + 1, depth, 0
        ))
        while pending:
            if self._learn_rules(pending[:self.size], round_, warc, pool):
                pending = self.frontier.pending(round_)
                continue
            batch, later = self.budget.batch(pending[:self.size])
            if not batch:
                return False
            outcomes = self._visit_all(batch, pool)
            self._commit(outcomes, round_, warc)
            pending = later + pending[self.size:]
            shown.advance(sum(outcome.asked for outcome in outcomes))
            shown.show(round=round_, waiting=len(pending))
        return True

    def _learn_rules(
        self, batch: Iterable[Target], round_: int, warc: Archive, pool: ThreadPoolExecutor
    ) -> bool:
        """Have the rules of a batch's sites; True if their sitemaps came into this round."""
        new = self.rules.learn(batch, warc, pool)
        seeded = {_site(host_of(seed)) for seed in self.seeds if self.config.sitemaps}
        named = (
            self.rules.sitemaps(name, self._on_site) for name in new
            if _site(host_of(name)) in seeded
        )
        maps = [target for targets in named for target in targets]
        self.frontier.add(maps, round_)
        if new:
            self.frontier.set_counter("warc", warc.commit())
            self.frontier.commit()
        return bool(maps)

    def _visit_all(self, batch: list[Planned], pool: ThreadPoolExecutor) -> list[Outcome]:
        """Visit a batch, in its order; a host that keeps a delay is worked off by one thread."""
        done = [planned.decided for planned in batch]
        lanes: dict[object, list[tuple[int, Target, Known]]] = {}
        for index, (target, decided) in enumerate(batch):
            if decided is None:
                delay = self.fetcher.delay(target.url, self.rules.crawl_delay(target.url))
                known = self.earlier.asks(target.url) if self.earlier else None
                lane = lanes.setdefault(host_of(target.url) if delay else index, [])
                lane.append((index, target, known))
        waiting = deque(lanes.values())

        def work(_: int) -> None:
            while True:
                try:
                    lane = waiting.popleft()
                except IndexError:
                    return
                for index, target, known in lane:
                    done[index] = outcome = self._visit(target, known)
                    if len(lane) > 1:
                        self.refusals.note([outcome])

        for _ in pool.map(work, range(min(len(waiting), self.config.threads))):
            pass
        return [outcome for outcome in done if outcome is not None]

    def _visit(self, target: Target, known: Known) -> Outcome:
        refused = self.refusals.refusal(target)
        if refused is not None:
            return refused
        types = HTML_TYPES if target.kind == "page" and target.depth else (*HTML_TYPES, *LIST_TYPES)
        most = 0 if target.kind == "page" else MAX_BYTES
        offset, conditions = known or (0, {})
        try:
            response = self.fetcher.get(
                target.url, types, self.rules.crawl_delay(target.url), conditions.items(), most
            )
            if known and self.earlier and response.status == 304:
                response = self.earlier.confirmed(offset, response) or self.fetcher.get(
                    target.url, types, self.rules.crawl_delay(target.url)
                )
        except FetchFailed as error:
            return Outcome(target, error.reason, str(error))
        try:
            return judge(target, response, self.bounds)
        except Exception as error:  # whatever a parser raises, one page is lost and not the crawl
            lost = response.without_body("unreadable")
            return Outcome(target, "unreadable", type(error).__name__, lost)

    def _commit(self, outcomes: list[Outcome], round_: int, warc: Archive) -> None:
        self.refusals.note(outcomes)
        fates: dict[str, str] = {}
        for outcome in outcomes:
            self._settle(outcome, fates)
            fates[outcome.target.url] = outcome.decision
            if outcome.response is not None:
                warc.add(outcome.response)
            self.budget.spend(outcome)
        self.frontier.add((found for o in outcomes for found in o.found), round_ + 1)
        self.frontier.finish((outcome.target.url, outcome.record()) for outcome in outcomes)
        self.budget.save()
        self.frontier.set_counter("warc", warc.commit())
        self.frontier.commit()

    def _settle(self, outcome: Outcome, fates: Mapping[str, str]) -> None:
        """A page that belongs elsewhere is left to that address, unless that one came to nothing
        or points back. `fates`: decisions of this batch so far."""
        target = outcome.target
        if (
            outcome.canonical is None or outcome.decision != "kept"
            or target.hops >= self.config.max_redirects
        ):
            return
        fate = fates.get(outcome.canonical) or self.frontier.decision(outcome.canonical)
        if fate in (None, "", "kept"):
            outcome.withhold("canonical-elsewhere")
            outcome.detail = outcome.canonical
            outcome.found.append(Target(outcome.canonical, "page", target.depth, target.hops + 1))

    def _on_site(self, url: str) -> bool:
        return _site(host_of(url)) in self.scope

    def _in_scope(self, url: str) -> bool:
        if not self._on_site(url):
            return False
        if not self.config.paths and not self.config.skip_paths:
            return True
        target = target_of(url)
        wanted = not self.config.paths or any(matches(p, target) for p in self.config.paths)
        return wanted and not any(matches(p, target) for p in self.config.skip_paths)


def _client(config: WebConfig) -> Fetcher:
    """Raises ConfigError if so many requests need more open files than the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = FILES + FILES_A_THREAD * config.threads
    if hard != resource.RLIM_INFINITY and hard < need:
        raise ConfigError(
            f"gather.web.threads = {config.threads} needs {need} open files and the system allows "
            f"{hard}: ask for fewer, or raise the limit (ulimit -Hn)"
        )
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))
    if config.proxy.address:
        return ProxiedFetcher(config, config.threads, config.proxy)
    return Fetcher(config, config.threads)


@lru_cache(maxsize=65_536)
def _site(host: str) -> str:
    """Most sites send `example.org` to `www.example.org` or back: the two are one scope."""
    return host.lower().removeprefix("www.")
