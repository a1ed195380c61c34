"""The crawler: seeds and sitemaps, scope and budget, one round of links after the other.

What it fetches is a function of the site and the config alone: a round is worked off in one fixed
order, budgets are spent in that order, and links count only when their whole round is done. So a
run that was killed and resumed ends with the same pages as one that was not.
"""

import resource
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from commonroot.errors import ConfigError, DataError
from commonroot.progress import Bar, bar, say
from ingest.archive import Archive
from ingest.fetch import HTML_TYPES, XML_TYPES, FetchConfig, Fetcher, FetchFailed
from ingest.links import canonical_url, origin
from ingest.proxy import ProxiedFetcher
from ingest.sessions import ProxyConfig
from ingest.sources.frontier import Frontier, Target
from ingest.sources.outcome import Bounds, Outcome, judge
from ingest.sources.refused import Refusals
from ingest.sources.rules import SiteRules

__all__ = ["WebConfig", "crawl", "read_seeds"]

BATCH = 64
FILES, FILES_A_THREAD = 256, 4
"""Open files: the process's own; two for a new connection, and the idle ones of others."""


class WebConfig(FetchConfig):
    """The crawl. Without seeds there is none."""

    seeds: tuple[str, ...] = ()
    """Addresses to start from."""
    seeds_file: str | None = None
    """A text file with one address a line; `#` starts a comment."""
    hosts: tuple[str, ...] = ()
    """Further hosts in scope (`host` or `host:port`); those of the seeds are, www. or not."""
    sitemaps: bool = True
    """Start also from the sitemaps that the seeds' robots.txt names."""
    max_depth: int = Field(default=3, ge=0)
    """Links from a seed to the farthest page."""
    max_pages: int = Field(default=1_000, ge=1)
    """Requests for pages altogether (robots.txt and sitemaps are not counted)."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Bytes of bodies altogether after decompression; checked between batches of 64, or
    of as many as `threads`."""
    max_minutes: float = Field(default=600.0, gt=0.0)
    """Wall time of one call; what is left then is not fetched."""
    max_redirects: int = Field(default=5, ge=0, le=20)
    """Redirects in a row."""
    threads: int = Field(default=8, ge=1)
    """Requests at once; to one host with a delay there is never more than one."""
    proxy: ProxyConfig = Field(default_factory=ProxyConfig)
    """The way out, if it is not the direct one."""


def read_seeds(config: WebConfig) -> tuple[str, ...]:
    """All seeds in canonical form. Raises DataError naming the file or line that is unusable."""
    lines = [(f"seed {seed!r}", seed) for seed in config.seeds]
    if config.seeds_file:
        path = Path(config.seeds_file)
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise DataError(f"cannot read the seeds file {path}: {why}") from None
        for number, line in enumerate(text.splitlines(), 1):
            address = line.partition(" #")[0].strip()
            if address and not address.startswith("#"):
                lines.append((f"{path} line {number}", address))
        if not lines:
            raise DataError(f"the seeds file {path} holds no address: write one URL a line")
    seeds = []
    for where, line in lines:
        url = canonical_url(line)
        if url is None:
            raise DataError(f"{where}: {line!r} is not an http(s) address")
        seeds.append(url)
    return tuple(sorted(set(seeds)))


def crawl(config: WebConfig, seeds: Sequence[str], archive: Path, scratch: Path) -> Frontier:
    """Crawl into `archive` (WARC), keeping the frontier in `scratch`; returns it, finished.

    The caller closes the frontier. Its counter `warc` is the archive's length.
    """
    frontier = Frontier(scratch / "frontier.sqlite")
    crawler = Crawler(config, seeds, frontier)
    try:
        with Archive(archive, frontier.counter("warc")) as warc:
            crawler.run(warc)
    except BaseException:
        frontier.__exit__()
        raise
    finally:
        crawler.fetcher.close()
    if isinstance(crawler.fetcher, ProxiedFetcher):
        say(crawler.fetcher.sessions.summary())
    return frontier


class Crawler:
    """One crawl: scope, budget and the loop over rounds and batches."""

    def __init__(self, config: WebConfig, seeds: Sequence[str], frontier: Frontier) -> None:
        self.config = config
        self.seeds = seeds
        self.frontier = frontier
        self.fetcher = _client(config)
        self.rules = SiteRules(self.fetcher, frontier)
        self.refusals = Refusals(config.proxy.refusals if config.proxy.address else 0, frontier)
        self.batch = max(BATCH, config.threads)
        hosts = [urlsplit(seed).netloc for seed in seeds] + list(config.hosts)
        self.scope = {_site(host) for host in hosts}
        self.bounds = Bounds(config.agent, config.max_depth, config.max_redirects, self._in_scope)
        self._stop_at = time.monotonic() + 60.0 * config.max_minutes

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

    def _run_round(self, round_: int, warc: Archive, pool: ThreadPoolExecutor, shown: Bar) -> bool:
        """Work off one round; False if a budget ended before it."""
        pending = self.frontier.pending(round_)
        while pending:
            if self._learn_rules(pending[:self.batch], round_, warc, pool):
                pending = self.frontier.pending(round_)
                continue
            batch = self._within_budget(pending[:self.batch])
            if not batch:
                return False
            outcomes = self._visit_all(batch, pool)
            self._commit(outcomes, round_, warc)
            pending = pending[len(batch):]
            shown.advance(sum(outcome.asked for outcome in outcomes))
            shown.show(round=round_, waiting=len(pending))
        return True

    def _learn_rules(
        self, batch: Iterable[Target], round_: int, warc: Archive, pool: ThreadPoolExecutor
    ) -> bool:
        """Have the rules of a batch's sites; True if their sitemaps came into this round."""
        new = self.rules.learn(batch, warc, pool)
        seeded = {origin(seed) for seed in self.seeds} if self.config.sitemaps else set()
        named = (self.rules.sitemaps(name, self._in_scope) for name in new if name in seeded)
        maps = [target for targets in named for target in targets]
        self.frontier.add(maps, round_)
        if new:
            self.frontier.set_counter("warc", warc.commit())
            self.frontier.commit()
        return bool(maps)

    def _within_budget(self, batch: list[Target]) -> list[Target]:
        if time.monotonic() > self._stop_at:
            return []
        if self.frontier.counter("bytes") >= self.config.max_bytes:
            return []
        left = self.config.max_pages - self.frontier.counter("pages")
        kept = []
        for target in batch:
            costs = target.kind == "page" and self.rules.refusal(target) is None
            if costs and left <= 0:
                break
            left -= costs
            kept.append(target)
        return kept

    def _visit_all(self, batch: list[Target], pool: ThreadPoolExecutor) -> list[Outcome]:
        """Visit a batch; a host that keeps a delay is worked off by one thread."""
        lanes: dict[object, list[int]] = {}
        for index, target in enumerate(batch):
            delay = self.fetcher.delay(target.url, self.rules.crawl_delay(target.url))
            lanes.setdefault(urlsplit(target.url).netloc if delay else index, []).append(index)

        def work(lane: list[int]) -> list[tuple[int, Outcome]]:
            visited = []
            for index in lane:
                visited.append((index, self._visit(batch[index])))
                if len(lane) > 1:
                    self.refusals.note([visited[-1][1]])
            return visited

        done = [pair for lane in pool.map(work, lanes.values()) for pair in lane]
        return [outcome for _, outcome in sorted(done, key=lambda pair: pair[0])]

    def _visit(self, target: Target) -> Outcome:
        refused = self.rules.refusal(target) or self.refusals.refusal(target)
        if refused is not None:
            return refused
        types = XML_TYPES if target.kind == "sitemap" else HTML_TYPES
        try:
            response = self.fetcher.get(target.url, types, self.rules.crawl_delay(target.url))
        except FetchFailed as error:
            return Outcome(target, error.reason, str(error))
        return judge(target, response, self.bounds)

    def _commit(self, outcomes: Sequence[Outcome], round_: int, warc: Archive) -> None:
        self.refusals.note(outcomes)
        pages, size = self.frontier.counter("pages"), self.frontier.counter("bytes")
        for outcome in outcomes:
            if outcome.response is not None:
                warc.add(outcome.response)
            pages += outcome.target.kind == "page" and outcome.asked
            size += outcome.bytes
            self.frontier.finish(outcome.target.url, outcome.record())
            self.frontier.add(outcome.found, round_ + 1)
        self.frontier.set_counter("pages", pages)
        self.frontier.set_counter("bytes", size)
        self.frontier.set_counter("warc", warc.commit())
        self.frontier.commit()

    def _in_scope(self, url: str) -> bool:
        return _site(urlsplit(url).netloc) in self.scope


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


def _site(host: str) -> str:
    """Most sites send `example.org` to `www.example.org` or back: the two are one scope."""
    return host.lower().removeprefix("www.")
