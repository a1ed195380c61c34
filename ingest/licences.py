"""Under which licence does a page say that it stands? Found where it is stated, named as SPDX does.

Read, the firmer first: `rel=license` (also Dublin Core's and Creative Commons' own), the HTTP Link
header (RFC 8288), JSON-LD and microdata (schema.org), meta tags (Dublin Core), `<standard>` of an
RSL licence in the page (https://rslstandard.org/rsl), `SPDX-License-Identifier`, a link to a
Creative Commons licence, a sentence. A statement is what the page says, not whether it is true: a
link may be about a picture. Names: https://spdx.org/licenses/
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["Stated", "chosen", "spdx_of", "stated_in"]

ORDER = ("rel=license", "Link header", "JSON-LD", "microdata", "meta", "rsl", "SPDX tag", "link",
         "text")
SIGNS = (
    "licence", "license", "creativecommons.org", "dc.rights", "dcterms.rights", "public domain",
)
"""In lower case; one of them stands in every page that states a licence."""
NAMES = (
    "cc by", "cc-by", "cc 0", "cc-0", "creative commons", "gnu free documentation license", "mit",
    "apache", "open government licence",
)
"""One of them stands behind the "under" of SENTENCE. Looking for words is fifty times faster than
an expression is."""
META = re.compile(
    r"(?:dc|dcterms|dc\.terms|cc)?[.:]?(?:rights(?:\.?license|\.uri)?|licen[cs]e|copyright-license)$",
    re.IGNORECASE,
)
RELS = {"license", "licence", "cc:license", "dct:license", "dcterms:license", "dc:license",
        "schema:license", "http://creativecommons.org/ns#license"}
TAG = re.compile(r"SPDX-License-Identifier:\s*([\w.+()-]+(?: (?:AND|OR|WITH) [\w.+()-]+)*)")
SENTENCE = re.compile(
    r"\b(?:licen[cs]ed|released|distributed|made available|available|published|content is)\s+"
    r"(?:\w+\s+){0,4}under\s+(?:the\s+)?(?:terms of\s+)?(?:the\s+|an?\s+)?(?P<name>[^.<>\n]{0,40}?"
    r"(?:CC[ -](?:BY|0)[^<>\n,;]{0,24}|Creative Commons[^<>\n,;]{0,90}|"
    r"GNU Free Documentation License[^<>\n,;]{0,20}|"
    r"(?:MIT|Apache)[^<>\n,;.]{0,12} License[^<>\n;]{0,14}|"
    r"Open Government Licence[^<>\n,;]{0,8}))",
    re.IGNORECASE,
)
CC_HOST = "creativecommons.org"
CC_LINK = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/", re.IGNORECASE)
CC = re.compile(
    r"creativecommons\.org/licenses/(?P<parts>[a-z]{2}(?:[-+][a-z]{2})*)(?:/(?P<version>\d\.\d))?"
    r"(?:/(?P<place>igo|scotland|[a-z]{2})(?=$|[/?#.]))?",
    re.IGNORECASE,
)
CC_NAME = re.compile(r"\bCC[ -]BY(?P<parts>(?:[ -](?:NC|ND|SA))*)[ -]?(?P<version>\d\.\d)?", re.I)
CC_WORDS = {"attribution": "by", "noncommercial": "nc", "non-commercial": "nc", "sharealike": "sa",
            "share-alike": "sa", "share alike": "sa", "noderiv": "nd", "no deriv": "nd"}
PORTED = {
    "CC-BY-2.5-AU", "CC-BY-3.0-AT", "CC-BY-3.0-AU", "CC-BY-3.0-DE", "CC-BY-3.0-IGO", "CC-BY-3.0-NL",
    "CC-BY-3.0-US", "CC-BY-NC-3.0-DE", "CC-BY-NC-ND-3.0-DE", "CC-BY-NC-ND-3.0-IGO",
    "CC-BY-NC-SA-2.0-DE", "CC-BY-NC-SA-2.0-FR", "CC-BY-NC-SA-2.0-UK", "CC-BY-NC-SA-3.0-DE",
    "CC-BY-NC-SA-3.0-IGO", "CC-BY-ND-3.0-DE", "CC-BY-SA-2.0-UK", "CC-BY-SA-2.1-JP",
    "CC-BY-SA-3.0-AT", "CC-BY-SA-3.0-DE", "CC-BY-SA-3.0-IGO",
}
"""Ported versions that SPDX lists; others are other texts than the unported one, and get a
LicenseRef of their own."""
ADDRESSES: tuple[tuple[str, str], ...] = (
    # pattern of an address or a name, SPDX identifier; \1 is what the pattern caught
    (r"creativecommons\.org/publicdomain/zero/1\.0|\bCC0\b", "CC0-1.0"),
    (r"creativecommons\.org/publicdomain/mark/1\.0", "CC-PDM-1.0"),
    (r"creativecommons\.org/(?:licenses/publicdomain|publicdomain/certification)", "CC-PDDC"),
    (r"(?:spdx|opensource)\.org/licenses?/([A-Za-z0-9.+-]+?)(?:\.(?:html|json|txt))?/?$", r"\1"),
    (r"apache\.org/licenses/LICENSE-2\.0|"
     r"^(?:the )?Apache(?: Software)?(?: License)?,? (?:Version )?2\.0", "Apache-2.0"),
    (r"gnu\.org/(?:licenses|copyleft)/fdl(?:-1\.3|\.html|\.en|$)", "GFDL-1.3-only"),
    (r"gnu\.org/licenses/(?:old-licenses/)?fdl-(1\.[12])", r"GFDL-\1-only"),
    (r"gnu\.org/licenses/(?:old-licenses/)?(a?l?gpl)-(\d\.\d)", r"\1-\2-only"),
    (r"opendatacommons\.org/licenses/odbl", "ODbL-1.0"),
    (r"opendatacommons\.org/licenses/by", "ODC-By-1.0"),
    (r"opendatacommons\.org/licenses/pddl", "PDDL-1.0"),
    (r"open-government-licence/version/(\d)|Open Government Licence v?(\d)", r"OGL-UK-\1\2.0"),
    (r"etalab\.gouv\.fr/.*licence-ouverte|etalab-2\.0", "etalab-2.0"),
    (r"\bMIT Licen[cs]e", "MIT"),
    (r"GNU Free Documentation Licen[cs]e,? (?:version )?(1\.[1-3])", r"GFDL-\1-only"),
)
TAGS = ("a", "area", "link", "meta", "script", "span", "div")
LONGEST = 100_000
"""Characters of a page's source that are searched for tags and sentences."""
BEFORE, AFTER = 300, 400
"""Characters of a sentence around its "under"."""


class Stated(NamedTuple):
    """One statement of a page."""

    where: str
    """One of ORDER."""
    value: str
    """As it stands there: an address, an expression or a name."""


def stated_in(
    page: str, tree: Any, headers: Iterable[tuple[str, str]] = ()
) -> list[Stated]:
    """All that a page, its tree (lxml, None if it has none) and its headers state, without doubles,
    the firmest first."""
    found = [Stated("Link header", link) for link in _in_headers(headers)]
    lower = page.encode("utf-8", "replace").lower().decode()  # ASCII alone: places stay, and fast
    if any(sign in lower for sign in SIGNS):
        found += [one for tag in _tags(tree, CC_HOST in lower) for one in _in_tag(tag)]
        source = page[:LONGEST]
        found += [Stated("SPDX tag", tag[1]) for tag in TAG.finditer(source)]
        found += [Stated("text", name) for name in _in_sentences(source, lower[:LONGEST])]
    known = [one for one in found if one.where not in ("meta", "text") or spdx_of(one.value)]
    return sorted(dict.fromkeys(known), key=lambda one: ORDER.index(one.where))


def chosen(stated: list[Stated]) -> tuple[str | None, dict[str, Any]]:
    """(licence for the corpus, the decision about it).

    An SPDX expression where the statement can be named so, else the statement. `also` holds
    other licences that the page names; {} if it names none at all.
    """
    if not stated:
        return None, {}
    named = [spdx_of(one.value) or one.value for one in stated]
    decision: dict[str, Any] = {"stated": stated[0].value, "where": stated[0].where}
    others = [name for name in dict.fromkeys(named) if name != named[0]]
    return named[0], {"licence": decision | ({"also": others} if others else {})}


def spdx_of(value: str) -> str | None:
    """SPDX expression for an address, an identifier, an expression or a name; None if unknown."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    value = value.strip()
    creative = _creative_commons(value)
    if creative:
        return creative
    guesses = [value]
    for pattern, name in ADDRESSES:
        match = re.search(pattern, value, re.IGNORECASE)
        if match:
            groups = [group or "" for group in match.groups()] + ["", ""]
            guesses.insert(0, name.replace(r"\1", groups[0]).replace(r"\2", groups[1]))
            break
    for guess in guesses:
        try:
            return str(canonicalize_license_expression(guess)) if len(guess) < 200 else None
        except (InvalidLicenseExpression, ValueError):
            if guess.startswith(("CC-PDM", "etalab")):  # newer than the library's list
                return guess
    return None


def _in_headers(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    from requests.utils import parse_header_links

    for name, value in headers:
        if name.lower() == "link":
            for link in parse_header_links(value):
                rels = str(link.get("rel", "")).lower().split()
                if "license" in rels and "rsl+xml" not in str(link.get("type", "")):
                    yield str(link["url"])


def _creative_commons(value: str) -> str | None:
    link, name = CC.search(value), CC_NAME.search(value)
    if link:
        parts, version, place = link["parts"].lower(), link["version"], link["place"]
        if not set(re.split("[-+]", parts)) <= {"by", "nc", "nd", "sa"}:
            return None
    elif name:
        parts = "by" + name["parts"].lower().replace(" ", "-")
        version, place = name["version"], None
    elif re.search(r"creative commons .{0,40}attribution", value, re.IGNORECASE):
        lower = value.lower()
        order = dict.fromkeys(short for word, short in CC_WORDS.items() if word in lower)
        parts, place = "-".join(order), None
        digits = re.search(r"\d\.\d", value)
        version = digits[0] if digits else None
    else:
        return None
    whole = "-".join(["CC", *re.split("[-+]", parts.upper()), *([version] if version else [])])
    if place:
        whole += f"-{place.upper().replace('GB', 'UK')}"
        return whole if whole in PORTED else f"LicenseRef-{whole}"
    return whole if version else f"LicenseRef-{whole}"


def _tags(tree: Any, creative_commons: bool) -> Iterator[Any]:
    """Tags that may say something; most have no attribute that could."""
    telling = {"rel", "property", "itemprop", *(("href", "resource") if creative_commons else ())}
    for tag in tree.iter(*TAGS) if tree is not None else ():
        if tag.tag in ("meta", "script") or not telling.isdisjoint(tag.keys()):
            yield tag


def _in_sentences(source: str, lower: str) -> Iterator[str]:
    """Looked for around the word that stands in all of them, and only where a name follows it."""
    at, read = lower.find("under"), 0
    while at >= 0:
        if any(name in lower[at : at + AFTER] for name in NAMES):
            match = SENTENCE.search(source, max(read, at - BEFORE), at + AFTER)
            if match and match.start() < at:  # of a later one the end may be cut off
                yield match["name"].strip()
                read = match.end()
        at = lower.find("under", max(read, at + 5))


def _in_tag(tag: Any) -> Iterator[Stated]:
    target = str(tag.get("href") or tag.get("resource") or "").strip()
    kind = str(tag.get("type") or "").lower()
    rels = set(f"{tag.get('rel') or ''} {tag.get('property') or ''}".lower().split())
    if tag.tag == "script":
        yield from _in_script(kind, tag.text or "")
    elif tag.tag == "meta":
        names = (str(tag.get(name) or "") for name in ("name", "property", "itemprop"))
        content = str(tag.get("content") or "").strip()
        if content and any(name and META.match(name) for name in names):
            yield Stated("microdata" if tag.get("itemprop") else "meta", content)
    elif kind == "application/rsl+xml":
        return  # its terms are read as a reservation
    elif rels & RELS and target:
        yield Stated("rel=license", target)
    elif "license" in str(tag.get("itemprop") or "").lower().split():
        value = target or "".join(tag.itertext()).strip()
        if value:
            yield Stated("microdata", value)
    elif CC_LINK.search(target):
        yield Stated("link", target)


def _in_script(kind: str, text: str) -> Iterator[Stated]:
    if kind == "application/ld+json":
        try:
            yield from (Stated("JSON-LD", value) for value in _licences(json.loads(text)))
        except (ValueError, RecursionError):
            return
    elif kind == "application/rsl+xml":
        for match in re.finditer(r"<standard[^>]*>\s*([^<\s]+)\s*</standard>", text):
            yield Stated("rsl", match[1])


def _licences(value: Any) -> Iterator[str]:
    """Values of `license` in JSON-LD, those of the outer things first."""
    if isinstance(value, list):
        for inner in value:
            yield from _licences(inner)
    elif isinstance(value, dict):
        for told in value.get("license"), value.get("schema:license"):
            for one in told if isinstance(told, list) else [told]:
                if isinstance(one, dict):
                    one = one.get("@id") or one.get("url") or one.get("name")
                if isinstance(one, str) and one.strip():
                    yield one.strip()
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from _licences(inner)
