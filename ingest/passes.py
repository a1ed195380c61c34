"""The two passes over an archive: every document is read, then what is left is judged.

Texts lie in a journal on disk. In memory stay a finding without its text and the signature: about
3 KB a document, and until the first pass is over 8 bytes for each of its lines.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from commonroot.artifact import Artifact, json_lines
from commonroot.errors import DataError
from commonroot.progress import bar
from ingest import gather
from ingest.archive import Damaged, Stored, read_archive
from ingest.boilerplate import boilerplate_lines
from ingest.dedup import Signature
from ingest.examine import Draft, ExamineConfig, Finding, Job
from ingest.isolate import Lost
from ingest.journal import Journal
from ingest.words import Hashes

__all__ = ["Passes", "Spread", "Work"]

Work = Job | Draft
Spread = Callable[[Iterator[Work]], Iterator[tuple[Work, Finding | Lost]]]
"""Hands jobs to processes; results come in no order."""
READ, JUDGED = "read", "judged"
NO_LINES: Hashes = np.zeros(0, np.uint64)


class Passes:
    """Findings of one archive; those of an interrupted run are taken over from the journal."""

    def __init__(self, web: Artifact, journal: Journal, rules: ExamineConfig) -> None:
        self._web, self._journal, self._rules = web, journal, rules
        self._found: dict[int, Finding] = {}
        self._done: dict[str, set[int]] = {READ: set(), JUDGED: set()}
        self._lines: dict[int, Hashes] = {}
        self._signatures: dict[int, Signature] = {}
        for place, record in journal.records():
            self._take(record.pop("step"), Finding(**record), place)

    def run(self, spread: Spread) -> list[Finding]:
        """A finding for every document, without its text, by address."""
        unread: list[Finding] = []
        self._pass(READ, self._web.metrics["kept"], spread(self._jobs(unread)))
        good = list(self._lines)
        lines = ((_host(self._found[at].url), self._lines.pop(at)) for at in good)
        hosts = boilerplate_lines(lines, self._rules.boilerplate)
        self._pass(JUDGED, len(good), spread(self._drafts(good, hosts)))
        return sorted([*self._found.values(), *unread], key=lambda finding: finding.url)

    def text(self, finding: Finding) -> str:
        """The text of a finding, "" if none was read."""
        return str(self._journal.record(finding.place)["text"]) if finding.place >= 0 else ""

    def signatures(self, findings: Sequence[Finding]) -> list[Signature]:
        """Of texts that were judged to be good."""
        return [self._signatures[finding.offset] for finding in findings]

    def _pass(
        self, step: str, total: int, results: Iterator[tuple[Work, Finding | Lost]]
    ) -> None:
        with bar(total, "clean", "pages", len(self._done[step])) as shown:
            for job, result in results:
                finding = _lost(job, result) if isinstance(result, Lost) else result
                self._take(step, finding, self._journal.add({"step": step, **vars(finding)}))
                shown.advance()

    def _take(self, step: str, finding: Finding, place: int) -> None:
        finding.text, finding.place = "", place
        arrays, finding.arrays = finding.arrays, {}
        if "lines" in arrays:
            lines = np.frombuffer(bytes.fromhex(arrays["lines"]), np.uint64)
            self._lines[finding.offset] = lines
        if "signature" in arrays:
            signature = np.frombuffer(bytes.fromhex(arrays["signature"]), np.uint32)
            self._signatures[finding.offset] = signature
        self._done[step].add(finding.offset)
        self._found[finding.offset] = finding

    def _jobs(self, unread: list[Finding]) -> Iterator[Work]:
        done = self._done[READ].copy()
        for item in _documents(self._web):
            if isinstance(item, Finding):
                unread.append(item)
            elif item.offset not in done:
                yield Job(
                    item.url, item.offset, item.fetched_at, item.headers, item.body, self._rules
                )

    def _drafts(self, good: list[int], hosts: dict[str, Hashes]) -> Iterator[Work]:
        left = [self._found[at] for at in good if at not in self._done[JUDGED]]
        places = sorted((finding.place for finding in left), reverse=True)
        del left
        while places:
            record = self._journal.record(places.pop())
            del record["step"]
            lines = hosts.get(_host(record["url"]), NO_LINES)
            yield Draft(Finding(**record), lines, self._rules)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _lost(job: Work, lost: Lost) -> Finding:
    if lost.reason in ("ImportError", "ModuleNotFoundError"):
        raise DataError("a library that reads pages is missing: run `make setup`")
    page = job if isinstance(job, Job) else job.finding
    return Finding(page.url, page.offset, page.fetched_at, f"unreadable-{lost.reason}")


def _documents(web: Artifact) -> Iterator[Stored | Finding]:
    """The archive's documents; what is no page is left out, what cannot be read is a finding."""
    fetches: list[Any] = list(json_lines((web.path / gather.FETCHES).read_text("utf-8")))
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
