"""What a page says about itself: links, meta tags, canonical address, feeds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.links import canonical_url, resolved

__all__ = ["PageTags", "metas_of", "parse_page", "read_tags", "tags_of"]

MAX_LINKS = 5_000
RSL_TYPE = "application/rsl+xml"
FEEDS = ("application/rss+xml", "application/atom+xml", "application/rdf+xml")
LICENCE_LINK = re.compile(r"//creativecommons\.org/(?:licenses|publicdomain)/", re.I)
CROWDED = re.compile(
    rb"<([a-zA-Z][\w-]*+)"
    rb"(?:[\s/]++[^\s=<>\"'/]++(?:=(?:\"[^\"]*+\"|'[^']*+'|[^\s>\"']*+))?+){200,}+"
)
LONG_TAG = 20_000
REFRESH = re.compile(r"\s*[\d.]+\s*[;,]\s*(?:url\s*=)?\s*['\"]?([^'\"]+)", re.I)


@dataclass(frozen=True)
class PageTags:
    """The tags of one page that a crawler reads."""

    links: tuple[str, ...]
    """Canonical targets of `<a href>` without rel=nofollow, in page order, no doubles."""
    metas: Mapping[str, str]
    """`<meta name>` in lower case -> content; same names joined by a comma. `rsl`: an RSL licence
    that a `<link>` names."""
    canonical: str | None = None
    """Where the page says that it belongs (rel=canonical)."""
    feeds: tuple[str, ...] = ()
    """RSS and Atom feeds that it names."""


def parse_page(page: str) -> Any:
    """The tree of an HTML page (lxml) without comments, whatever is wrong with it; None if there
    is none."""
    from lxml import etree

    # lxml and not html.parser: the latter is quadratic on `<!--` (12.8 s for 160 KB). As bytes,
    # because text with an XML declaration is refused; without NUL, at which it would stop.
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, collect_ids=False
    )
    data = _uncrowded(page.replace("\0", "").encode("utf-8", "replace"))
    try:
        return etree.fromstring(data, parser) if data else None
    except etree.XMLSyntaxError:
        return None


def _uncrowded(source: bytes) -> bytes:
    """Tags of hundreds of attributes without these: parsers compare each with each."""
    begin = 0
    while begin + LONG_TAG < len(source):
        end = source.rfind(b">", begin, begin + LONG_TAG)
        if end < 0:
            return CROWDED.sub(rb"<\1", source)
        begin = end + 1
    return source


def read_tags(page: str, url: str) -> PageTags:
    """Links and meta tags of an HTML page that was fetched from `url`."""
    return tags_of(parse_page(page), url)


def tags_of(tree: Any, url: str) -> PageTags:
    """The same of a page that is parsed."""
    found = _Tags(url)
    for tag in tree.iter("a", "area", "link", "meta", "base") if tree is not None else ():
        _READERS[tag.tag](found, tag)
    return PageTags(
        tuple(found.links)[:MAX_LINKS], found.metas, found.canonical,
        tuple(found.feeds),
    )


def metas_of(tree: Any, url: str) -> Mapping[str, str]:
    """`tags_of(tree, url).metas` alone: no link is resolved for it."""
    found = _Tags(url)
    for tag in tree.iter("a", "area", "link", "meta", "base") if tree is not None else ():
        if tag.tag == "meta":
            _add_meta(found.metas, tag.get("name") or "", tag.get("content") or "")
        elif tag.tag == "base" or (tag.get("type") or "").lower() == RSL_TYPE:
            _READERS[tag.tag](found, tag)
    return found.metas


@dataclass
class _Tags:
    base: str
    links: dict[str, None] = field(default_factory=dict)
    metas: dict[str, str] = field(default_factory=dict)
    canonical: str | None = None
    feeds: dict[str, None] = field(default_factory=dict)


def _read_base(found: _Tags, tag: Any) -> None:
    found.base = _target(found, tag) or found.base


def _read_meta(found: _Tags, tag: Any) -> None:
    name, content = tag.get("name") or "", tag.get("content") or ""
    _add_meta(found.metas, name, content)
    if (tag.get("http-equiv") or "").lower() == "refresh":
        match = REFRESH.match(content)
        target = canonical_url(match[1], found.base) if match else None
        if target:
            found.links[target] = None


def _read_link(found: _Tags, tag: Any) -> None:
    target = _target(found, tag)
    rels, kind = (tag.get("rel") or "").lower().split(), (tag.get("type") or "").lower()
    if target is None:
        return
    if "license" in rels and kind == RSL_TYPE:
        _add_meta(found.metas, "rsl", target)
    elif "canonical" in rels:
        found.canonical = found.canonical or target
    elif "alternate" in rels and kind in FEEDS:
        found.feeds[target] = None


def _read_anchor(found: _Tags, tag: Any) -> None:
    target = _target(found, tag)
    if target is None:
        return
    rel = tag.get("rel")
    rels = rel.lower().split() if rel else ()
    if "license" in rels and (tag.get("type") or "").lower() == RSL_TYPE:
        _add_meta(found.metas, "rsl", target)
    elif not ("nofollow" in rels or "license" in rels or _is_licence(target)):
        found.links[target] = None


_READERS = {
    "base": _read_base, "meta": _read_meta, "link": _read_link, "a": _read_anchor,
    "area": _read_anchor,
}


def _is_licence(target: str) -> bool:
    return "creativecommons" in target and LICENCE_LINK.search(target) is not None


def _target(found: _Tags, tag: Any) -> str | None:
    href = tag.get("href")
    return resolved(href, found.base) if href else None


def _add_meta(metas: dict[str, str], name: str, content: str) -> None:
    if name and content:
        key = name.strip().lower()
        metas[key] = f"{metas[key]},{content}" if key in metas else content
