"""What is done to one page on its own: refusal, text, language, quality, personal data.

Runs in a child process (`ingest.isolate`), because its input is whatever the web holds.
"""

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from commonroot.config import Section
from ingest import optout
from ingest.decode import decode
from ingest.extract import extract
from ingest.language import language_of
from ingest.pii import redact
from ingest.quality import QualityConfig, quality_reason
from ingest.tags import licence_in, read_tags

__all__ = ["ExamineConfig", "Finding", "Job", "examine"]


class ExamineConfig(Section):
    """Rules for one page."""

    agent: str = Field(default="commonroot", pattern=r"^[A-Za-z_-]+$")
    """Name under which pages may refuse us alone (as in the gather stage)."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes to keep; empty keeps all."""
    min_language_score: float = Field(default=0.6, ge=0.0, le=1.0)
    """Smallest probability of the language."""
    redact_pii: bool = True
    """Replace mail addresses, telephone, IP, IBAN, card and identity numbers, and keys by typed
    tokens."""
    quality: QualityConfig = Field(default_factory=QualityConfig)
    """Thresholds of the quality rules."""


@dataclass(frozen=True)
class Job:
    """One document out of the archive."""

    url: str
    offset: int
    fetched_at: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    config: ExamineConfig

    @property
    def content_type(self) -> str:
        """The Content-Type header."""
        return next((v for k, v in self.headers if k.lower() == "content-type"), "")


@dataclass
class Finding:
    """What was found out about a page; `reason` says why it is dropped, None if it is good."""

    url: str
    offset: int
    fetched_at: str
    reason: str | None
    text: str = ""
    licence: str | None = None
    language: str = ""
    decisions: dict[str, Any] = field(default_factory=dict)
    pii: dict[str, int] = field(default_factory=dict)


def examine(job: Job) -> Finding:
    """Judge one page by the rules of `job.config`."""
    config = job.config
    finding = Finding(job.url, job.offset, job.fetched_at, None)
    finding.licence = licence_in(job.headers)
    refusal = optout.from_headers(job.headers, config.agent)
    if not job.content_type.lower().startswith("text/plain"):
        tags = read_tags(decode(job.body, job.content_type), job.url)
        refusal = refusal or optout.from_metas(tags.metas, config.agent)
        finding.licence = tags.licence or finding.licence
    if refusal:
        return _dropped(finding, "opt-out", refusal.signal)
    document = extract(job.body, job.url, content_type=job.content_type)
    if document is None:
        return _dropped(finding, "no-text", "")
    finding.text = document.text
    language, score = language_of(document.text)
    finding.language = language
    finding.decisions["language"] = [language, score]
    if config.languages and language not in config.languages:
        return _dropped(finding, "language", language)
    if score < config.min_language_score:
        return _dropped(finding, "language-unsure", language)
    rule = quality_reason(document.text, language, config.quality)
    if rule:
        return _dropped(finding, f"quality-{rule}", "")
    if config.redact_pii:
        finding.text, finding.pii = redact(document.text)
        finding.decisions["pii"] = finding.pii
    return finding


def _dropped(finding: Finding, reason: str, detail: str) -> Finding:
    finding.reason = reason
    if detail:
        finding.decisions["detail"] = detail
    return finding
