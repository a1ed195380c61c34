"""Blocks of a page -> what a classifier may know of each, one column a feature.

Shapes: B blocks, E elements, L levels of containers.
"""
# ruff: noqa: SIM905, RUF001

from typing import Any

import numpy as np

from ingest.maintext.hints import AWAY, HINTS
from ingest.maintext.segment import TAG, Page

__all__ = ["FEATURES", "features"]

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

STOPWORDS = frozenset(
    "the of and to a in that is was for on with as at by it he his from be had are this have but "
    "not they which you one were her she all their there been has when who will no if out so what "
    "la le les des et en un une du est que pour dans qui sur pas au par avec il plus ne se sont "
    "der die und den von zu das mit sich auf für ist im dem nicht ein eine auch es werden aus "
    "el los las del con su para lo como más sus al fue este di non per della è o e do da em os na "
    "uma não mais foi het van op te dat zijn met voor niet och på som till att av det för med "
    "что как это но из за от так же его она jest się nie do że".split()
)
LEXICON = {
    word: number
    for number, words in enumerate((
        "share follow subscribe sign login log newsletter email e-mail download join register shop",
        "copyright © rights reserved privacy cookie cookies terms disclaimer powered",
        "more related also recommended trending popular latest view all next advertisement",
        "by posted published updated min ago photo photo: getty credit: reuters am pm",
        "comment comments reply report vote tags tags: filed source: category categories like",
    ), 1)
    for word in words.split()
}
"""Words of short blocks that are rarely main text, by kind."""
SHORT = 200
LEVELS = 5
TEXT = "n words stop commas stops end colon quote separator upper title again lexicon".split()
PLACES = "article main header footer nav aside ul table form figure li blockquote".split()
NEIGHBOURS = (1, 2, 3, -1, -2, -3)
CONTAINER = "n linked good goodshare p blocks mean position goods tag".split()

FEATURES = (
    [*TEXT, "mean_word", "commas_r", "stops_r", "linked", "links", "strong", "broken", "tag",
     "depth", "position", "number", "share", "blocks", "total", "good_before", "good_after",
     "goodtotal", "goodshare", "in_best", "best_share", "best_position", "score1", "score2",
     "since_h1", "since_title", "since_heading", "heading_lexicon", "to_good", "since_good"]
    + [f"in_{place}" for place in PLACES]
    + [f"near_{kind}" for kind in HINTS] + [f"far_{kind}" for kind in HINTS]
    + [f"c{level}_{name}" for name in CONTAINER for level in range(LEVELS)]
    + [f"at{k}_{name}" for k in NEIGHBOURS for name in ("n", "linked", "tag", "sibling")]
)
ROW = {name: row for row, name in enumerate(FEATURES)}
AWAY_BITS = sum(1 << bit for bit, kind in enumerate(HINTS) if kind in AWAY)
AWAY_TAGS = sum(1 << TAG[name] for name in ("footer", "nav", "aside", "form"))


def features(page: Page) -> Floats:
    """What is known of each block: [len(FEATURES), B]."""
    blocks = len(page.texts)
    out = np.zeros((len(FEATURES), blocks), np.float32)
    text = _of_texts(page)
    n = text[0].astype(np.float64)
    element, parent = np.array(page.element), np.array(page.parent)
    tag, first, last = np.array(page.tag), np.array(page.first), np.array(page.last)
    last = np.maximum(last, first)
    linked = np.minimum(np.array(page.linked) / n, 1.0)
    sums = _Sums(n, linked, tag[element])
    near, far, places, depth = _inherited(page, sums.n, first, last)
    away = (far[element] & AWAY_BITS > 0) | (places[element] & AWAY_TAGS > 0)
    sums.judge(away)

    out[: len(TEXT)] = text
    out[0], out[1] = np.log1p(n), np.log1p(text[1])

    def put(name: str, values: Any) -> None:
        out[ROW[name]] = values

    put("mean_word", n / text[1])
    put("commas_r", text[3] / text[1])
    put("stops_r", text[4] / text[1])
    put("linked", linked)
    put("links", np.minimum(page.links, 20))
    put("strong", np.minimum(np.array(page.strong) / n, 1.0))
    put("broken", page.broken)
    put("tag", tag[element])
    put("depth", np.minimum(depth[element], 40))
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
    _put_best(out, sums, text, linked, away, (element, parent, first, last))
    tags = tag[element]
    _put_distances(out, index, text, tags, sums)
    row = ROW[f"in_{PLACES[0]}"]
    bits = np.array([TAG[place] for place in PLACES])[:, None]
    out[row : row + len(PLACES)] = (places[element] >> bits) & 1
    kinds = np.arange(len(HINTS))[:, None]
    row = ROW[f"near_{next(iter(HINTS))}"]
    out[row : row + len(HINTS)] = (near[element] >> kinds) & 1
    out[row + len(HINTS) : row + 2 * len(HINTS)] = (far[element] >> kinds) & 1
    _put_containers(out, page, sums, index, (element, tag, first, last))
    _put_neighbours(out, linked, tags, parent[element])
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


def _of_texts(page: Page) -> Floats:
    """What the words of each block say: [len(TEXT), B]."""
    seen: dict[str, int] = {}
    for text in page.texts:
        seen[text] = seen.get(text, 0) + 1
    title = page.title.lower()
    rows = []
    for text in page.texts:
        n = len(text)
        low = text[:160].lower()
        words = low.split()
        short = n < SHORT
        marks = LEXICON.keys() & words if short else ()
        rows.append((
            n, text.count(" ") + 1, len(STOPWORDS.intersection(words)) / len(words),
            text.count(",") + text.count("，") + text.count("、"),
            text.count(". ") + text.count("? ") + text.count("! ") + text.count("。"),
            text.rstrip("\"'”’)»").endswith((".", "!", "?", "…", "。", "！", "？")),
            text[-1] == ":", text[0] in "\"'“«‘„", short and ("|" in text or "·" in text),
            text.isupper(), short and n > 12 and (low in title or (bool(title) and title in low)),
            seen[text] > 1, max(LEXICON[mark] for mark in marks) if marks else 0,
        ))
    return np.array(rows, np.float32).T


def _inherited(page: Page, sums: Any, first: Any, last: Any) -> tuple[Any, Any, Any, Any]:
    """Per element: hints of it and its two next ancestors, of all; tags of all; depth. [E]

    What the names of an element say that holds nearly all text says nothing about any of it.
    """
    own = np.array(page.hints)
    own[sums[last] - sums[first] > 0.9 * sums[-1]] = 0
    hints = own.tolist()
    near, far, places = hints[:], hints[:], [1 << tag for tag in page.tag]
    depth = [0] * len(hints)
    for e, up in enumerate(page.parent):
        if up >= 0:
            far[e] |= far[up]
            places[e] |= places[up]
            depth[e] = depth[up] + 1
            near[e] |= hints[up]
            if page.parent[up] >= 0:
                near[e] |= hints[page.parent[up]]
    return np.array(near), np.array(far), np.array(places), np.array(depth)


def _put_best(
    out: Floats, sums: _Sums, text: Floats, linked: Any, away: Any,
    elements: tuple[Any, Any, Any, Any],
) -> None:
    """Which element looks most like the article: Readability's score of its paragraphs."""
    element, parent, first, last = elements
    n = text[0]
    points = (1 + text[3] + np.minimum(n / 100, 3)) * (1 - linked) * (n >= 25)
    points = points * np.where(away, 0.1, 1.0)
    up = np.maximum(parent[element], 0)
    above = np.maximum(parent[up], 0)
    score = np.bincount(up, points, len(parent)) + np.bincount(above, points / 2, len(parent))
    held = sums.n[last] - sums.n[first]
    score *= 1 - (sums.linked[last] - sums.linked[first]) / np.maximum(held, 1)
    best = int(score.argmax())
    index = np.arange(len(element))
    out[ROW["in_best"]] = (index >= first[best]) & (index < last[best])
    out[ROW["best_share"]] = held[best] / sums.n[-1]
    size = max(last[best] - first[best], 1)
    out[ROW["best_position"]] = np.clip((index - first[best]) / size, -1, 2)
    top = max(float(score[best]), 1e-9)
    out[ROW["score1"]] = score[up] / top
    out[ROW["score2"]] = score[above] / top


def _put_distances(out: Floats, index: Ints, text: Floats, tags: Ints, sums: _Sums) -> None:
    """Blocks since the last heading of some kind, and to the next good text."""
    h1 = np.flatnonzero(tags == TAG["h1"])
    heading = np.flatnonzero((tags >= TAG["h1"]) & (tags <= TAG["h3"]))
    out[ROW["since_h1"]] = _since(index, h1, 50)
    out[ROW["since_title"]] = _since(index, np.flatnonzero(text[TEXT.index("title")]), 50)
    out[ROW["since_heading"]] = _since(index, heading, 30)
    if len(heading):
        at = np.searchsorted(heading, index, side="right") - 1
        kinds = text[TEXT.index("lexicon")][heading]
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


def _put_containers(
    out: Floats, page: Page, sums: _Sums, index: Ints, elements: tuple[Any, Any, Any, Any]
) -> None:
    """Of a block's element and of ancestors that each hold more blocks than the one below."""
    element, tag, first, last = elements
    wider = _wider(page)
    chain = [element]
    for _ in range(LEVELS - 1):
        chain.append(wider[chain[-1]])
    c = np.stack(chain)
    f, t = first[c], last[c]
    blocks = np.maximum(t - f, 1)
    n = np.maximum(sums.n[t] - sums.n[f], 1)
    good = sums.good[t] - sums.good[f]
    values = (
        np.log1p(n), (sums.linked[t] - sums.linked[f]) / n, good / n,
        good / max(sums.good[-1], 1.0), (sums.p[t] - sums.p[f]) / n, np.log1p(blocks),
        np.log1p(n / blocks), (index - f) / blocks, np.log1p(sums.goods[t] - sums.goods[f]), tag[c],
    )
    row = ROW["c0_n"]
    for number, value in enumerate(values):
        out[row + number * LEVELS : row + (number + 1) * LEVELS] = value


def _wider(page: Page) -> Ints:
    """Per element its nearest ancestor that holds more blocks (the root if there is none)."""
    size = [t - f for f, t in zip(page.first, page.last, strict=True)]
    wider = [0] * len(size)
    for e, up in enumerate(page.parent):
        if up >= 0:
            wider[e] = up if size[up] > size[e] else wider[up]
    return np.array(wider)


def _put_neighbours(out: Floats, linked: Any, tags: Ints, parents: Ints) -> None:
    """Length, links and tag of blocks nearby, and whether they have the same parent."""
    blocks = len(tags)
    row = ROW["at1_n"]
    for k in NEIGHBOURS:
        here, there = slice(max(k, 0), min(k, 0) or None), slice(max(-k, 0), min(-k, 0) or None)
        out[row + 1 : row + 3] = -1
        if abs(k) < blocks:
            out[row, here] = out[0, there]
            out[row + 1, here] = linked[there]
            out[row + 2, here] = tags[there]
            out[row + 3, here] = parents[here] == parents[there]
        row += 4
