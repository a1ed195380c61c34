"""Blocks of a page -> what a classifier may know of each, one column a feature.

Shapes: B blocks, E elements, L levels of containers.
"""
# ruff: noqa: SIM905

from typing import Any

import numpy as np

from ingest.maintext.hints import AWAY_BITS, FRAMED, HINTS
from ingest.maintext.segment import TAG, Page
from ingest.maintext.wording import WORDING, wording

__all__ = ["FEATURES", "features"]

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

LEVELS = 5
PLACES = "article main header footer nav aside ul table form figure li blockquote".split()
NEIGHBOURS = (1, 2, 3, -1, -2, -3)
CONTAINER = "n linked good goodshare p blocks mean position goods tag".split()

FEATURES = (
    [*WORDING, "mean_word", "commas_r", "stops_r", "linked", "links", "strong", "broken", "tag",
     "depth", "position", "number", "share", "blocks", "total", "good_before", "good_after",
     "goodtotal", "goodshare", "in_best", "best_share", "best_position", "score1", "score2",
     "in_frame", "frame_share", "frame_position", "frames",
     "since_h1", "since_title", "since_heading", "heading_lexicon", "to_good", "since_good"]
    + [f"in_{place}" for place in PLACES]
    + [f"near_{kind}" for kind in HINTS] + [f"far_{kind}" for kind in HINTS]
    + [f"c{level}_{name}" for name in CONTAINER for level in range(LEVELS)]
    + [f"at{k}_{name}" for k in NEIGHBOURS for name in ("n", "linked", "tag", "sibling")]
)
ROW = {name: row for row, name in enumerate(FEATURES)}
AWAY_TAGS = sum(1 << TAG[name] for name in ("footer", "nav", "aside", "form"))
FRAME_TAGS = (TAG["article"], TAG["main"])


def features(page: Page) -> Floats:
    """What is known of each block: [len(FEATURES), B]."""
    blocks = len(page.texts)
    out = np.zeros((len(FEATURES), blocks), np.float32)
    text = wording(page.texts, page.title)
    n = text[0].astype(np.float64)
    element, tags = page.element, page.tag[page.element]
    sums = _Sums(n, page.linked, tags)
    near, far, places = _inherited(page, sums.n)
    away = (far[element] & AWAY_BITS > 0) | (places[element] & AWAY_TAGS > 0)
    sums.judge(away)

    out[: len(WORDING)] = text
    out[0], out[1] = np.log1p(n), np.log1p(text[1])

    def put(name: str, values: Any) -> None:
        out[ROW[name]] = values

    put("mean_word", n / text[1])
    put("commas_r", text[3] / text[1])
    put("stops_r", text[4] / text[1])
    put("linked", page.linked)
    put("links", np.minimum(page.links, 20))
    put("strong", page.strong)
    put("broken", page.broken)
    put("tag", tags)
    put("depth", np.minimum(page.depth[element], 40))
    index = np.arange(blocks)
    put("position", sums.n[:-1] / sums.n[-1])
    put("number", index / blocks)
    put("share", n / sums.n[-1])
    put("blocks", np.log(blocks))
    put("total", np.log(sums.n[-1]))
    whole = max(float(sums.good[-1]), 1.0)
    put("good_before", sums.good[:-1] / whole)
    put("good_after", 1 - sums.good[1:] / whole)
    put("goodtotal", np.log1p(whole))
    put("goodshare", whole / sums.n[-1])
    _put_best(out, page, sums, text, away)
    _put_frame(out, page, sums, index)
    _put_distances(out, index, text, tags, sums)
    row = ROW[f"in_{PLACES[0]}"]
    bits = np.array([TAG[place] for place in PLACES])[:, None]
    out[row : row + len(PLACES)] = (places[element] >> bits) & 1
    kinds = np.arange(len(HINTS))[:, None]
    row = ROW[f"near_{next(iter(HINTS))}"]
    out[row : row + len(HINTS)] = (near[element] >> kinds) & 1
    out[row + len(HINTS) : row + 2 * len(HINTS)] = (far[element] >> kinds) & 1
    _put_containers(out, page, sums, index)
    _put_neighbours(out, page, tags)
    return out


class _Sums:
    """Running sums over blocks, so that any element's total is one difference. Length B + 1."""

    def __init__(self, n: Any, linked: Any, tags: Any) -> None:
        self._n, self._linked = n, linked
        self.n, self.linked = _running(n), _running(n * linked)
        self.p = _running(n * (tags == TAG["p"]))

    def judge(self, away: Any) -> None:
        """Good text: long, little of it linked, not where comments and the like are."""
        self.is_good = (self._n >= 80) & (self._linked < 0.3) & ~away
        self.good = _running(self._n * (1 - self._linked) * self.is_good)
        self.goods = _running(self.is_good)


def _running(values: Any) -> Any:
    sums = np.zeros(len(values) + 1)
    np.cumsum(values, out=sums[1:])
    return sums


def _inherited(page: Page, sums: Any) -> tuple[Any, Any, Any]:
    """Per element: hints of it and its two next ancestors, of all; tags of all. [E]

    What the names of an element say that holds nearly all text says nothing about any of it.
    """
    own = np.where(sums[page.last] - sums[page.first] > 0.9 * sums[-1], 0, page.hints)
    up = np.maximum(page.parent, 0)
    near = own | own[up] | own[up[up]]
    far, places = own, 1 << page.tag
    for _ in range(int(page.depth.max()).bit_length()):  # each round reaches twice as far up
        far, places = far | far[up], places | places[up]
        up = up[up]
    return near, far, places


def _put_best(out: Floats, page: Page, sums: _Sums, text: Floats, away: Any) -> None:
    """Which element looks most like the article: Readability's score of its paragraphs."""
    first, last, n = page.first, page.last, text[0]
    points = (1 + text[3] + np.minimum(n / 100, 3)) * (1 - page.linked) * (n >= 25)
    points = points * np.where(away, 0.1, 1.0)
    up = np.maximum(page.parent[page.element], 0)
    above = np.maximum(page.parent[up], 0)
    score = np.bincount(up, points, len(first)) + np.bincount(above, points / 2, len(first))
    held = sums.n[last] - sums.n[first]
    score *= 1 - (sums.linked[last] - sums.linked[first]) / np.maximum(held, 1)
    best = int(score.argmax())
    index = np.arange(len(n))
    out[ROW["in_best"]] = (index >= first[best]) & (index < last[best])
    out[ROW["best_share"]] = held[best] / sums.n[-1]
    size = max(last[best] - first[best], 1)
    out[ROW["best_position"]] = np.clip((index - first[best]) / size, -1, 2)
    top = max(float(score[best]), 1e-9)
    out[ROW["score1"]] = score[up] / top
    out[ROW["score2"]] = score[above] / top


def _put_frame(out: Floats, page: Page, sums: _Sums, index: Ints) -> None:
    """The innermost element that says by its name that it holds the article, and does."""
    named = (page.hints & FRAMED > 0) | (page.tag == FRAME_TAGS[0]) | (page.tag == FRAME_TAGS[1])
    good = (sums.good[page.last] - sums.good[page.first]) * named
    if not good.any():
        out[ROW["frame_position"]] = -2
        return
    frames = np.flatnonzero(good > 0.8 * good.max())
    first, last = page.first[frames[-1]], page.last[frames[-1]]
    out[ROW["in_frame"]] = (index >= first) & (index < last)
    out[ROW["frame_share"]] = good[frames[-1]] / sums.good[-1]
    out[ROW["frame_position"]] = np.clip((index - first) / (last - first), -1, 2)
    out[ROW["frames"]] = min(int(named.sum()), 20)


def _put_distances(out: Floats, index: Ints, text: Floats, tags: Ints, sums: _Sums) -> None:
    """Blocks since the last heading of some kind, and to the next good text."""
    h1 = np.flatnonzero(tags == TAG["h1"])
    heading = np.flatnonzero((tags >= TAG["h1"]) & (tags <= TAG["h3"]))
    out[ROW["since_h1"]] = _since(index, h1, 50)
    out[ROW["since_title"]] = _since(index, np.flatnonzero(text[WORDING.index("title")]), 50)
    out[ROW["since_heading"]] = _since(index, heading, 30)
    if len(heading):
        at = np.searchsorted(heading, index, side="right") - 1
        kinds = text[WORDING.index("lexicon")][heading]
        out[ROW["heading_lexicon"]] = np.where(at >= 0, kinds[np.maximum(at, 0)], -1)
    else:
        out[ROW["heading_lexicon"]] = -1
    good = np.flatnonzero(sums.is_good)
    out[ROW["since_good"]] = _since(index, good, 30)
    out[ROW["to_good"]] = _since(index, len(index) - 1 - good[::-1], 30)[::-1]


def _since(index: Ints, marks: Ints, most: int) -> Ints:
    """Blocks since the last mark, at most `most`; -1 before the first one."""
    if not len(marks):
        return np.full(len(index), -1)
    at = np.searchsorted(marks, index, side="right") - 1
    return np.where(at >= 0, np.minimum(index - marks[np.maximum(at, 0)], most), -1)


def _put_containers(out: Floats, page: Page, sums: _Sums, index: Ints) -> None:
    """Of a block's element and of ancestors that each hold more blocks than the one below."""
    wider = _wider(page)
    chain = [page.element]
    for _ in range(LEVELS - 1):
        chain.append(wider[chain[-1]])
    c = np.stack(chain)
    f, t = page.first[c], page.last[c]
    blocks = np.maximum(t - f, 1)
    n = np.maximum(sums.n[t] - sums.n[f], 1)
    good = sums.good[t] - sums.good[f]
    values = (
        np.log1p(n), (sums.linked[t] - sums.linked[f]) / n, good / n,
        good / max(sums.good[-1], 1.0), (sums.p[t] - sums.p[f]) / n, np.log1p(blocks),
        np.log1p(n / blocks), (index - f) / blocks, np.log1p(sums.goods[t] - sums.goods[f]),
        page.tag[c],
    )
    row = ROW["c0_n"]
    for number, value in enumerate(values):
        out[row + number * LEVELS : row + (number + 1) * LEVELS] = value


def _wider(page: Page) -> Ints:
    """Per element its nearest ancestor that holds more blocks (the root if there is none) [E]."""
    size, up = page.last - page.first, np.maximum(page.parent, 0)
    same = np.where(size[up] == size, up, np.arange(len(up)))
    for _ in range(int(page.depth.max()).bit_length()):
        same = same[same]
    wider: Ints = up[same]
    return wider


def _put_neighbours(out: Floats, page: Page, tags: Ints) -> None:
    """Length, links and tag of blocks nearby, and whether they have the same parent."""
    blocks, parents = len(tags), page.parent[page.element]
    row = ROW["at1_n"]
    for k in NEIGHBOURS:
        here, there = slice(max(k, 0), min(k, 0) or None), slice(max(-k, 0), min(-k, 0) or None)
        out[row + 1 : row + 3] = -1
        if abs(k) < blocks:
            out[row, here] = out[0, there]
            out[row + 1, here] = page.linked[there]
            out[row + 2, here] = tags[there]
            out[row + 3, here] = parents[here] == parents[there]
        row += 4
