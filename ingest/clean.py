"""Stage 2: 1-web -> 2-corpus. Every page of the archive is kept, or dropped with a reason.

A run that was killed takes up what was examined already and ends with the same content digest.
"""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Iterator
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
from commonroot.errors import DataError
from commonroot.progress import bar
from commonroot.verify import source_lines
from ingest import gather
from ingest.archive import Damaged, Stored, read_archive
from ingest.card import card, licence_counts
from ingest.corpus import report_fragment, write_split
from ingest.datasheet import datasheet
from ingest.decontaminate import DecontaminateConfig, Evaluations
from ingest.dedup import exact_key, near_duplicate_groups
from ingest.examine import ExamineConfig, Finding, Job, examine
from ingest.isolate import Limits, Lost, run_isolated

__all__ = ["FOLDER", "KIND", "CleanConfig", "run"]

FOLDER, KIND = "2-corpus", "corpus"
REJECTS, DATASHEET = "rejects.jsonl", "DATASHEET.md"


class CleanConfig(ExamineConfig):
    """From web archive to corpus."""

    near_duplicates: float = Field(default=0.7, gt=0.0, le=1.0)
    """Estimated Jaccard similarity of 5-word shingles from which on two texts are one; 1 keeps all
    but equal ones."""
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    """Public evaluation sets that the corpus must not hold."""
    heldout: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the kept texts, chosen by their hash, that no training ever sees."""
    page_cpu_s: int = Field(default=10, ge=1)
    """CPU seconds that one page may cost before it is dropped."""
    page_memory_mb: int = Field(default=4096, ge=1024)
    """Address space, MB, of the process that reads pages."""
    workers: int = Field(default=2, ge=1, le=10_000)
    """Processes that read pages."""
    executor: str = Field(default="local", pattern="^(local|ray)$")
    """local: processes of this machine; ray: workers of a Ray cluster, with the same result."""
    ray_address: str = ""
    """Of a cluster that is running, such as auto or ray://host:10001; empty: one is started on
    this machine."""


def run(config: CleanConfig, run_dir: Path) -> Artifact:
    """Build `run_dir/2-corpus` from `run_dir/1-web`. Raises DataError if nothing is left."""
    web = load_artifact(run_dir / gather.FOLDER, gather.KIND)
    resolved = _resolve(config)
    return build_artifact(
        run_dir / FOLDER, KIND, [web], resolved, lambda work: _clean(config, web, work)
    )


class _Resolved(CleanConfig):
    """The config with what its paths led to, so that a changed file means a new corpus."""

    evaluations_sha256: str


ANYWHERE = {name: CleanConfig.model_fields[name].default for name in ("executor", "ray_address")}
"""Where pages are read changes nothing of the corpus."""


def _resolve(config: CleanConfig) -> CleanConfig:
    config = config.model_copy(update=ANYWHERE)
    if not config.decontaminate.files:
        return config
    names = tuple(Path(file).name for file in config.decontaminate.files)
    hidden = config.decontaminate.model_copy(update={"files": names})
    kept = {name: getattr(config, name) for name in CleanConfig.model_fields}
    digest = config.decontaminate.fingerprint()
    return _Resolved(**(kept | {"decontaminate": hidden}), evaluations_sha256=digest)


def _clean(config: CleanConfig, web: Artifact, work: Workspace) -> dict[str, Any]:
    started = time.time()
    findings = sorted(_examined(config, web, work), key=lambda finding: finding.url)
    _note_places(findings, web)
    _drop_duplicates(findings, config)
    _drop_contaminated(findings, config.decontaminate)
    kept = [finding for finding in findings if finding.reason is None]
    reasons = dict(sorted(Counter(f.reason for f in findings if f.reason).items()))
    if not kept:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise DataError(f"no text is left of {len(findings)} pages (dropped: {listed}): "
                        "loosen the rules under [clean]")
    heldout = _heldout(kept, config.heldout)
    splits = {
        "train": [f for f, out in zip(kept, heldout, strict=True) if not out],
        "heldout": [f for f, out in zip(kept, heldout, strict=True) if out],
    }
    for name, members in splits.items():
        file = write_split(work.path, name, members)
        work.volatile(file, text_sha256([[f.url, f.text, f.decisions] for f in members]))
    metrics = _metrics(findings, splits, reasons)
    metrics["sources_sha256"] = text_sha256(source_lines(work.path))
    metrics["truth"] = _truth(web, splits, findings)
    _write_rest(work, metrics, findings)
    _write_cards(work, config, metrics, web, kept)
    work.note("clean_seconds", round(time.time() - started, 3))
    return metrics


def _examined(config: CleanConfig, web: Artifact, work: Workspace) -> Iterator[Finding]:
    """A finding for every document of the archive, those of an interrupted run first."""
    journal = work.scratch("examined.jsonl")
    done = {finding.offset: finding for finding in _journal(journal)}
    yield from done.values()
    no_documents: list[Finding] = []

    def jobs() -> Iterator[Job]:
        for item in _documents(web):
            if isinstance(item, Finding):
                no_documents.append(item)
            elif item.offset not in done:
                yield _job(item, config)

    limits = Limits(config.page_cpu_s, config.page_memory_mb * 2**20)
    with (
        bar(web.metrics["kept"], "clean", "pages", len(done)) as shown,
        open(journal, "a", encoding="utf-8") as log,
    ):
        for job, result in _spread(config, jobs(), limits):
            finding = _lost(job, result) if isinstance(result, Lost) else result
            log.write(json.dumps(dataclasses.asdict(finding)) + "\n")
            log.flush()
            shown.advance()
            yield finding
    yield from no_documents


def _spread(
    config: CleanConfig, jobs: Iterator[Job], limits: Limits
) -> Iterator[tuple[Job, Finding | Lost]]:
    if config.executor == "local":
        return run_isolated(examine, jobs, limits, config.workers)
    from ingest.on_ray import run_on_ray

    return run_on_ray(examine, jobs, limits, config.workers, config.ray_address)


def _job(stored: Stored, config: CleanConfig) -> Job:
    rules = ExamineConfig(**{name: getattr(config, name) for name in ExamineConfig.model_fields})
    return Job(stored.url, stored.offset, stored.fetched_at, stored.headers, stored.body, rules)


def _lost(job: Job, lost: Lost) -> Finding:
    if lost.reason in ("ImportError", "ModuleNotFoundError"):
        raise DataError("a library that reads pages is missing: run `make setup`")
    return Finding(job.url, job.offset, job.fetched_at, f"unreadable-{lost.reason}")


def _journal(path: Path) -> Iterator[Finding]:
    """Findings of an interrupted run; a last line cut by the kill is cut off for good."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    path.write_bytes(whole)
    for line in whole.splitlines():
        yield Finding(**json.loads(line))


def _documents(web: Artifact) -> Iterator[Stored | Finding]:
    """The archive's documents; what is no page is left out, what cannot be read is a finding."""
    fetches = list(json_lines((web.path / gather.FETCHES).read_text("utf-8")))
    # Of several documents with one address the first was archived, so its decision counts.
    decisions = {record["url"]: record["decision"] for record in reversed(fetches)}
    for item in read_archive(web.path / gather.ARCHIVE):
        if isinstance(item, Damaged):
            yield Finding(f"damaged record {item.offset}", item.offset, "", "damaged-record")
            continue
        decision = decisions.get(item.url, "not-a-page")
        if decision in ("not-a-page", "sitemap"):
            continue
        if decision != "kept":
            detail = {"detail": decision}
            reason = "not-fetched" if decision.startswith(("http-", "redirect")) else decision
            yield Finding(item.url, item.offset, item.fetched_at, reason, decisions=detail)
        else:
            yield item


def _note_places(findings: list[Finding], web: Artifact) -> None:
    """From where a page was seen, if it was seen through a proxy."""
    fetches = json_lines((web.path / gather.FETCHES).read_text("utf-8"))
    places = {record["url"]: record["place"] for record in fetches if record.get("place")}
    for finding in findings:
        if finding.url in places:
            finding.decisions["place"] = places[finding.url]


def _drop_duplicates(findings: list[Finding], config: CleanConfig) -> None:
    """Of equal or nearly equal texts the one with the first URL stays."""
    first: dict[str, Finding] = {}
    for finding in findings:
        if finding.reason is None and "equal-texts" not in config.skip:
            twin = first.setdefault(exact_key(finding.text), finding)
            if twin is not finding:
                finding.reason = "exact-duplicate"
                finding.decisions["same_as"] = twin.url
    unique = [finding for finding in findings if finding.reason is None]
    if config.near_duplicates >= 1.0:
        return
    groups = near_duplicate_groups([finding.text for finding in unique], config.near_duplicates)
    for finding, group in zip(unique, groups, strict=True):
        if unique[group] is not finding:
            finding.reason = "near-duplicate"
            finding.decisions["same_as"] = unique[group].url


def _drop_contaminated(findings: list[Finding], config: DecontaminateConfig) -> None:
    evaluations = Evaluations.read(config)
    for finding in findings:
        shared, file = evaluations.shared(finding.text) if finding.reason is None else (0, "")
        if shared >= config.runs:
            finding.reason = "contaminated"
            finding.decisions |= {"evaluation": file, "shared_runs": shared}


def _heldout(kept: list[Finding], share: float) -> list[bool]:
    """Chosen by the text's hash; if chance takes none, the one nearest to it is taken."""
    ranks = [int(text_sha256(finding.text)[:12], 16) / 16**12 for finding in kept]
    chosen = [rank < share for rank in ranks]
    if not any(chosen) and len(kept) > 1:
        chosen[ranks.index(min(ranks))] = True
    return chosen


def _metrics(
    findings: list[Finding], splits: dict[str, list[Finding]], reasons: dict[str, int]
) -> dict[str, Any]:
    kept = splits["train"] + splits["heldout"]
    pii: Counter[str] = Counter()
    for finding in kept:
        pii.update(finding.pii)
    return {
        "pages": len(findings),
        "kept": len(kept),
        "train": len(splits["train"]),
        "heldout": len(splits["heldout"]),
        "bytes": sum(len(finding.text.encode()) for finding in kept),
        "train_bytes": sum(len(finding.text.encode()) for finding in splits["train"]),
        "dropped": reasons,
        "languages": dict(sorted(Counter(finding.language for finding in kept).items())),
        "pii": dict(sorted(pii.items())),
        "places": dict(sorted(Counter(f.decisions.get("place", "") for f in kept).items())),
        "licences": licence_counts(kept),
    }


def _truth(
    web: Artifact, splits: dict[str, list[Finding]], findings: list[Finding]
) -> dict[str, Any] | None:
    """Scores against the demo site's truth, if that is what was crawled. Changes nothing."""
    if not (web.path / gather.TRUTH).is_file():
        return None
    from ingest.demo.score import score

    kept = {f.url: f.text for members in splits.values() for f in members}
    twins = {f.url: f.decisions["same_as"] for f in findings if "same_as" in f.decisions}
    return score(web.path / gather.TRUTH, web.path / gather.ACCESS_LOG, kept, twins)


def _write_rest(work: Workspace, metrics: dict[str, Any], findings: list[Finding]) -> None:
    lines = (
        json.dumps({"url": f.url, "reason": f.reason, **f.decisions}, ensure_ascii=False) + "\n"
        for f in findings if f.reason
    )
    write_atomic(work.path / REJECTS, "".join(lines))
    write_atomic(work.path / report.FRAGMENT, report_fragment(metrics, findings))


def _write_cards(
    work: Workspace, config: CleanConfig, metrics: dict[str, Any], web: Artifact,
    kept: list[Finding],
) -> None:
    """For the hub, and for whoever has to answer for the corpus; dates are no content."""
    write_atomic(work.path / "README.md", card(metrics))
    rules = config.model_dump(mode="json")
    dates = sorted(finding.fetched_at for finding in kept if finding.fetched_at)
    write_atomic(work.path / DATASHEET, datasheet(metrics, rules, web, dates))
    work.volatile(DATASHEET, text_sha256(datasheet(metrics, rules, web, [])))
