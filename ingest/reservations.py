"""What a site says about training in files beside robots.txt, for all its pages at once.

- TDM Reservation Protocol: /.well-known/tdmrep.json (https://www.w3.org/community/reports/tdmrep/)
- ai.txt (https://site.spawning.ai/spawning-ai-txt): rules as in robots.txt, also by kind of file
- Really Simple Licensing: the XML that `License:` in robots.txt names (https://rslstandard.org/rsl)
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ingest.optout import OptOut
from ingest.robots import matches, parse, target_of

__all__ = ["AI_TXT", "TDMREP", "Reservation", "refusal", "site_reservations"]

TDMREP, AI_TXT = "/.well-known/tdmrep.json", "/ai.txt"
TEXT_KINDS = ("", ".html", ".htm", ".txt")
TRAINING = {"all", "ai-all", "ai-train"}
"""RSL's words for uses that training is one of."""
FREE = {"free", "attribution"}
"""RSL's payments that ask for no purchase."""


@dataclass(frozen=True)
class Reservation:
    """A pattern of paths, as in robots.txt, and whether training on them is refused."""

    pattern: str
    refused: bool
    signal: str
    where: str


def site_reservations(files: dict[str, bytes], agent: str) -> list[Reservation]:
    """All that these files of a site say, by their addresses' paths or, for RSL, by address."""
    found: list[Reservation] = []
    for name, body in files.items():
        read = {TDMREP: _tdmrep, AI_TXT: _ai_txt}.get(name, _rsl)
        found += read(body, name, agent)
    return found


def refusal(reservations: Iterable[Reservation], url: str) -> OptOut | None:
    """The refusal that holds for a page: of each file the longest matching pattern decides, and of
    two as long the one that refuses."""
    target = target_of(url)
    deciding: dict[str, Reservation] = {}
    for one in reservations:
        if matches(one.pattern, target):
            known = deciding.get(one.where, one)
            deciding[one.where] = max(known, one, key=lambda r: (len(r.pattern), r.refused))
    refusals = [one for one in deciding.values() if one.refused]
    return OptOut(refusals[0].signal, refusals[0].where) if refusals else None


def _tdmrep(body: bytes, name: str, agent: str) -> list[Reservation]:
    del agent
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return []
    found = []
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, dict) and isinstance(row.get("location"), str):
            refused = str(row.get("tdm-reservation")).strip() == "1"
            found.append(Reservation(row["location"], refused, "tdm-reservation", name))
    return found


def _ai_txt(body: bytes, name: str, agent: str) -> list[Reservation]:
    """A rule for a kind of file, such as *.html, holds for every page: all are text."""
    groups = parse(body).groups_for(agent)
    found = []
    for allow, pattern in (rule for group in groups for rule in group.rules):
        kind = pattern.rstrip("$").removeprefix("/").removeprefix("*")
        whole = pattern.lstrip("/").startswith("*.") and kind in TEXT_KINDS
        reach = "/" if whole else pattern
        if reach.startswith(("/", "*")) and not (allow and whole):
            found.append(Reservation(reach, not allow, "ai.txt", name))
    return found


def _rsl(body: bytes, name: str, agent: str) -> list[Reservation]:
    """A licence that cannot be read permits nothing."""
    del agent
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        return [Reservation("/", True, "rsl-unreadable", name)]
    found = []
    for content in root.iter("{*}content"):
        url = content.get("url") or "/"
        pattern = urlsplit(url).path or "/" if "//" in url else url
        licences = list(content.iter("{*}license"))
        permitted = any(_permits_training(licence) for licence in licences)
        found.append(Reservation(pattern, bool(licences) and not permitted, "rsl", name))
    return found


def _permits_training(licence: Any) -> bool:
    """Free of charge; without a list of permitted uses all are permitted that none prohibits."""
    permitted, prohibited = (_uses(licence, tag) for tag in ("permits", "prohibits"))
    payments = {element.get("type", "").lower() for element in licence.iter("{*}payment")}
    listed = not permitted or bool(permitted & TRAINING)
    return listed and not prohibited & TRAINING and payments <= FREE


def _uses(licence: Any, tag: str) -> set[str]:
    elements = (e for e in licence.iter(f"{{*}}{tag}") if e.get("type") == "usage")
    return {word for e in elements for word in (e.text or "").replace(",", " ").lower().split()}
