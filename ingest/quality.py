"""Is a text worth learning from? The rules of Gopher and C4, each with its name.

Gopher: Rae et al. 2021 (arXiv 2112.11446), table A1. C4: Raffel et al. 2020 (arXiv 1910.10683).
Thresholds are theirs unless the field says otherwise.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import Field

from commonroot.config import Section

__all__ = ["QualityConfig", "quality_reason"]

STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
SENTENCE_END = (".", "!", "?", '"', "”", "»", "…", ":", ";")
BULLETS = ("•", "‣", "▪", "●", "◦", "\u2013", "-", "*")
WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


class QualityConfig(Section):
    """Thresholds of the quality rules; a text is dropped by the first rule that it breaks."""

    min_words: int = Field(default=50, ge=0)
    """Fewest words."""
    max_words: int = Field(default=100_000, ge=1)
    """Most words."""
    min_word_length: float = Field(default=3.0, ge=0.0)
    """Smallest mean length of a word, characters."""
    max_word_length: float = Field(default=10.0, gt=0.0)
    """Largest mean length of a word, characters."""
    max_symbols: float = Field(default=0.1, ge=0.0)
    """Most `#` and ellipses for each word."""
    max_bullet_lines: float = Field(default=0.9, ge=0.0, le=1.0)
    """Largest share of lines that start with a bullet."""
    max_ellipsis_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Largest share of lines that end in an ellipsis."""
    min_alphabetic: float = Field(default=0.7, ge=0.0, le=1.0)
    """Smallest share of words with a letter (Gopher: 0.8; reference works are full of figures)."""
    min_stop_words: int = Field(default=2, ge=0)
    """Different English function words that must occur; asked of English only."""
    max_repeated_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Largest share of lines that occurred before."""
    max_top_ngram: float = Field(default=0.2, ge=0.0, le=1.0)
    """Largest share of characters in the most frequent 2-gram (3: -0.02, 4: -0.04)."""
    max_repeated_ngrams: float = Field(default=0.15, ge=0.0, le=1.0)
    """Largest share of words inside repeated 5-grams (6 to 10: 0.01 less each)."""
    max_short_lines: float = Field(default=0.67, ge=0.0, le=1.0)
    """Largest share of lines of at most 30 characters (FineWeb, arXiv 2406.17557)."""
    min_sentence_lines: float = Field(default=0.1, ge=0.0, le=1.0)
    """Smallest share of characters in lines that end like a sentence (after C4)."""


def quality_reason(text: str, language: str, config: QualityConfig) -> str | None:
    """Name of the first rule that `text` breaks, None if it is good."""
    words = WORD.findall(text)
    lines = [line for line in text.split("\n") if line.strip()]
    return (
        _size(words, config)
        or _phrases(text)
        or _shape(text, words, lines, config)
        or _stop_words(words, language, config)
        or _repetition(words, lines, config)
    )


def _size(words: Sequence[str], config: QualityConfig) -> str | None:
    if len(words) < config.min_words or not words:
        return "too-few-words"
    if len(words) > config.max_words:
        return "too-many-words"
    mean = sum(map(len, words)) / len(words)
    if mean < config.min_word_length:
        return "words-too-short"
    return "words-too-long" if mean > config.max_word_length else None


def _phrases(text: str) -> str | None:
    lower = text.lower()
    if "lorem ipsum" in lower:
        return "lorem-ipsum"
    return "source-code" if text.count("{") + text.count("}") > len(text) / 200 else None


def _shape(
    text: str, words: Sequence[str], lines: Sequence[str], config: QualityConfig
) -> str | None:
    symbols = text.count("#") + text.count("...") + text.count("…")
    if symbols > config.max_symbols * len(words):
        return "symbols"
    if _share(lines, lambda line: line.lstrip().startswith(BULLETS)) > config.max_bullet_lines:
        return "bullets"
    if _share(lines, lambda line: line.endswith(("...", "…"))) > config.max_ellipsis_lines:
        return "ellipses"
    if _share(lines, lambda line: len(line) <= 30) > config.max_short_lines:
        return "short-lines"
    lettered = sum(any(char.isalpha() for char in word) for word in words)
    if lettered < config.min_alphabetic * len(words):
        return "too-few-letters"
    closed = sum(len(line) for line in lines if line.rstrip().endswith(SENTENCE_END))
    if closed < config.min_sentence_lines * sum(map(len, lines)):
        return "no-sentences"
    return None


def _stop_words(words: Sequence[str], language: str, config: QualityConfig) -> str | None:
    if language != "en":
        return None
    found = STOP_WORDS.intersection(word.lower() for word in words)
    return "stop-words" if len(found) < config.min_stop_words else None


def _repetition(
    words: Sequence[str], lines: Sequence[str], config: QualityConfig
) -> str | None:
    if len(lines) - len(set(lines)) > config.max_repeated_lines * len(lines):
        return "repeated-lines"
    lower = [word.lower() for word in words]
    total = sum(map(len, lower))
    for size in (2, 3, 4):
        counts = Counter(zip(*(lower[i:] for i in range(size)), strict=False))
        gram, times = counts.most_common(1)[0] if counts else ((), 0)
        limit = config.max_top_ngram - 0.02 * (size - 2)
        if times > 1 and times * sum(map(len, gram)) > limit * total:
            return f"top-{size}-gram"
    for size in range(5, 11):
        limit = config.max_repeated_ngrams - 0.01 * (size - 5)
        if _repeated_words(lower, size) > limit * len(lower):
            return f"repeated-{size}-grams"
    return None


def _repeated_words(words: Sequence[str], size: int) -> int:
    """Words inside an n-gram that occurred before; overlaps are counted once."""
    seen: set[int] = set()
    covered, last = 0, 0
    for start in range(len(words) - size + 1):
        gram = hash(tuple(words[start : start + size]))
        if gram in seen:
            covered += start + size - max(start, last)
            last = start + size
        seen.add(gram)
    return covered


def _share(lines: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, lines)) / len(lines) if lines else 0.0
