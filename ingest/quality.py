"""Is a text worth learning from? The rules of Gopher, C4 and FineWeb in one pass, each by its name.

Gopher: Rae et al. 2021 (arXiv 2112.11446), table A1. C4: Raffel et al. 2020 (arXiv 1910.10683).
FineWeb: Penedo et al. 2024 (arXiv 2406.17557). Thresholds are the published ones. Words, lines and
paragraphs are found once for all rules, and what is costly to count is asked last.
"""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from commonroot.config import Section
from ingest.repetition import grams, repeated, repeated_characters, top_characters
from ingest.word_cuts import BULLET, LETTER, PUNCT, STOP, SYMBOL, Bools, Ints, Spans
from ingest.words import Layout, layout, word_hash

__all__ = ["QualityConfig", "judged", "quality_reason"]

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
MARKS = tuple(map(ord, ".?!\"'"))
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
PAGE_WORKS = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies",
    "use of cookies", "use cookies",
)
"""A line with one of these speaks of the page's machinery."""
LONGEST_CHUNK = 1_000
"""Characters without a space from which on a line is no prose (C4)."""
SHORT_LINE = 30
"""Characters up to which FineWeb calls a line short."""


class QualityConfig(Section):
    """Thresholds of the quality rules; a text is dropped by the first rule that it breaks."""

    min_words: int = Field(default=50, ge=0)
    """Fewest words, marks not counted (Gopher)."""
    max_words: int = Field(default=100_000, ge=1)
    """Most words (Gopher)."""
    min_word_length: float = Field(default=3.0, ge=0.0)
    """Smallest mean length of a word, characters (Gopher)."""
    max_word_length: float = Field(default=10.0, gt=0.0)
    """Largest mean length of a word, characters (Gopher)."""
    max_symbols: float = Field(default=0.1, ge=0.0)
    """Most `#`, and most ellipses, for each word (Gopher)."""
    max_bullet_lines: float = Field(default=0.9, ge=0.0, le=1.0)
    """Largest share of lines that start with a bullet (Gopher)."""
    max_ellipsis_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Largest share of lines that end in an ellipsis (Gopher)."""
    min_alphabetic: float = Field(default=0.8, ge=0.0, le=1.0)
    """Smallest share of words and marks with a letter (Gopher)."""
    min_stop_words: int = Field(default=2, ge=0)
    """Different English function words that must occur; asked of English only (Gopher)."""
    max_repeated_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Largest share of lines that occurred before (Gopher)."""
    max_repeated_line_chars: float = Field(default=0.2, ge=0.0, le=1.0)
    """Largest share of characters in such lines (Gopher)."""
    max_repeated_paragraphs: float = Field(default=0.3, ge=0.0, le=1.0)
    """Largest share of paragraphs that occurred before (Gopher)."""
    max_repeated_paragraph_chars: float = Field(default=0.2, ge=0.0, le=1.0)
    """Largest share of characters in such paragraphs (Gopher)."""
    max_top_ngrams: tuple[float, float, float] = (0.20, 0.18, 0.16)
    """Largest share of characters in the most frequent run of 2, 3 and 4 words (Gopher)."""
    max_repeated_ngrams: tuple[float, float, float, float, float, float] = (
        0.15, 0.14, 0.13, 0.12, 0.11, 0.10,
    )
    """Largest share of characters in runs of 5 to 10 words that occurred before (Gopher)."""
    drop_lines: bool = True
    """Leave out lines of fewer than `min_line_words`, lines about scripts, cookies and terms of
    use, lines with 1,000 characters and no space, and citation marks (C4)."""
    min_line_words: int = Field(default=3, ge=0)
    """Fewest words of a line that counts (C4)."""
    full_stops: bool = False
    """Lines that do not end like a sentence do not count either (C4; FineWeb leaves this out)."""
    min_sentences: int = Field(default=5, ge=0)
    """Fewest sentences in lines that count (C4)."""
    allow_lorem_ipsum: bool = False
    """Keep a text with this phrase in a line that counts (C4 does not)."""
    allow_braces: bool = False
    """Keep a text with `{` in a line that counts: it is code (C4 does not)."""
    min_sentence_lines: float = Field(default=0.12, ge=0.0, le=1.0)
    """Smallest share of lines that end in a full stop or its like (FineWeb)."""
    max_short_lines: float = Field(default=0.67, ge=0.0, le=1.0)
    """Largest share of lines of at most 30 characters (FineWeb)."""
    max_same_line_chars: float = Field(default=0.01, ge=0.0, le=1.0)
    """Largest share of characters in lines that occurred before, of those that count (FineWeb)."""
    max_line_breaks: float = Field(default=0.3, ge=0.0)
    """Most line breaks for each word or mark (FineWeb)."""


def quality_reason(text: str, language: str, config: QualityConfig) -> str | None:
    """Name of the first rule that `text` breaks, None if it is good."""
    return judged(text, language, config)[0]


def judged(text: str, language: str, config: QualityConfig) -> tuple[str | None, str]:
    """(Name of the first rule that `text` breaks or None, what is left of it)."""
    page = _Page(layout(text), config)
    reason = (
        _size(page, config)
        or _shape(page, config)
        or _stop_words(page, language, config)
        or _sentences(page, config)
        or _lists(page, config)
        or _lines(page, config)
        or _phrases(page, config)
    )
    return reason, text if reason else page.left


@dataclass(frozen=True)
class _Page:
    """What several rules look at."""

    layout: Layout
    config: QualityConfig

    @property
    def text(self) -> str:
        return self.layout.text

    @cached_property
    def words_W(self) -> Ints:
        """Which word it is, as a small integer."""
        small: Ints = np.unique(self.layout.hashes(self.layout.words), return_inverse=True)[1]
        return small

    @cached_property
    def lines_L(self) -> Ints:
        small: Ints = np.unique(self.layout.hashes(self.layout.lines), return_inverse=True)[1]
        return small

    @cached_property
    def line_W(self) -> Ints:
        """In which line a word stands."""
        where: Ints = np.searchsorted(
            self.layout.lines.start, self.layout.words.start, "right"
        ) - 1
        return where

    @cached_property
    def lower(self) -> str:
        return self.text.lower()

    @cached_property
    def prose_L(self) -> Bools:
        """Lines that look like prose to C4."""
        lines, config = self.layout.lines, self.config
        prose: Bools = self.layout.chunks(lines) >= config.min_line_words
        prose &= ~self.layout.holds_chunk(lines, LONGEST_CHUNK)
        if config.full_stops:
            last = self.layout.codes_C[lines.end - 1]
            prose &= np.isin(last, MARKS) & ~_ellipses(self.layout)
        return prose

    @cached_property
    def counting_L(self) -> Bools:
        """Those of them that do not speak of the page's machinery."""
        if not any(phrase in self.lower for phrase in PAGE_WORKS):
            return self.prose_L
        works = [self.with_phrase(phrase) for phrase in PAGE_WORKS]
        counting: Bools = self.prose_L & ~np.logical_or.reduce(works)
        return counting

    def with_phrase(self, phrase: str) -> Bools:
        """Which lines hold a phrase, in whatever case."""
        if phrase not in self.lower:
            return np.zeros(len(self.layout.lines), bool)
        pairs = _pairs(self.layout.lines)
        return np.array([phrase in self.text[start:end].lower() for start, end in pairs], bool)

    @cached_property
    def left(self) -> str:
        """The text without the lines that do not count, if they are to go."""
        text = self.text
        if self.config.drop_lines and not self.counting_L.all():
            pairs = zip(_pairs(self.layout.lines), self.counting_L.tolist(), strict=True)
            text = "\n".join(text[first:behind] for (first, behind), counts in pairs if counts)
        return CITATION.sub("", text) if self.config.drop_lines and "[" in text else text


def _pairs(spans: Spans) -> list[tuple[int, int]]:
    return list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))


def _size(page: _Page, config: QualityConfig) -> str | None:
    words = page.layout.words
    length_W = words.length[page.layout.count(SYMBOL, words) < words.length]
    if len(length_W) < max(config.min_words, 1):
        return "too-few-words"
    if len(length_W) > config.max_words:
        return "too-many-words"
    mean = float(length_W.mean())
    if mean < config.min_word_length:
        return "words-too-short"
    return "words-too-long" if mean > config.max_word_length else None


def _shape(page: _Page, config: QualityConfig) -> str | None:
    text, words, lines = page.text, page.layout.words, page.layout.lines
    most = config.max_symbols * len(words)
    if text.count("#") > most or text.count("...") + text.count("…") > most:
        return "symbols"
    every = text.count("\n") + 1
    bullets = (page.layout.flags_C[lines.start] & BULLET) != 0
    if bullets.sum() > config.max_bullet_lines * every:
        return "bullets"
    if _ellipses(page.layout).sum() > config.max_ellipsis_lines * every:
        return "ellipses"
    lettered = page.layout.count(LETTER, words) > 0
    return "too-few-letters" if lettered.sum() < config.min_alphabetic * len(words) else None


def _ellipses(layout: Layout) -> Bools:
    """Which lines end in an ellipsis."""
    codes_C, end = layout.codes_C, layout.lines.end
    dots = (codes_C[end - 1] == 46) & (codes_C[end - 2] == 46) & (codes_C[end - 3] == 46)
    ends: Bools = (codes_C[end - 1] == 0x2026) | (dots & (layout.lines.length >= 3))
    return ends


def _stop_words(page: _Page, language: str, config: QualityConfig) -> str | None:
    if language != "en" or not config.min_stop_words:
        return None
    wanted = np.array([word_hash(word) for word in STOP_WORDS], np.uint64)
    found = (page.layout.hashes(page.layout.words)[:, None] == wanted).any(axis=0).sum()
    return "stop-words" if found < config.min_stop_words else None


def _sentences(page: _Page, config: QualityConfig) -> str | None:
    """C4's rules for whole texts."""
    if not config.allow_lorem_ipsum and (page.with_phrase("lorem ipsum") & page.prose_L).any():
        return "lorem-ipsum"
    if not config.allow_braces and (page.with_phrase("{") & page.prose_L).any():
        return "curly-bracket"
    counting_L = page.counting_L
    count = int(counting_L.sum())
    if count >= config.min_sentences:
        return None
    words = page.layout.words
    full_stop_W = (page.layout.count(STOP, words) == words.length) & (words.length == 1)
    spoken = np.flatnonzero(page.layout.count(PUNCT, words) < words.length)
    stops, line = np.cumsum(full_stop_W)[spoken], page.line_W[spoken]
    begins = (np.diff(stops) > 0) & (np.diff(line) == 0)
    count += int((begins & counting_L[line[1:]]).sum())
    return "too-few-sentences" if count < config.min_sentences else None


def _lists(page: _Page, config: QualityConfig) -> str | None:
    """FineWeb's rules; they are asked of what C4's leave."""
    lines, chosen_L = page.layout.lines, page.counting_L
    words, breaks = len(page.layout.words), page.text.count("\n")
    if config.drop_lines:
        lines = Spans(lines.start[chosen_L], lines.end[chosen_L])
        words, breaks = int(chosen_L[page.line_W].sum()), len(lines) - 1
    ended = (page.layout.flags_C[lines.end - 1] & STOP) != 0
    if ended.sum() < config.min_sentence_lines * len(lines):
        return "no-sentences"
    if (lines.length <= SHORT_LINE).sum() > config.max_short_lines * len(lines):
        return "short-lines"
    ids: Ints = page.lines_L[chosen_L] if config.drop_lines else page.lines_L
    same = repeated(ids)
    if lines.length[same].sum() > config.max_same_line_chars * lines.length.sum():
        return "same-lines"
    return "line-breaks" if breaks > config.max_line_breaks * words else None


def _lines(page: _Page, config: QualityConfig) -> str | None:
    """Gopher's rules for lines and paragraphs that are repeated whole."""
    paragraphs = page.layout.paragraphs
    for name, spans, ids, most, most_chars in (
        ("paragraphs", paragraphs, page.layout.hashes(paragraphs),
         config.max_repeated_paragraphs, config.max_repeated_paragraph_chars),
        ("lines", page.layout.lines, page.lines_L,
         config.max_repeated_lines, config.max_repeated_line_chars),
    ):
        again = repeated(ids)
        if again.sum() > most * len(spans):
            return f"repeated-{name}"
        if spans.length[again].sum() > most_chars * len(page.text):
            return f"repeated-{name}"
    return None


def _phrases(page: _Page, config: QualityConfig) -> str | None:
    """Gopher's rules for runs of words."""
    length_W, total = page.layout.words.length, len(page.text)
    ends_W = np.concatenate([[0], np.cumsum(length_W)])
    for size, found in enumerate(grams(page.words_W, 10), 2):
        if size <= 4:
            if top_characters(found, size, length_W) > config.max_top_ngrams[size - 2] * total:
                return f"top-{size}-gram"
        else:
            most = config.max_repeated_ngrams[size - 5] * total
            if repeated_characters(found, size, ends_W, most) > most:
                return f"repeated-{size}-grams"
    return None
