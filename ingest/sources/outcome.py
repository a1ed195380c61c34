"""What one answer means: kept, refused, moved, broken, and which addresses it points to."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ingest import optout
from ingest.decode import decode
from ingest.fetch import Response
from ingest.links import canonical_url
from ingest.sitemaps import LIST_TYPES, listed
from ingest.sources.frontier import Target
from ingest.sources.shell import needs_javascript
from ingest.sources.traps import hash_of, pattern_of, texts_of
from ingest.tags import PageTags, parse_page, tags_of

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
    canonical: str | None = None
    """Another address, in scope, to which the page says that it belongs."""
    texts: list[int] = field(default_factory=list)
    """Pieces of text of an address that varies: does its pattern still give new ones?"""

    def withhold(self, why: str) -> None:
        """Keep the answer, but not its body."""
        self.decision = why
        if self.response is not None:
            self.response = self.response.without_body(why)

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
    feeds: bool
    in_scope: Callable[[str], bool]
    on_site: Callable[[str], bool]
    """Of sitemaps and feeds only the host counts, wherever they lie."""
    settled: Callable[[str, int], bool] = lambda *_: False
    """Is an address known already, so many links away or fewer? Most links are."""


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
    elif target.kind != "page" or response.media_type in LIST_TYPES:
        _read_listing(outcome, response, bounds)
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
    elif location and (bounds.in_scope if target.kind == "page" else bounds.on_site)(location):
        outcome.found = [Target(location, target.kind, target.depth, target.hops + 1)]
    else:
        outcome.decision = "redirect-out-of-scope"


def _read_listing(outcome: Outcome, response: Response, bounds: Bounds) -> None:
    """Queue what a sitemap or feed lists; a feed's pages are as deep as the feed."""
    target, found = outcome.target, listed(response.body, response.url)
    if not found.kind:
        outcome.withhold("not-a-listing")  # nobody asked it whether it may be kept
        outcome.detail = response.media_type
        return
    outcome.decision = found.kind
    depth, hops = target.depth if found.kind == "feed" else 0, target.hops + 1
    outcome.found = [Target(url, "page", depth, 0) for url in filter(bounds.in_scope, found.pages)]
    if hops <= bounds.max_redirects:
        further = filter(bounds.on_site, found.sitemaps)
        outcome.found += [Target(url, "sitemap", 0, hops) for url in further]


def _read_page(outcome: Outcome, response: Response, bounds: Bounds) -> None:
    refusal = optout.from_headers(response.headers, bounds.agent)
    varies, shell = pattern_of(outcome.target.url) is not None, False
    if response.media_type == "text/plain":
        outcome.texts = [hash_of(outcome.sha256 or "")]
    else:
        tree = parse_page(decode(response.body, response.header("Content-Type")))
        tags = tags_of(tree, outcome.target.url)
        refusal = refusal or optout.from_metas(tags.metas, bounds.agent)
        shell = not refusal and needs_javascript(tree)
        _follow_tags(outcome, response, tags, bounds)
        if varies and not refusal:
            outcome.texts = texts_of(tree)
    if refusal:
        # The refused text is not kept, not even in the archive.
        outcome.withhold("opt-out")
        outcome.opt_out = refusal
    elif shell:
        outcome.withhold("needs-javascript")


def _follow_tags(
    outcome: Outcome, response: Response, tags: PageTags, bounds: Bounds
) -> None:
    target = outcome.target
    if tags.canonical and tags.canonical != target.url and bounds.in_scope(tags.canonical):
        outcome.canonical = tags.canonical
    if target.depth < bounds.max_depth and not _nofollow(response, tags.metas):
        depth = target.depth + 1
        fresh = (url for url in tags.links if not bounds.settled(url, depth))
        outcome.found = [Target(url, "page", depth, 0) for url in filter(bounds.in_scope, fresh)]
        feeds = filter(bounds.on_site, tags.feeds) if bounds.feeds else ()
        outcome.found += [Target(url, "feed", depth, 0) for url in feeds]


def _nofollow(response: Response, metas: Mapping[str, str]) -> bool:
    said = f"{metas.get('robots', '')},{response.header('X-Robots-Tag')}".lower()
    return not {"nofollow", "none"}.isdisjoint(word.strip() for word in said.split(","))
