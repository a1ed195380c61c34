"""Stage 1: sources -> 1-web, a web archive and one line for every address that was considered."""

import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from commonroot import report
from commonroot.artifact import (
    Artifact,
    Workspace,
    build_artifact,
    json_lines,
    load_artifact,
    text_sha256,
    write_atomic,
)
from commonroot.config import Section, parse_section
from commonroot.errors import DataError, FetchError
from commonroot.plugins import load_plugin
from commonroot.progress import say
from ingest.archive import Archive
from ingest.demo.site import DemoConfig, DemoSite
from ingest.sessions import ProxyConfig
from ingest.sources.brightdata import BrightDataConfig
from ingest.sources.crawl import crawl
from ingest.sources.files import FilesConfig
from ingest.sources.found import Source, gather
from ingest.sources.hub import HubConfig
from ingest.sources.warc import WarcConfig
from ingest.sources.web import WebConfig, read_seeds
from ingest.sources.wikipedia import WikipediaConfig

__all__ = ["ACCESS_LOG", "ARCHIVE", "FETCHES", "FOLDER", "KIND", "TRUTH", "GatherConfig", "run"]

FOLDER, KIND = "1-web", "web"
GROUP = "commonroot.sources"
ARCHIVE, FETCHES = "pages.warc.gz", "fetches.jsonl"
ACCESS_LOG, TRUTH = "access-log.jsonl", "truth.jsonl.gz"


class GatherConfig(Section):
    """Where public text comes from."""

    web: WebConfig = Field(default_factory=WebConfig)
    """The crawl."""
    files: FilesConfig = Field(default_factory=FilesConfig)
    """A folder of documents."""
    warc: WarcConfig = Field(default_factory=WarcConfig)
    """Web archives of other crawlers."""
    hub: HubConfig = Field(default_factory=HubConfig)
    """A text dataset."""
    wikipedia: WikipediaConfig = Field(default_factory=WikipediaConfig)
    """A dump of a wiki."""
    brightdata: BrightDataConfig = Field(default_factory=BrightDataConfig)
    """Web data from a provider."""
    more: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Tables [gather.more.NAME] of sources that other packages add (entry point group
    commonroot.sources)."""
    demo: DemoConfig = Field(default_factory=lambda: DemoConfig(enabled=False))
    """The built-in site; off unless it is switched on."""


class _Resolved(GatherConfig):
    """The config with what its paths led to, so that a changed file means a new run."""

    fingerprints: dict[str, str]
    """Source -> that of what it reads."""


def run(config: GatherConfig, run_dir: Path) -> Artifact:
    """Gather into `run_dir/1-web`. Raises DataError if there is nothing to gather from."""
    sources = _sources(config)
    resolved = _resolve(config, sources)
    earlier = _earlier(config.web.earlier, run_dir)
    return build_artifact(
        run_dir / FOLDER, KIND, [], resolved,
        lambda work: _gather(resolved, config.web.proxy, sources, work, earlier),
    )


def _earlier(named: str | None, run_dir: Path) -> Artifact | None:
    """The crawl in another run's folder. Raises ArtifactError or DataError if it is none."""
    if named is None:
        return None
    if Path(named).resolve() == run_dir.resolve():
        raise DataError("gather.web.earlier names this run itself: crawl into another --run folder")
    return load_artifact(Path(named) / FOLDER, KIND)


def _sources(config: GatherConfig) -> dict[str, Source]:
    """All but the crawl that the config wants, by name.

    Raises ConfigError for a table of a source that is not installed, or does not fit it.
    """
    own: dict[str, Source] = {
        "files": config.files,
        "warc": config.warc,
        "hub": config.hub,
        "wikipedia": config.wikipedia,
        "brightdata": config.brightdata,
    }
    other = {
        name: parse_section(load_plugin(GROUP, name), f"gather.more.{name}", {
            f"gather.more.{name}": table
        })
        for name, table in config.more.items()
    }
    return {name: source for name, source in (own | other).items() if source.wanted}


def _resolve(config: GatherConfig, sources: dict[str, Source]) -> _Resolved:
    seeds = read_seeds(config.web)
    if not seeds and not config.demo.enabled and not sources:
        raise DataError(
            "nothing to gather: set gather.web.seeds, gather.web.seeds_file, gather.files.folder, "
            "gather.warc.files, gather.hub.dataset, gather.wikipedia.dump or gather.demo.enabled"
        )
    proxy = config.web.proxy.without_account()
    # What is taken from an earlier crawl is what would have been fetched: it changes nothing here.
    web = config.web.model_copy(update={
        "seeds": seeds, "seeds_file": None, "proxy": proxy, "earlier": None
    })
    fingerprints = {name: source.fingerprint() for name, source in sources.items()}
    named = {name: s.without_paths() for name, s in sources.items() if name not in config.more}
    changed = {"web": web, "fingerprints": fingerprints, **named}
    kept = {name: getattr(config, name) for name in GatherConfig.model_fields}
    return _Resolved(**(kept | changed))


def _gather(
    config: _Resolved, proxy: ProxyConfig, sources: dict[str, Source], work: Workspace,
    earlier: Artifact | None,
) -> dict[str, Any]:
    started = time.time()
    archive, frontier_dir = work.path / ARCHIVE, work.scratch("frontier")
    with _demo(config, work) as plain:
        web = plain.model_copy(update={"proxy": proxy})
        if web.seeds and not config.demo.enabled and not web.contact:
            say("gather.web.contact is empty: give an address at which site owners can reach you")
        old = earlier.path / ARCHIVE if earlier else None
        with _room_for(frontier_dir), crawl(web, web.seeds, archive, frontier_dir, old) as frontier:
            if earlier:
                work.note("earlier", earlier.digest)
                work.note("confirmed", frontier.counter("confirmed"))
            lines, left = frontier.lines(), frontier.open_count()
            robots, length = frontier.robots_count(), frontier.counter("warc")
    with Archive(archive, length) as warc:
        for name, source in sources.items():
            lines += gather(source, config.web, work.scratch(f"source-{name}"), warc)
    write_atomic(work.path / FETCHES, lines)
    work.volatile(ARCHIVE, text_sha256(lines))
    metrics = _metrics(lines, left, robots)
    if not metrics["decisions"].get("kept"):
        raise DataError(f"no page could be gathered: {_why(lines)}")
    write_atomic(work.path / report.FRAGMENT, _report(metrics))
    work.note("gather_seconds", round(time.time() - started, 3))
    return metrics


@contextmanager
def _room_for(frontier_dir: Path) -> Iterator[None]:
    """SQLite says in its own words that a disk is full."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise FetchError(
            f"the crawl cannot be noted in {frontier_dir}: {error}; make room and start again, it "
            "goes on from there"
        ) from None


@contextmanager
def _demo(config: _Resolved, work: Workspace) -> Iterator[WebConfig]:
    if not config.demo.enabled:
        yield config.web
        return
    log = work.path / ACCESS_LOG
    with DemoSite(config.demo, log) as site:
        write_atomic(work.path / TRUTH, site.truth())
        yield config.web.model_copy(update={
            "seeds": config.web.seeds + site.seeds,
            "connect": {**config.web.connect, **site.connect},
        })
    work.volatile(ACCESS_LOG, hashlib.sha256(b"access log").hexdigest())


def _metrics(lines: str, left: int, robots: dict[str, int]) -> dict[str, Any]:
    records = list(json_lines(lines))
    refusals = [record["opt_out"] for record in records if record["opt_out"]]
    opted_out = [f"{refusal['signal']} ({refusal['where']})" for refusal in refusals]
    return {
        "addresses": len(records),
        "kept": sum(record["decision"] == "kept" for record in records),
        "bytes": sum(record["bytes"] for record in records),
        "decisions": dict(sorted(Counter(record["decision"] for record in records).items())),
        "opt_outs": dict(sorted(Counter(opted_out).items())),
        "robots": robots,
        "places": _places(records),
        "not_fetched": left,
    }


def _places(records: list[dict[str, Any]]) -> dict[str, int]:
    """Kept pages by the place from which they were seen."""
    kept = (record for record in records if record["decision"] == "kept" and record["place"])
    return dict(sorted(Counter(record["place"] for record in kept).items()))


def _report(metrics: dict[str, Any]) -> str:
    return report.section(
        "What was gathered",
        report.prose(
            f"{metrics['kept']:,} pages were kept of {metrics['addresses']:,} addresses considered "
            f"({metrics['bytes'] / 1e6:.1f} MB); {metrics['not_fetched']:,} more were known when "
            "the budget ended."
        ),
        report.table(("what became of an address", "addresses"), _ranked(metrics["decisions"])),
        report.details(
            "Pages that refuse to be trained on",
            report.table(("signal", "pages"), _ranked(metrics["opt_outs"])),
        ),
        *(
            [report.details(
                "From where pages were seen",
                report.table(("place", "pages"), _ranked(metrics["places"])),
            )]
            if metrics["places"] else []
        ),
    )


def _ranked(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _why(lines: str) -> str:
    """Counts of what happened instead, and the first case in full."""
    records = list(json_lines(lines))
    counts = Counter(record["decision"] for record in records)
    listed = ", ".join(f"{count} {name}" for name, count in _ranked(counts))
    first = next((record for record in records if record["detail"]), None)
    return f"{listed}" + (f"; first {first['url']}: {first['detail']}" if first else "")
