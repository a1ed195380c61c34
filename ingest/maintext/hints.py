"""What the class, id, role or itemprop of an element says about its content."""

import re
from functools import lru_cache

__all__ = ["AWAY", "FRAMED", "HINTS", "hints_of"]

HINTS = {
    "text": "article story entry post body content text main prose blog markdown wysiwyg rich "
            "paragraph contenu inhalt texto artikel",
    "comment": "comment disqus replies reply discuss respond kommentar",
    "aside": "side aside rail widget secondary complementary infobox",
    "menu": "nav menu crumb topbar toolbar pagination pager skip toc",
    "frame": "foot header masthead copyright legal banner",
    "share": "share sharing social facebook twitter follow tweet",
    "promo": "promo sponsor advert outbrain taboola affiliate partner shop buy product adslot dfp",
    "related": "related recommend more recirc popular trending latest also similar teaser card "
               "list feed carousel next",
    "byline": "author byline bio meta date time contributor profile avatar posted",
    "caption": "caption credit figure image photo media gallery video slide",
    "form": "newsletter subscri signup login register form search consent cookie gdpr",
    "hidden": "hidden modal popup overlay tooltip print reader visually",
    "tags": "tags category categories topic label keyword",
    "heading": "headline title heading",
    "summary": "summary subtitle dek standfirst excerpt lead intro abstract deck description",
    "quote": "quote pull note factbox callout highlight embed",
}
"""Kinds of elements, by parts of words in their names."""
WHOLE = {"ad": "promo", "ads": "promo", "sr": "hidden", "tag": "tags"}
FRAME = re.compile(
    "(?:article|entry|post|story|page|news|blog|single|theme|art)[-_]{0,2}"
    "(?:body|content|text|copy|inner|main|entry)|(?:body|full)[-_]?text|"
    "(?:main|primary)[-_]?(?:content|column|text|article)|content[-_]{0,2}(?:body|main|text)|"
    "^(?:content|main|story|article|post|entry|text)$"
)
"""Names that publishing systems give to the element around a page's main text."""
AWAY = ("comment", "aside", "menu", "frame", "share", "promo", "related", "form", "hidden")
"""Kinds that rarely hold main text."""

NUMBER = {kind: bit for bit, kind in enumerate(HINTS)}
PART = {kind: re.compile("|".join(words.split())) for kind, words in HINTS.items()}
WORD = re.compile("[a-z]+")
ATTRIBUTE = re.compile(
    rb' (?:(?:class|id|role|itemprop)="([^"]*)|'
    rb'(hidden="|aria-hidden="true"|style="[^"]*display: ?none))'
)
HIDDEN = 1 << NUMBER["hidden"]
FRAMED = 1 << len(HINTS)
AWAY_BITS = sum(1 << NUMBER[kind] for kind in AWAY)
LONGEST = 200


@lru_cache(maxsize=20_000)
def hints_of(tag: bytes) -> int:
    """A bit for each kind of `HINTS` that a start tag (well-formed) speaks of, and `FRAMED`."""
    bits = 0
    for names, hidden in ATTRIBUTE.findall(tag):
        if hidden:
            bits |= HIDDEN
        for name in names[:LONGEST].decode("utf-8", "replace").lower().split():
            bits |= _of_name(name)
    return bits


@lru_cache(maxsize=20_000)
def _of_name(name: str) -> int:
    bits = 0
    for word in WORD.findall(name):
        bits |= _of_word(word)
    return bits if bits & AWAY_BITS or not FRAME.search(name) else bits | FRAMED


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> int:
    bits = sum(1 << NUMBER[kind] for kind, part in PART.items() if part.search(word))
    return bits | (1 << NUMBER[WHOLE[word]] if word in WHOLE else 0)
