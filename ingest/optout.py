"""Does a page ask not to be used to train a model? Every signal counts, none is weighed.

Read: robots meta tags and X-Robots-Tag (`noai`, `noindex`, `none`), the TDM Reservation Protocol
(header and meta tag; its file: ingest.reservations), Content-Signal and AIPREF's Content-Usage
(header and robots.txt), links to an RSL licence, and in robots.txt the AI agents that the site
turns away by name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ingest.robots import Robots, preferences

__all__ = ["AI_AGENTS", "OptOut", "from_headers", "from_metas", "from_robots"]

WORDS = ("noai", "none", "noindex")
"""`noimageai` speaks of pictures only, `nofollow` of links only."""

RSL_TYPE = "application/rsl+xml"
"""A page of its own licence: it is not read, and what is not read permits nothing."""

AI_AGENTS = (
    "AI2Bot",
    "anthropic-ai",
    "Applebot-Extended",
    "Bytespider",
    "CCBot",
    "ClaudeBot",
    "cohere-training-data-crawler",
    "Google-Extended",
    "GPTBot",
    "Meta-ExternalAgent",
)
"""Agents that fetch for training: a site that names one of them and turns it away means us too."""


@dataclass(frozen=True)
class OptOut:
    """One refusal: which signal, and where it stood."""

    signal: str
    where: str


def from_headers(headers: Iterable[tuple[str, str]], agent: str) -> OptOut | None:
    """Refusal in the response headers, given as (name, value) pairs; each line speaks alone."""
    for name, value in headers:
        key = name.lower()
        word = _word(value, agent) if key == "x-robots-tag" else None
        if word:
            return OptOut(word, "X-Robots-Tag header")
        if key == "tdm-reservation" and value.strip() == "1":
            return OptOut("tdm-reservation", "TDM-Reservation header")
        if key in ("content-usage", "content-signal"):
            stated = _stated(preferences(value))
            if stated:
                return OptOut(stated, f"{name.title()} header")
        if key == "link" and RSL_TYPE in value.lower():
            return OptOut("rsl", "Link header")
    return None


def from_metas(metas: Mapping[str, str], agent: str) -> OptOut | None:
    """Refusal in a page's meta tags (names in lower case)."""
    for name in ("robots", agent.lower()):
        word = _word(metas.get(name, ""), agent)
        if word:
            return OptOut(word, f"meta name={name}")
    if metas.get("tdm-reservation", "").strip() == "1":
        return OptOut("tdm-reservation", "meta name=tdm-reservation")
    return OptOut("rsl", "link rel=license") if "rsl" in metas else None


def from_robots(robots: Robots, agent: str, url: str) -> OptOut | None:
    """Refusal of AI training in robots.txt, where our own agent would be let in."""
    if robots.signal(agent, "ai-train") == "no":
        return OptOut("ai-train=no", "robots.txt")
    stated = _stated(robots.usage(agent, url))
    if stated:
        return OptOut(stated, "robots.txt")
    for name in robots.named(AI_AGENTS):
        if not robots.allows(name, url):
            return OptOut(name, "robots.txt")
    return None


def _stated(said: Mapping[str, str]) -> str | None:
    """What a Content-Usage or Content-Signal refuses; the general category counts where the
    special one is not named. draft-ietf-aipref-vocab."""
    if said.get("ai-train") == "no":
        return "ai-train=no"
    for category in ("train-ai", "bots"):
        if category in said:
            return f"{category}=n" if said[category] == "n" else None
    return None


def _word(value: str, agent: str) -> str | None:
    """First refusing word; `otherbot: noai` speaks to otherbot only."""
    spoken_to = True
    for piece in value.lower().split(","):
        head, colon, rest = piece.partition(":")
        if colon and head.strip() not in ("unavailable_after", "max-snippet", "max-image-preview"):
            spoken_to = head.strip() == agent.lower()
            piece = rest
        if spoken_to and piece.strip() in WORDS:
            return piece.strip()
    return None
