"""Stage 2: 1-web -> 2-corpus. Every page of the archive is kept, or dropped with a reason.

A run that was killed takes up what was examined already and ends with the same content digest.
"""

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
from commonroot.verify import source_lines
from ingest import gather
from ingest.card import card, licence_counts
from ingest.corpus import report_fragment, write_split
from ingest.datasheet import datasheet
from ingest.decontaminate import DecontaminateConfig, Evaluations
from ingest.dedup import similar_groups
from ingest.examine import ExamineConfig, Finding, examine, size
from ingest.isolate import Limits, Lost, run_isolated
from ingest.journal import Journal
from ingest.passes import Passes, Work
from ingest.pii import redact

__all__ = ["FOLDER", "KIND", "CleanConfig", "resolved", "run"]

FOLDER, KIND = "2-corpus", "corpus"
REJECTS, DATASHEET = "rejects.jsonl", "DATASHEET.md"


class CleanConfig(ExamineConfig):
    """From web archive to corpus."""

    near_duplicates: float = Field(default=0.7, gt=0.0, le=1.0)
    """Estimated Jaccard similarity of 5-word shingles from which on two texts are one; 1 keeps all
    but equal ones."""
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    """Public evaluation sets that the corpus must not hold."""
    rejects: bool = False
    """Write the texts of dropped pages into `rejects.jsonl`, beside their reasons; personal data is
    replaced as in the corpus. Of pages that refuse no text exists."""
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
    return build_artifact(
        run_dir / FOLDER, KIND, [web], resolved(config), lambda work: _clean(config, web, work)
    )


class _Resolved(CleanConfig):
    """The config with what its paths led to, so that a changed file means a new corpus."""

    evaluations_sha256: str


ANYWHERE = {
    name: CleanConfig.model_fields[name].default for name in ("executor", "ray_address", "workers")
}
"""Where pages are read, and by how many, changes nothing of the corpus."""


def resolved(config: CleanConfig) -> CleanConfig:
    """The config as the manifest shows it: without what changes nothing of the corpus."""
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
    with Journal(work.scratch("examined.jsonl")) as journal:
        passes = Passes(web, journal, _rules(config))
        findings = passes.run(lambda jobs: _spread(config, jobs))
        _note_places(findings, web)
        _drop_duplicates(findings, passes, config)
        _drop_contaminated(findings, passes, config.decontaminate)
        splits = _splits(findings, config)
        for name, members in splits.items():
            rows = ((finding, passes.text(finding)) for finding in members)
            work.volatile(*write_split(work.path, name, rows))
        metrics = _metrics(findings, splits)
        metrics["sources_sha256"] = text_sha256(source_lines(work.path))
        metrics["truth"] = _truth(web, splits, findings, passes)
        _write_rest(work, metrics, findings, passes, config)
        _write_cards(work, config, metrics, web, splits["train"] + splits["heldout"])
    work.note("clean_seconds", round(time.time() - started, 3))
    return metrics


def _rules(config: CleanConfig) -> ExamineConfig:
    return ExamineConfig(**{name: getattr(config, name) for name in ExamineConfig.model_fields})


def _spread(config: CleanConfig, jobs: Iterator[Work]) -> Iterator[tuple[Work, Finding | Lost]]:
    limits = Limits(config.page_cpu_s, config.page_memory_mb * 2**20)
    if config.executor == "local":
        return run_isolated(examine, jobs, limits, config.workers, size)
    from ingest.on_ray import run_on_ray

    return run_on_ray(examine, jobs, limits, config.workers, config.ray_address)


def _splits(findings: list[Finding], config: CleanConfig) -> dict[str, list[Finding]]:
    """Raises DataError if nothing is left."""
    kept = [finding for finding in findings if finding.reason is None]
    if not kept:
        listed = ", ".join(f"{count} {reason}" for reason, count in _reasons(findings).items())
        raise DataError(f"no text is left of {len(findings)} pages (dropped: {listed}): "
                        "loosen the rules under [clean]")
    heldout = _heldout(kept, config.heldout)
    return {
        "train": [f for f, out in zip(kept, heldout, strict=True) if not out],
        "heldout": [f for f, out in zip(kept, heldout, strict=True) if out],
    }


def _reasons(findings: list[Finding]) -> dict[str, int]:
    return dict(sorted(Counter(f.reason for f in findings if f.reason).items()))


def _note_places(findings: list[Finding], web: Artifact) -> None:
    """From where a page was seen, if it was seen through a proxy."""
    fetches = json_lines((web.path / gather.FETCHES).read_text("utf-8"))
    places = {record["url"]: record["place"] for record in fetches if record.get("place")}
    for finding in findings:
        if finding.url in places:
            finding.decisions["place"] = places[finding.url]


def _drop_duplicates(findings: list[Finding], passes: Passes, config: CleanConfig) -> None:
    """Of equal or nearly equal texts the one with the first URL stays."""
    first: dict[str, Finding] = {}
    for finding in findings:
        if finding.reason is None and "equal-texts" not in config.skip:
            twin = first.setdefault(finding.key, finding)
            if twin is not finding:
                finding.reason = "exact-duplicate"
                finding.decisions["same_as"] = twin.url
    unique = [finding for finding in findings if finding.reason is None]
    if config.near_duplicates >= 1.0:
        return
    groups = similar_groups(passes.signatures(unique), config.near_duplicates)
    for finding, group in zip(unique, groups, strict=True):
        if unique[group] is not finding:
            finding.reason = "near-duplicate"
            finding.decisions["same_as"] = unique[group].url


def _drop_contaminated(
    findings: list[Finding], passes: Passes, config: DecontaminateConfig
) -> None:
    if not config.files:
        return
    evaluations = Evaluations.read(config)
    for finding in findings:
        if finding.reason is not None:
            continue
        shared, file = evaluations.shared(passes.text(finding))
        if shared >= config.runs:
            finding.reason = "contaminated"
            finding.decisions |= {"evaluation": file, "shared_runs": shared}


def _heldout(kept: list[Finding], share: float) -> list[bool]:
    """Chosen by the text's hash; if chance takes none, the one nearest to it is taken."""
    ranks = [int(finding.sha256[:12], 16) / 16**12 for finding in kept]
    chosen = [rank < share for rank in ranks]
    if not any(chosen) and len(kept) > 1:
        chosen[ranks.index(min(ranks))] = True
    return chosen


def _metrics(findings: list[Finding], splits: dict[str, list[Finding]]) -> dict[str, Any]:
    kept = splits["train"] + splits["heldout"]
    pii: Counter[str] = Counter()
    boilerplate: Counter[str] = Counter()
    for finding in kept:
        pii.update(finding.pii)
        boilerplate.update(finding.decisions.get("boilerplate", {}))
    return {
        "pages": len(findings),
        "kept": len(kept),
        "train": len(splits["train"]),
        "heldout": len(splits["heldout"]),
        "bytes": sum(finding.bytes for finding in kept),
        "train_bytes": sum(finding.bytes for finding in splits["train"]),
        "dropped": _reasons(findings),
        "languages": dict(sorted(Counter(finding.language for finding in kept).items())),
        "pii": dict(sorted(pii.items())),
        "places": dict(sorted(Counter(f.decisions.get("place", "") for f in kept).items())),
        "licences": licence_counts(kept),
        "boilerplate": dict(sorted(boilerplate.items())),
    }


def _truth(
    web: Artifact, splits: dict[str, list[Finding]], findings: list[Finding], passes: Passes
) -> dict[str, Any] | None:
    """Scores against the demo site's truth, if that is what was crawled. Changes nothing."""
    if not (web.path / gather.TRUTH).is_file():
        return None
    from ingest.demo.score import score

    kept = {f.url: passes.text(f) for members in splits.values() for f in members}
    twins = {f.url: f.decisions["same_as"] for f in findings if "same_as" in f.decisions}
    return score(web.path / gather.TRUTH, web.path / gather.ACCESS_LOG, kept, twins)


def _write_rest(
    work: Workspace, metrics: dict[str, Any], findings: list[Finding], passes: Passes,
    config: CleanConfig,
) -> None:
    with open(work.path / REJECTS, "w", encoding="utf-8") as file:
        for finding in findings:
            if finding.reason:
                record = {"url": finding.url, "reason": finding.reason, **finding.decisions}
                if config.rejects:
                    record["text"] = _shown(passes.text(finding), config)
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    write_atomic(work.path / report.FRAGMENT, report_fragment(metrics, findings, passes.text))


def _write_cards(
    work: Workspace, config: CleanConfig, metrics: dict[str, Any], web: Artifact,
    kept: list[Finding],
) -> None:
    """For the hub, and for whoever has to answer for the corpus; dates are no content."""
    write_atomic(work.path / "README.md", card(metrics, config.redact_pii))
    rules = resolved(config).model_dump(mode="json")
    dates = sorted(finding.fetched_at for finding in kept if finding.fetched_at)
    write_atomic(work.path / DATASHEET, datasheet(metrics, rules, web, dates))
    work.volatile(DATASHEET, text_sha256(datasheet(metrics, rules, web, [])))


def _shown(text: str, config: CleanConfig) -> str:
    """Most rules drop a page before its personal data is replaced."""
    return redact(text)[0] if config.redact_pii else text
