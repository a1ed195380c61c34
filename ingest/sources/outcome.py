"""What one answer means: kept, refused, moved, broken, and which addresses it points to."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ingest import optout
from ingest.decode import decode
from ingest.fetch import Response
from ingest.links import canonical_url, read_tags, sitemap_urls
from ingest.sources.frontier import Target

__all__ = ["REDIRECTS", "Bounds", "Outcome", "judge"]

REDIRECTS = (301, 302, 303, 307, 308)


@dataclass
class Outcome:
    """What became of one target; `response` is None if nothing was asked or answered."""

    target: Target
    decision: str
    detail: str = ""
    response: Response | None = None
    sha256: str | None = None
    bytes: int = 0
    opt_out: optout.OptOut | None = None
    found: list[Target] = field(default_factory=list)
    asked: bool = True
    """Was a request sent? Only then it counts against the page budget."""

    def record(self) -> dict[str, Any]:
        """The line of fetches.jsonl: no dates, so that equal crawls give equal lines."""
        return {
            "url": self.target.url, "kind": self.target.kind, "decision": self.decision,
            "detail": self.detail, "status": self.response.status if self.response else None,
            "sha256": self.sha256, "bytes": self.bytes, "depth": self.target.depth,
            "opt_out": asdict(self.opt_out) if self.opt_out else None,
            "place": self.response.place or None if self.response else None,
        }


@dataclass(frozen=True)
class Bounds:
    """How far an answer's links are followed."""

    agent: str
    max_depth: int
    max_redirects: int
    in_scope: Callable[[str], bool]


def judge(target: Target, response: Response, bounds: Bounds) -> Outcome:
    """Read one answer."""
    outcome = Outcome(target, "kept", response=response, bytes=len(response.body))
    if response.body:
        outcome.sha256 = hashlib.sha256(response.body).hexdigest()
    if response.status in REDIRECTS and response.header("Location"):
        _follow(outcome, response, bounds)
    elif response.status != 200:
        outcome.decision = f"http-{response.status}"
    elif response.withheld:
        outcome.decision, outcome.detail = response.withheld, response.media_type
    elif target.kind == "sitemap":
        _read_sitemap(outcome, response, bounds)
    else:
        _read_page(outcome, response, bounds)
    return outcome


def _follow(outcome: Outcome, response: Response, bounds: Bounds) -> None:
    """Queue where a redirect leads: there robots.txt and the guard are asked again."""
    target = outcome.target
    location = canonical_url(response.header("Location"), target.url)
    outcome.decision, outcome.detail = "redirect", location or "not an http(s) address"
    if target.hops >= bounds.max_redirects:
        outcome.decision = "redirect-limit"
    elif location and bounds.in_scope(location):
        outcome.found = [Target(location, target.kind, target.depth, target.hops + 1)]
    else:
        outcome.decision = "redirect-out-of-scope"


def _read_sitemap(outcome: Outcome, response: Response, bounds: Bounds) -> None:
    outcome.decision = "sitemap"
    pages, maps = sitemap_urls(response.body)
    hops = outcome.target.hops + 1
    outcome.found = [Target(url, "page", 0, 0) for url in pages if bounds.in_scope(url)]
    if hops <= bounds.max_redirects:
        further = filter(bounds.in_scope, maps)
        outcome.found += [Target(url, "sitemap", 0, hops) for url in further]


def _read_page(outcome: Outcome, response: Response, bounds: Bounds) -> None:
    target = outcome.target
    refusal = optout.from_headers(response.headers, bounds.agent)
    if response.media_type != "text/plain":
        tags = read_tags(decode(response.body, response.header("Content-Type")), target.url)
        refusal = refusal or optout.from_metas(tags.metas, bounds.agent)
        if target.depth < bounds.max_depth and not _nofollow(response, tags.metas):
            links = filter(bounds.in_scope, tags.links)
            outcome.found = [Target(url, "page", target.depth + 1, 0) for url in links]
    if refusal:
        # The refused text is not kept, not even in the archive.
        outcome.decision, outcome.opt_out = "opt-out", refusal
        outcome.response = response.without_body("opt-out")


def _nofollow(response: Response, metas: Mapping[str, str]) -> bool:
    said = f"{metas.get('robots', '')},{response.header('X-Robots-Tag')}".lower()
    return not {"nofollow", "none"}.isdisjoint(word.strip() for word in said.split(","))
