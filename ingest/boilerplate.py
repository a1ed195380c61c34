"""Lines that a host prints on many of its pages: menus, notices, calls to subscribe.

Extraction sees one page and cannot know; a crawl can. Lines are counted by their hashes, once a
page and over different texts only, so that copies of a page do not make its lines boilerplate.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from pydantic import Field

from commonroot.config import Section
from ingest.words import Hashes, line_hashes

__all__ = ["BoilerplateConfig", "boilerplate_lines", "without_lines"]


class BoilerplateConfig(Section):
    """Lines that are repeated across a host."""

    pages: int = Field(default=10, ge=0)
    """Different texts of a host that must hold a line before it is taken out; 0 takes none out."""
    share: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of the host's different texts that must hold it."""
    most: float = Field(default=0.5, ge=0.0, le=1.0)
    """A text that would lose a larger share of its characters stays as it is: it is a near copy of
    others, and of those all but one are dropped anyway."""


def boilerplate_lines(
    pages: Iterable[tuple[str, Hashes]], config: BoilerplateConfig
) -> dict[str, Hashes]:
    """Hashes of the lines to take out for each host that has some, sorted.

    `pages` are (host, distinct hashes of a text's lines); texts of the same lines count once. Takes
    8 bytes a line and 100 a page.
    """
    seen: dict[str, dict[bytes, Hashes]] = defaultdict(dict)
    for host, lines in pages:
        seen[host].setdefault(hashlib.sha256(lines.tobytes()).digest(), lines)
    found = {}
    for host, texts in seen.items():
        least = max(config.pages, config.share * len(texts))
        if not config.pages or len(texts) < least:
            continue
        values, counts = np.unique(np.concatenate(list(texts.values())), return_counts=True)
        if len(chosen := values[counts >= least]):
            found[host] = chosen
    return found


def without_lines(text: str, lines: Hashes, config: BoilerplateConfig) -> tuple[str, int]:
    """(What is left of `text`, how many lines were taken out)."""
    hashes, spans = line_hashes(text)
    out = np.isin(hashes, lines)
    if not out.any() or spans.length[out].sum() > config.most * spans.length.sum():
        return text, 0
    kept = zip(spans.start[~out].tolist(), spans.end[~out].tolist(), strict=True)
    return "\n".join(text[start:end] for start, end in kept), int(out.sum())
