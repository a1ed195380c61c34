"""A page's blocks -> those of its main text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ingest.maintext.features import features
from ingest.maintext.forest import Trees, shipped
from ingest.maintext.segment import TAG, Page, without
from ingest.maintext.votes import votes

__all__ = ["THRESHOLD", "choose", "doubt", "hopeful"]

THRESHOLD = 0.35
"""Below a half: a lost paragraph is worse for a corpus than a line too many (docs/decisions.md)."""
HOPELESS = 0.01
"""Elements that hold nothing likelier than this are not shown to the other extractor."""


def choose(
    page: Page, advise: Callable[[bytes | None], str], always: bool, trees: Trees | None = None
) -> str:
    """Main text of a page; `trees` other than the shipped ones are for measuring.

    `advise` gives the main text as another extractor sees it, of some markup or, with None, of the
    page as it came. It is asked `always`, or only about pages in doubt and what is left of them
    without sure clutter; where doubt is left, its text is taken as it is. It is not asked about
    pages with more elements than characters of text, which cost it seconds and hold none.
    """
    if not page.texts:
        return ""
    trees = trees or shipped()
    known = features(page)
    asked = sum(map(len, page.texts)) > len(page.tag)
    always = always and asked
    advice = advise(None) if always else ""
    if always:
        likely = trees.advised(np.vstack([known, votes(page.texts, advice)]))
    else:
        likely = trees.alone(known)
    limit = trees.advised_limit if always else trees.alone_limit
    if asked and doubt(page.texts, likely) > limit:
        other = advice if always else advise(hopeful(page, likely))
        if other:
            return other
    return "\n".join(
        text for text, p in zip(page.texts, likely, strict=True) if p > THRESHOLD
    )


def hopeful(page: Page, likely: Any) -> bytes:
    """The page's markup without elements that surely hold no main text; `likely` [B].

    Those with a main heading stay: the other extractor goes by it. Without any hope all stays.
    """
    wanted = (likely > HOPELESS) | (page.tag[page.element] == TAG["h1"])
    if not wanted.any():
        return page.markup
    hope = np.append(0, np.cumsum(wanted))
    return without(page, hope[page.last] == hope[page.first])


def doubt(texts: list[str], likely: Any) -> float:
    """Characters expected to be wrong for each right one, more for a page of few.

    A text of a few hundred characters is often not the article but a notice beside it.
    """
    n = np.fromiter(map(len, texts), np.float64, len(texts))
    wrong = (n * np.minimum(likely, 1 - likely)).sum() / max((n * likely).sum(), 1.0)
    return float(wrong + 200 / max(n[likely > THRESHOLD].sum(), 50))
