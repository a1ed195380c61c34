"""A dump of a wiki (pages-articles, .xml or .xml.bz2): articles without their markup.

Format: https://www.mediawiki.org/wiki/Help:Export. The markup is taken off by mwparserfromhell.
"""

import bz2
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from urllib.parse import quote

from pydantic import Field

from ingest.fetch import FetchConfig
from ingest.sources.found import TEXT, Found, Source, files_under, sha256_of

__all__ = ["WikipediaConfig", "plain_text"]

ENDINGS = (".xml", ".xml.bz2")
LEFT_OUT = {"ref", "table", "gallery", "math", "timeline", "imagemap", "syntaxhighlight", "score"}
"""Tags whose inside is no running text."""
BACK_MATTER = re.compile(
    r"^=+\s*(see also|references|notes|external links|further reading|bibliography|sources)\s*=+",
    re.I | re.M,
)
LINK_OF_KIND = re.compile(r"^:?\w[\w ]*:(?!\s)")
"""File:, Category: and links to other languages."""


class WikipediaConfig(Source):
    """Articles of a dump."""

    kind: ClassVar[str] = "wiki"

    dump: tuple[str, ...] = ()
    """Files of a pages-articles dump, or folders of them."""
    least_chars: int = Field(200, ge=0)
    """Characters that an article must have without its markup."""
    most: int = Field(1_000_000, ge=1)
    """Articles to take."""
    licence: str = "https://creativecommons.org/licenses/by-sa/4.0/"
    """Address of the wiki's licence."""

    @property
    def wanted(self) -> bool:
        """Whether a dump is named."""
        return bool(self.dump)

    def fingerprint(self) -> str:
        """Over the dump's bytes."""
        return sha256_of(files_under(self.dump, ENDINGS, "gather.wikipedia.dump"))

    def without_paths(self) -> "WikipediaConfig":
        """With the files' names alone."""
        return self.model_copy(update={"dump": tuple(Path(path).name for path in self.dump)})

    def documents(self, fetch: FetchConfig, scratch: Path) -> Iterator[Found]:
        """Articles in the dump's order; what is no article, or moves elsewhere, is passed over."""
        del fetch, scratch
        taken = 0
        for path in files_under(self.dump, ENDINGS, "gather.wikipedia.dump"):
            for page in _pages(path):
                found = page if isinstance(page, Found) else self._article(page)
                yield found
                taken += found.decision == "kept"
                if taken == self.most:
                    return

    def _article(self, page: "_Page") -> Found:
        try:
            text = plain_text(page.markup)
        except Exception as error:  # the parser's own: one article is lost
            return Found(page.url, decision="damaged-record", detail=type(error).__name__)
        if len(text) < self.least_chars:
            return Found(page.url, decision="too-short")
        body = f"{page.title}\n\n{text}".encode()
        return Found(page.url, TEXT, body, licence=self.licence)


def plain_text(markup: str) -> str:
    """Running text of an article: no templates, tables, references, files; link texts stay."""
    import mwparserfromhell

    body = BACK_MATTER.split(markup, maxsplit=1)[0]
    code: Any = mwparserfromhell.parse(body, skip_style_tags=True)
    for node in code.ifilter_tags(matches=lambda tag: str(tag.tag).lower() in LEFT_OUT):
        _remove(code, node)
    for node in code.ifilter_wikilinks(matches=lambda link: LINK_OF_KIND.match(str(link.title))):
        _remove(code, node)
    text = code.strip_code(normalize=True, collapse=True)
    lines = (line.strip(" *#:;") for line in text.replace("'''", "").replace("''", "").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _remove(code: Any, node: Any) -> None:
    try:
        code.remove(node)
    except ValueError:
        return  # it stood in one that is gone


@dataclass(frozen=True)
class _Page:
    url: str
    title: str
    markup: str


def _pages(path: Path) -> Iterator[_Page | Found]:
    """Articles of one file; where it is damaged, what is left of it is one finding."""
    from lxml import etree

    base, number = "https://en.wikipedia.org/wiki/", 0
    unpack: Any = bz2.open if path.name.endswith(".bz2") else open
    with unpack(path, "rb") as file:
        events = etree.iterparse(_Text(file), events=("end",), resolve_entities=False)
        try:
            for _, element in events:
                name = etree.QName(element).localname
                if name == "base" and element.text:
                    base = element.text.rsplit("/", 1)[0] + "/"
                elif name == "page":
                    number += 1
                    page = _page(element, base)
                    if page is not None:
                        yield page
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
        except (etree.XMLSyntaxError, OSError, EOFError) as error:
            detail = f"{type(error).__name__} behind page {number}"
            yield Found(f"file:///{quote(path.name)}#{number}", decision="damaged-file",
                        detail=detail)


def _page(element: Any, base: str) -> _Page | None:
    of = {child.tag.rpartition("}")[2]: child for child in element}
    if "redirect" in of or not {"title", "ns", "revision"} <= of.keys() or of["ns"].text != "0":
        return None
    texts = [child for child in of["revision"] if child.tag.rpartition("}")[2] == "text"]
    title, markup = of["title"].text or "", texts[0].text if texts else ""
    return _Page(base + quote(title.replace(" ", "_"), safe="/:(),"), title, markup or "")


class _Text:
    """Nothing but `read`: lxml then cannot look at a name and open the file itself."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
