"""A page's blocks -> those of its main text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ingest.maintext.features import features
from ingest.maintext.forest import Trees, shipped
from ingest.maintext.segment import TAG, Page, without

__all__ = ["THRESHOLD", "choose", "disagreement", "hopeful"]

THRESHOLD = 0.4
"""Below a half: a lost paragraph is worse for a corpus than a line too many (docs/decisions.md)."""
HOPELESS = 0.01
"""Elements that hold nothing likelier than this are not shown to the other extractor."""


def choose(
    page: Page, advise: Callable[[bytes], str], mode: str, trees: Trees | None = None
) -> str:
    """Main text of a page; `trees` other than the shipped ones are for measuring.

    `advise` gives the main text as another extractor sees it, of some markup. It is asked about
    pages on which the parts of the forest disagree, without the clutter of which they are sure. It
    is not asked about pages with more elements than characters of text, which cost it seconds and
    hold none.
    """
    if not page.texts:
        return ""
    trees = trees or shipped()
    judgements = trees.forest(features(page))
    likely = judgements.mean(axis=0)
    asked = sum(map(len, page.texts)) > len(page.tag)
    if asked and disagreement(page.texts, judgements) > trees.limits[mode]:
        other = advise(hopeful(page, likely))
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


def disagreement(texts: list[str], judgements: Any) -> float:
    """How far the choices of single parts [parts, B] are from that of all, from 0 to 1.

    Mean of 1 - F1 by characters, after query by committee: Seung et al. 1992,
    https://doi.org/10.1145/130385.130417. A page of which nothing is chosen counts as 1.
    """
    n = np.fromiter(map(len, texts), np.float64, len(texts))
    whole, single = judgements.mean(axis=0) > THRESHOLD, judgements > THRESHOLD
    right, size = (single & whole) @ n, single @ n + n[whole].sum()
    return float(1 - (2 * right / np.maximum(size, 1)).mean())
