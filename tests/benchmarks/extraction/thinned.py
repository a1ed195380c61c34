"""Copies of labelled pages with other proportions: short articles, long clutter, names that say
nothing. A few hundred pages do not show all of these, and trees that never saw them are sure of
themselves where they are wrong."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ingest.maintext.segment import Page

__all__ = ["thinned"]

FEW = 6
"""Blocks of the shortest articles."""


def thinned(page: Page, true: Any, count: int, seed: tuple[int, int]) -> Iterator[tuple[Page, Any]]:
    """Up to `count` pages made of a page, and which blocks [B] of it each kept.

    `true` [B]: shares of main text. What would be without main text is left out.
    """
    rng = np.random.default_rng(seed)
    article, clutter = np.flatnonzero(true > 0.5), np.flatnonzero(true <= 0.5)
    for _ in range(count):
        kept = np.ones(len(true), bool)
        if rng.random() < 0.6 and len(article) > 3:
            most = len(article) if rng.random() < 0.5 else min(FEW, len(article))
            size = int(rng.integers(1, most))
            start = 0 if rng.random() < 0.7 else int(rng.integers(len(article) - size + 1))
            kept[np.delete(article, slice(start, start + size))] = False
        if rng.random() < 0.4 and len(clutter) > 4:
            start = int(rng.integers(len(clutter)))
            kept[clutter[start : int(rng.integers(start, len(clutter)))]] = False
        if kept.sum() > 1 and kept[article].any():
            yield _unnamed(_of_blocks(page, kept), rng), kept


def _of_blocks(page: Page, kept: Any) -> Page:
    before = np.append(0, np.cumsum(kept))
    texts = [text for text, keeps in zip(page.texts, kept, strict=True) if keeps]
    return dataclasses.replace(
        page, texts=texts, element=page.element[kept], linked=page.linked[kept],
        strong=page.strong[kept], links=page.links[kept], broken=page.broken[kept],
        first=before[page.first], last=before[page.last],
    )


def _unnamed(page: Page, rng: np.random.Generator) -> Page:
    """Some pages without a title, or without all or some of what names of elements say."""
    lost = rng.random(len(page.hints)) < rng.choice((0, 0, 0, 0.3, 1))
    title = "" if rng.random() < 0.2 else page.title
    return dataclasses.replace(page, hints=np.where(lost, 0, page.hints), title=title)
