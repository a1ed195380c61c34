"""What the demo site holds: which text becomes which page, and the truth about each page."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ingest.demo.annex import refused
from ingest.demo.pii import plant
from ingest.demo.texts import Article, atlas_articles, wiki_articles

__all__ = ["ATLAS", "SIGNALS", "WIKI", "Planned", "plan"]

ATLAS, WIKI = "atlas.example", "wiki.example"
"""Names that RFC 2606 reserves: they can belong to nobody."""

SIGNALS: dict[str, tuple[str, dict[str, str]]] = {
    "meta-noai": ('<meta name="robots" content="noai, noimageai">\n', {}),
    "meta-noindex": ('<meta name="robots" content="NoIndex">\n', {}),
    "meta-none": ('<meta name="robots" content="none">\n', {}),
    "meta-tdm": ('<meta name="tdm-reservation" content="1">\n', {}),
    "header-noai": ("", {"X-Robots-Tag": "noai"}),
    "header-noindex": ("", {"X-Robots-Tag": "noindex, nofollow"}),
    "header-tdm": ("", {"TDM-Reservation": "1"}),
    "header-content-usage": ("", {"Content-Usage": "bots=y, train-ai=n"}),
    "header-content-signal": ("", {"Content-Signal": "search=yes, ai-train=no"}),
    "header-rsl": ("", {"Link": '</terms.xml>; rel="license"; type="application/rsl+xml"'}),
    "link-rsl": ('<link rel="license" type="application/rsl+xml" href="/terms.xml">\n', {}),
    "robots-ai-agent": ("", {}),
    "robots-content-usage": ("", {}),
    "site-tdmrep": ("", {}),
    "site-ai-txt": ("", {}),
    "site-rsl": ("", {}),
}
"""Ways to refuse training -> (tags for the head, response headers)."""

FOLDERS = {
    "robots-ai-agent": "members",
    "robots-content-usage": "columns",
    "site-tdmrep": "reserved",
    "site-ai-txt": "studio",
    "site-rsl": "licensed",
}
"""Where the pages lie of which robots.txt or a file beside it speaks; others are essays."""

SHARES = {
    "exact-duplicate": 0.03, "near-duplicate": 0.04, "disallowed": 0.03, "opt-out": 0.04,
    "french": 0.05, "spanish": 0.04, "thin": 0.02, "spam": 0.02, "wrong-charset": 0.01,
}
LEAST = {"opt-out": len(SIGNALS), "thin": 2, "spam": 3, "wrong-charset": 2}
SPAM_WORDS = ("cheap", "best", "offer", "buy", "discount", "watch", "deal", "bonus", "online")
PII_SHARE = 0.05


@dataclass(frozen=True)
class Planned:
    """One article page; `truth()` is what the scorer may know and the crawler may not."""

    host: str
    path: str
    kind: str
    article: Article
    template: int
    group: str = ""
    """Pages of one group hold the same text, or nearly."""
    signal: str = ""
    pii: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """Canonical address."""
        return f"http://{self.host}{self.path}"

    def truth(self) -> dict[str, Any]:
        """url, kind, language, group, planted PII, main text."""
        article = self.article
        parts = [article.title]
        for heading, texts in article.sections:
            parts += [heading, *texts] if heading else texts
        return {
            "url": self.url, "kind": self.kind, "language": article.language,
            "group": self.group, "signal": self.signal, "pii": self.pii, "text": "\n".join(parts),
        }


def plan(pages: int, seed: int) -> list[Planned]:
    """About `pages` article pages, the same for the same arguments, sorted by URL."""
    draw = random.Random(f"plan/{seed}")
    counts = {kind: max(LEAST.get(kind, 2), int(pages * s)) for kind, s in SHARES.items()}
    english = max(pages - sum(counts.values()), 8)
    spare = counts["disallowed"] + counts["opt-out"] + counts["wrong-charset"]
    atlas = atlas_articles((english + spare) // 2, seed)
    wiki = wiki_articles(english + spare - len(atlas), seed, "en")
    pool = [(ATLAS, article) for article in atlas] + [(WIKI, article) for article in wiki]
    draw.shuffle(pool)
    made = list(_special(pool[:spare], counts, draw))
    articles = list(_articles(pool[spare:], draw))
    made += articles
    made += _duplicates(articles, counts, draw)
    for kind, language in (("french", "fr"), ("spanish", "es")):
        found = wiki_articles(counts[kind], seed, language)
        made += [_page(WIKI, language, kind, article, draw) for article in found]
    made += [_page(WIKI, "en", "thin", _thin(i), draw) for i in range(counts["thin"])]
    made += [_page(ATLAS, "offers", "spam", _spam(i, draw), draw) for i in range(counts["spam"])]
    made += [
        Planned(host, path, "opt-out", article, 0, signal=signal)
        for host, path, signal, article in refused()
    ]
    unique = {page.url: page for page in made}
    return sorted(unique.values(), key=lambda page: page.url)


def _articles(pool: list[tuple[str, Article]], draw: random.Random) -> Iterator[Planned]:
    with_pii = max(6, int(PII_SHARE * len(pool)))
    for index, (host, article) in enumerate(pool):
        page = _page(host, "countries" if host == ATLAS else "en", "article", article, draw)
        page = replace(page, group=page.url)
        if index < with_pii:
            sentence, planted = plant(index, draw)
            page = replace(page, article=_append(article, sentence), pii=planted)
        yield page


def _special(
    pool: list[tuple[str, Article]], counts: dict[str, int], draw: random.Random
) -> Iterator[Planned]:
    places = ("private", "drafts", "search")
    named = ("disallowed", "opt-out", "wrong-charset")
    kinds = [kind for kind in named for _ in range(counts[kind])]
    for index, ((host, article), kind) in enumerate(zip(pool, kinds, strict=False)):
        if kind == "disallowed":
            yield _page(host, places[index % 3], kind, article, draw)
        elif kind == "opt-out":
            signal = list(SIGNALS)[index % len(SIGNALS)]
            folder = FOLDERS.get(signal, "essays")
            yield replace(_page(host, folder, kind, article, draw), signal=signal)
        else:
            accents = "Café Zoë, Señor Nuñez & Übermut — déjà vu."
            page = _page(host, "legacy", kind, _append(article, accents), draw)
            yield replace(page, group=page.url, signal=("latin", "utf8")[index % 2])


def _duplicates(
    articles: list[Planned], counts: dict[str, int], draw: random.Random
) -> Iterator[Planned]:
    # Short texts are left out: two changed words in fifty make another text, not a near-duplicate.
    fit = [page for page in articles if len(" ".join(page.article.paragraphs)) > 900]
    fit = draw.sample(fit, min(len(fit), counts["exact-duplicate"] + counts["near-duplicate"]))
    for index, page in enumerate(fit):
        exact = index < counts["exact-duplicate"]
        kind, folder = ("exact-duplicate", "print") if exact else ("near-duplicate", "mirror")
        article = page.article if exact else _edited(page.article, draw)
        copy = _page(page.host, folder, kind, article, draw)
        yield replace(copy, group=page.group, pii=page.pii, template=page.template + 1)


def _page(
    host: str, folder: str, kind: str, article: Article, draw: random.Random
) -> Planned:
    slug = re.sub(r"[^a-z0-9]+", "-", article.title.lower()).strip("-") or "page"
    return Planned(host, f"/{folder}/{slug}.html", kind, article, draw.randrange(4))


def _append(article: Article, paragraph: str) -> Article:
    heading, texts = article.sections[-1]
    return replace(article, sections=(*article.sections[:-1], (heading, (*texts, paragraph))))


def _edited(article: Article, draw: random.Random) -> Article:
    """The same text, two words in a hundred changed at one place each paragraph."""
    def edit(text: str) -> str:
        words = text.split(" ")
        if len(words) > 60:
            at = draw.randrange(len(words) - 2)
            words[at : at + 2] = ["formerly", "known"]
        return " ".join(words)

    sections = tuple(
        (heading, tuple(edit(text) for text in texts)) for heading, texts in article.sections
    )
    return _append(replace(article, sections=sections), "This copy was kept for the record.")


def _thin(index: int) -> Article:
    text = f"This page, number {index + 1}, is still empty. Come back later for more."
    return Article(f"thin/{index}", f"Coming soon {index + 1}", "en", (("", (text,)),))


def _spam(index: int, draw: random.Random) -> Article:
    words = draw.sample(SPAM_WORDS, 5)
    texts = (
        " ".join(words * 60) + ".",
        " ".join("Lorem ipsum dolor sit amet, consectetur adipiscing elit." for _ in range(30)),
        "\n".join(f"Click here to win {words[0]} {words[1]} now!" for _ in range(40)),
    )
    return Article(f"spam/{index}", f"Offer {index + 1}", "en", (("", (texts[index % 3],)),))
