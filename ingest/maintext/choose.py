"""A page's blocks -> those of its main text."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ingest.maintext.features import features
from ingest.maintext.forest import Trees, shipped
from ingest.maintext.segment import Page
from ingest.maintext.votes import votes

__all__ = ["THRESHOLD", "choose", "doubt"]

THRESHOLD = 0.35
"""Below a half: a lost paragraph is worse for a corpus than a line too many (docs/decisions.md)."""


def choose(
    page: Page, advise: Callable[[], str], always: bool, trees: Trees | None = None
) -> str:
    """Main text of a page; `trees` other than the shipped ones are for measuring.

    `advise` gives the main text as another extractor sees it. It is asked `always`, or only about
    pages in doubt; where doubt is left, its text is taken as it is.
    """
    if not page.texts:
        return ""
    trees = trees or shipped()
    known = features(page)
    advice = advise() if always else ""
    if always:
        likely = trees.advised(np.vstack([known, votes(page.texts, advice)]))
    else:
        likely = trees.alone(known)
    limit = trees.advised_limit if always else trees.alone_limit
    if doubt(page.texts, likely) > limit and (other := advice or advise()):
        return other
    return "\n".join(
        text for text, p in zip(page.texts, likely, strict=True) if p > THRESHOLD
    )


def doubt(texts: list[str], likely: Any) -> float:
    """Characters expected to be wrong for each right one, more for a page of few.

    A text of a few hundred characters is often not the article but a notice beside it.
    """
    n = np.array([len(text) for text in texts], np.float64)
    wrong = (n * np.minimum(likely, 1 - likely)).sum() / max((n * likely).sum(), 1.0)
    return float(wrong + 200 / max(n[likely > THRESHOLD].sum(), 50))
