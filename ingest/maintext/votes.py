"""What a slower extractor thinks of each block, as further features of it."""

import re
from typing import Any

import numpy as np

__all__ = ["VOTES", "votes"]

VOTES = ("vote", "vote_before", "vote_after", "vote_share")
WORD = re.compile(r"\w+")
CHUNK = 5


def votes(texts: list[str], other: str) -> Any:
    """How much of each block stands in the text `other`, also of its neighbours: [4, B].

    Long blocks are looked for in order; a short one must stand between those around it, because
    words such as "Share" stand somewhere in most texts.
    """
    words = [WORD.findall(text) for text in texts]
    taken = np.array(_aligned(words, WORD.findall(other)), np.float32)
    n = np.array([len(text) for text in texts], np.float64)
    out = np.full((len(VOTES), len(texts)), -1, np.float32)
    out[0] = taken
    out[1, 1:], out[2, :-1] = taken[:-1], taken[1:]
    out[3] = (taken * n).sum() / n.sum()
    return out


def _aligned(blocks: list[list[str]], other: list[str]) -> list[float]:
    whole = f" {' '.join(other)} "
    chunks = {tuple(other[i : i + CHUNK]) for i in range(len(other) - CHUNK + 1)}
    taken, spans = [0.0] * len(blocks), [(-1, -1)] * len(blocks)
    reached = 0
    for number, words in enumerate(blocks):
        if len(words) < CHUNK:
            continue
        own = [tuple(words[i : i + CHUNK]) for i in range(0, len(words) - CHUNK + 1, CHUNK)]
        taken[number] = sum(chunk in chunks for chunk in own) / len(own)
        if taken[number] == 1.0:
            text = f" {' '.join(words)} "
            at = whole.find(text, reached)
            if at >= 0:
                reached = at + len(text) - 1
                spans[number] = (at, reached)
            elif text in whole[: reached + 1]:
                taken[number] = 0.0  # its twin was found: the extractor keeps one of them
    _between(blocks, whole, taken, spans)
    return taken


def _between(
    blocks: list[list[str]], whole: str, taken: list[float], spans: list[tuple[int, int]]
) -> None:
    """Find short blocks between the long ones that were found before and after them."""
    until, ends = len(whole), [0] * len(blocks)
    for number in range(len(blocks) - 1, -1, -1):
        ends[number] = until
        if spans[number][0] >= 0:
            until = spans[number][0] + 1
    reached = 0
    for number, words in enumerate(blocks):
        if spans[number][0] >= 0:
            reached = spans[number][1]
        elif 0 < len(words) < CHUNK:
            text = f" {' '.join(words)} "
            at = whole.find(text, reached, ends[number])
            if at >= 0:
                taken[number], reached = 1.0, at + len(text) - 1
