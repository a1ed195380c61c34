"""What is done to one page on its own: refusal, text, language, quality, personal data.

Runs in a child process (`ingest.isolate`), because its input is whatever the web holds.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from commonroot.config import Section
from ingest import optout
from ingest.decode import decode
from ingest.extract import extract
from ingest.language import language_of
from ingest.licences import chosen, stated_in
from ingest.pii import redact
from ingest.quality import QualityConfig, quality_reason
from ingest.tags import parse_page, tags_of
from ingest.whole_text import whole_text

__all__ = ["ExamineConfig", "Finding", "Job", "Step", "examine"]

Step = Literal["main-text", "quality", "equal-texts"]


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
    skip: tuple[Step, ...] = ()
    """Steps to leave out, to see what they are worth; the others have thresholds of their own."""


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
    refusal = optout.from_headers(job.headers, config.agent)
    page, tree = "", None
    if not job.content_type.lower().startswith("text/plain"):
        page = decode(job.body, job.content_type)
        tree = parse_page(page)
        refusal = refusal or optout.from_metas(tags_of(tree, job.url).metas, config.agent)
    finding.licence, licence = chosen(stated_in(page, tree, job.headers))
    finding.decisions |= licence
    if refusal:
        return _dropped(finding, "opt-out", refusal.signal)
    document = extract(job.body, job.url, content_type=job.content_type)
    if document is None:
        return _dropped(finding, "no-text", "")
    finding.text = whole_text(page) if page and "main-text" in config.skip else document.text
    language, score = language_of(finding.text)
    finding.language = language
    finding.decisions["language"] = [language, score]
    if config.languages and language not in config.languages:
        return _dropped(finding, "language", language)
    if score < config.min_language_score:
        return _dropped(finding, "language-unsure", language)
    rule = quality_reason(finding.text, language, config.quality)
    if rule and "quality" not in config.skip:
        return _dropped(finding, f"quality-{rule}", "")
    if config.redact_pii:
        finding.text, finding.pii = redact(finding.text)
        finding.decisions["pii"] = finding.pii
    return finding


def _dropped(finding: Finding, reason: str, detail: str) -> Finding:
    finding.reason = reason
    if detail:
        finding.decisions["detail"] = detail
    return finding
