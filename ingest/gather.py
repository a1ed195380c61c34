"""Stage 1: sources -> 1-web, a web archive and one line for every address that was considered."""

import hashlib
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
    text_sha256,
    write_atomic,
)
from commonroot.config import Section
from commonroot.errors import DataError
from commonroot.progress import say
from ingest.archive import Archive
from ingest.demo.site import DemoConfig, DemoSite
from ingest.sources import files
from ingest.sources.files import FilesConfig
from ingest.sources.web import WebConfig, crawl, read_seeds

__all__ = ["ACCESS_LOG", "ARCHIVE", "FETCHES", "FOLDER", "KIND", "TRUTH", "GatherConfig", "run"]

FOLDER, KIND = "1-web", "web"
ARCHIVE, FETCHES = "pages.warc.gz", "fetches.jsonl"
ACCESS_LOG, TRUTH = "access-log.jsonl", "truth.jsonl.gz"


class GatherConfig(Section):
    """Where public text comes from."""

    web: WebConfig = Field(default_factory=WebConfig)
    """The crawl."""
    files: FilesConfig = Field(default_factory=FilesConfig)
    """A folder of documents."""
    demo: DemoConfig = Field(default_factory=lambda: DemoConfig(enabled=False))
    """The built-in site; off unless it is switched on."""


class _Resolved(GatherConfig):
    """The config with what its paths led to, so that a changed file means a new run."""

    files_sha256: str = ""


def run(config: GatherConfig, run_dir: Path) -> Artifact:
    """Gather into `run_dir/1-web`. Raises DataError if there is nothing to gather from."""
    resolved = _resolve(config)
    return build_artifact(
        run_dir / FOLDER, KIND, [], resolved,
        lambda work: _gather(resolved, Path(config.files.folder or "."), work),
    )


def _resolve(config: GatherConfig) -> _Resolved:
    seeds = read_seeds(config.web)
    if not seeds and not config.demo.enabled and not config.files.folder:
        raise DataError(
            "nothing to gather: set gather.web.seeds, gather.web.seeds_file, gather.files.folder "
            "or gather.demo.enabled"
        )
    web = config.web.model_copy(update={"seeds": seeds, "seeds_file": None})
    digest = files.fingerprint(config.files)
    hidden = config.files.model_copy(update={"folder": "given" if config.files.folder else None})
    return _Resolved(web=web, files=hidden, demo=config.demo, files_sha256=digest)


def _gather(config: _Resolved, folder: Path, work: Workspace) -> dict[str, Any]:
    started = time.time()
    archive, frontier_dir = work.path / ARCHIVE, work.scratch("frontier")
    with _demo(config, work) as web:
        if web.seeds and not config.demo.enabled and not web.contact:
            say("gather.web.contact is empty: give an address at which site owners can reach you")
        with crawl(web, web.seeds, archive, frontier_dir) as frontier:
            lines, left = frontier.lines(), frontier.open_count()
            robots, length = frontier.robots_count(), frontier.counter("warc")
    with Archive(archive, length) as warc:
        lines += files.gather(config.files, folder, warc) if config.files.folder else ""
    write_atomic(work.path / FETCHES, lines)
    work.volatile(ARCHIVE, text_sha256(lines))
    metrics = _metrics(lines, left, robots)
    if not metrics["decisions"].get("kept"):
        raise DataError(f"no page could be gathered: {_why(lines)}")
    write_atomic(work.path / report.FRAGMENT, _report(metrics))
    work.note("gather_seconds", round(time.time() - started, 3))
    return metrics


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
        "not_fetched": left,
    }


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
