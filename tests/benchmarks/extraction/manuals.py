"""Pages of manuals with their main text, as a second kind of page to train on, beside articles.

Truth is what a page's own template marks as its content, without what the template adds to it. The
packages are others than those that `tests.benchmarks.cleaned.pages` measures with.
"""

import random
from functools import cache
from pathlib import Path
from typing import Any

from lxml import html

from ingest.decode import decode
from ingest.language import surely_other
from tests.benchmarks.cleaned.pages import unpacked
from tests.benchmarks.extraction.pages import Sample

__all__ = ["LEAST_TRUTH", "manuals", "truth_of"]

PACKAGES = (
    "aptitude-doc-en", "bind9-doc", "cmake-doc", "debian-reference-en", "developers-reference",
    "erlang-doc", "exim4-doc-html", "fp-docs-3.2.2", "ghc-doc", "gimp-help-en", "git-doc",
    "installation-guide-amd64", "libboost1.74-doc", "libglib2.0-doc", "libgtk-3-doc",
    "libreoffice-help-en-us", "libstdc++-12-doc", "lilypond-doc-html", "linux-doc-6.1",
    "maint-guide", "maxima-doc", "octave-doc", "openjdk-17-doc", "python-django-doc",
    "python-scipy-doc", "python-sqlalchemy-doc", "qtbase5-doc-html", "rust-doc", "sbcl-doc",
    "varnish-doc", "zsh-doc",
)
CONTENT = (
    "[role=main]", "main", "#docs-body", "#page-content", "div.contents", "div.mainContent",
    "#content", "#DisplayArea", "#yui-main", "#main", "body",
)
"""Where templates put the content; the first that a page has counts."""
ADDED = (
    "head, script, style, noscript, nav, footer, aside, form, [role=navigation], [role=search], "
    ".related, .sphinxsidebar, .navheader, .navfooter, .toc, .toctree-wrapper, .topic.contents, "
    ".contents.local, .navigation, .spirit-nav, .topbar, .footer, #footer, #package-header, "
    ".relatedtopics, .headerlink, .previous_page, .next_page, .toc_page, table.bar, .docnav, "
    ".viewcode-link, .copyright-footer, .breadcrumb, .flex-header, .sub-nav, .up, .bottomlang, "
    ".mobile-topbar, .sidebar, .nosearch, #mainmenu, .top-nav, .index-only, .navpath, #tocframe, "
    "table.header, ul.nav, #path, #quickview, .toplang, .prev-next-bottom"
)
LISTS = ("index", "search", "class-use", "package-tree", "allclasses", "functions", "toc", "all.")
"""In names of files that hold lists of links."""
SMALLEST, LARGEST = 1_500, 60_000
LEAST_TRUTH, MOST_LINKED, TRIES = 200, 0.6, 6


def manuals(work: Path, each: int = 12) -> list[Sample]:
    """English pages, up to `each` of a package, the same each time. Needs apt-get and dpkg-deb."""
    found = []
    for package in PACKAGES:
        files = [path for path in sorted(unpacked(package, work).rglob("*.html")) if _usable(path)]
        random.Random(package).shuffle(files)
        own: dict[str, Sample] = {}
        for path in files[: each * TRIES]:
            body = path.read_bytes()
            truth = truth_of(body)
            if len(truth) >= LEAST_TRUTH and len(own) < each:
                own.setdefault(truth, Sample(body, truth, ""))
        found += own.values()
    return found


def _usable(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or any(word in path.name for word in LISTS):
        return False
    return SMALLEST < path.stat().st_size < LARGEST


def truth_of(body: bytes) -> str:
    """The text that a page's template marks as its content; empty if it is in other languages or
    most of it leads elsewhere."""
    tree = html.document_fromstring(decode(body, "text/html").encode(), html.HTMLParser(
        encoding="utf-8", remove_comments=True, remove_pis=True))
    if surely_other(tree.itertext(), ("en",)):
        return ""
    content = next(found[0] for name in CONTENT if (found := _selector(name)(tree)))
    for added in [*_selector(ADDED)(content), *_texinfo_heads(content)]:
        if added is not content:
            added.drop_tree()
    text = _text(content)
    linked = sum(len(_text(link)) for link in content.iter("a"))
    return text if linked < MOST_LINKED * len(text) else ""


def _texinfo_heads(content: Any) -> list[Any]:
    """Lines of links with access keys, above and below a node."""
    keyed = _selector("a[accesskey]")
    return [element for element in _selector("div.header, p")(content) if keyed(element)]


@cache
def _selector(name: str) -> Any:
    from lxml.cssselect import CSSSelector

    return CSSSelector(name)


def _text(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())
