"""What is done to one page: it is read (refusal, text, language), then judged (boilerplate of its
host, quality, personal data, fingerprint).

Both run in a child process (`ingest.isolate`), because the input is whatever the web holds. Between
them all pages have been read, so that what a host prints on every page is known.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from commonroot.artifact import text_sha256
from commonroot.config import Section
from ingest import optout
from ingest.boilerplate import BoilerplateConfig, without_lines
from ingest.decode import decode
from ingest.dedup import fingerprint
from ingest.extract import Mode, is_plain, main_text, plain_text
from ingest.language import declared, language_of, surely_other
from ingest.licences import chosen, stated_in
from ingest.maintext.segment import segment
from ingest.pii import redact
from ingest.quality import QualityConfig, judged
from ingest.tags import metas_of, parse_page
from ingest.whole_text import whole_text
from ingest.words import Hashes, line_hashes

__all__ = ["Draft", "ExamineConfig", "Finding", "Job", "Step", "examine", "size"]

Step = Literal["main-text", "quality", "equal-texts"]


class ExamineConfig(Section):
    """Rules for one page."""

    agent: str = Field(default="commonroot", pattern=r"^[A-Za-z_-]+$")
    """Name under which pages may refuse us alone (as in the gather stage)."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes to keep; empty keeps all."""
    extract: Mode = "quality"
    """How main text is found: by trees, and where these disagree by trafilatura. quality asks it
    about one article in five, fast about one in forty, which takes half of the CPU time."""
    min_language_score: float = Field(default=0.6, ge=0.0, le=1.0)
    """Smallest probability of the language."""
    redact_pii: bool = True
    """Replace mail addresses, telephone, IP, IBAN, card and identity numbers, and keys by typed
    tokens."""
    boilerplate: BoilerplateConfig = Field(default_factory=BoilerplateConfig)
    """Lines that a host repeats."""
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
    key: str = ""
    """Equal for texts with the same words."""
    arrays: dict[str, str] = field(default_factory=dict)
    """In hexadecimal: `lines` (uint64) once it was read, `signature` (uint32) once judged."""
    place: int = -1
    """Where the journal holds it with its text; -1: nowhere."""
    sha256: str = ""
    """Of the text, once it was judged."""
    bytes: int = 0
    """Of the text in UTF-8."""


@dataclass(frozen=True)
class Draft:
    """A page that was read and is to be judged."""

    finding: Finding
    boilerplate: Hashes
    """Lines that its host repeats."""
    config: ExamineConfig


def size(job: Job | Draft) -> int:
    """About how many bytes a job is."""
    return len(job.body) if isinstance(job, Job) else len(job.finding.text)


def examine(job: Job | Draft) -> Finding:
    """Read a document of the archive, or judge one that was read, by the rules of its config."""
    return _read(job) if isinstance(job, Job) else _judged(job)


def _read(job: Job) -> Finding:
    config = job.config
    finding = Finding(job.url, job.offset, job.fetched_at, None)
    refusal = optout.from_headers(job.headers, config.agent)
    source = decode(job.body, job.content_type)
    page = "" if is_plain(job.content_type) else source
    tree = parse_page(page)
    refusal = refusal or optout.from_metas(metas_of(tree, job.url), config.agent)
    finding.licence, licence = chosen(stated_in(page, tree, job.headers))
    finding.decisions |= licence
    if refusal:
        return _dropped(finding, "opt-out", refusal.signal)
    unsaid, blocks = declared(tree) not in config.languages, segment(tree)
    other = surely_other(blocks.texts, config.languages) if unsaid else None
    if other is not None:
        text, finding.language, score = other
        finding.text = text
        finding.decisions["language"] = [finding.language, score]
        return _dropped(finding, "language", finding.language)
    document = main_text(blocks, job.url, config.extract) if page else plain_text(source)
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
    finding.arrays["lines"] = np.unique(line_hashes(finding.text)[0]).tobytes().hex()
    return finding


def _judged(draft: Draft) -> Finding:
    config, finding = draft.config, draft.finding
    finding.arrays = {}
    if len(draft.boilerplate):
        text, lines = without_lines(finding.text, draft.boilerplate, config.boilerplate)
        if lines:
            removed = len(finding.text) - len(text)
            finding.decisions["boilerplate"] = {"lines": lines, "characters": removed}
            finding.text = text
    text = finding.text
    if "quality" not in config.skip:
        rule, text = judged(text, finding.language, config.quality)
        if rule:
            return _dropped(finding, f"quality-{rule}", "")
    if config.redact_pii:
        text, finding.pii = redact(text)
        finding.decisions["pii"] = finding.pii
    finding.text = text
    finding.key, signature = fingerprint(text)
    finding.arrays["signature"] = signature.tobytes().hex()
    finding.sha256, finding.bytes = text_sha256(text), len(text.encode("utf-8", "replace"))
    return finding


def _dropped(finding: Finding, reason: str, detail: str) -> Finding:
    finding.reason = reason
    if detail:
        finding.decisions["detail"] = detail
    return finding
