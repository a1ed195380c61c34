"""Each rule names itself, and the counting behind the rules is that of a plain reading."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from ingest.quality import QualityConfig, judged, quality_reason
from ingest.repetition import grams, repeated_characters, top_characters
from ingest.words import layout, word_hash
from tests.ingest.articles import article
from tests.ingest.test_text import FISH, LONG, MILL, PROSE

LIST = "\n".join(f"Mill {name} stands here." for name in ("one", "two", "three", "four", "five"))
OFF = QualityConfig(
    max_top_ngrams=(9, 9, 9), max_repeated_ngrams=(9,) * 6, max_repeated_lines=1,
    max_repeated_line_chars=1, max_same_line_chars=1,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LONG, None),
        ("Too short to be of use.", "too-few-words"),
        ("Lorem ipsum dolor sit amet. " + LONG, "lorem-ipsum"),
        (LONG + " {and} more", "curly-bracket"),
        ("\n".join([*(f"My home page {i}" for i in range(19)), *LONG.split(". ")]), "no-sentences"),
        ("\n".join([*(f"The page {'abc'[i % 3] * i}." for i in range(25)), LONG]), "short-lines"),
        ("\n".join(f"- item {PROSE[i : i + 40]}" for i in range(30)), "bullets"),
        ("\n".join(f"See {PROSE[i * 5 : i * 5 + 30]}..." for i in range(30)), "symbols"),
        (" ".join(f"{i} {i * 7}" for i in range(100, 200)) + " " + PROSE, "too-few-letters"),
        ("\n".join([PROSE] * 6), "same-lines"),
        ("cheap watches best deals. " * 40, "stop-words"),
        ("the water of that river and the water of that mill have water. " * 9, "top-2-gram"),
        (LONG + ("\n" + LONG).replace("\n", " And so on: "), "repeated-5-grams"),
        (" ".join(LONG.split("\n")[::-1]).replace(".", ","), "too-few-sentences"),
        ("# " * 40 + LONG, "symbols"),
        ("a b c d e f " * 20 + ".", "words-too-short"),
        ("extraordinarily incomprehensible " * 40 + ".", "words-too-long"),
        (LONG.replace(" ", "\n"), "too-few-sentences"),
    ],
)
def test_quality_names_its_reason(text: str, reason: str | None) -> None:
    assert quality_reason(text, "en", QualityConfig()) == reason


def test_a_threshold_that_is_moved_lets_the_text_pass() -> None:
    text = LONG + " {and} more"
    assert quality_reason(text, "en", QualityConfig(allow_braces=True)) is None
    assert quality_reason(LONG, "en", QualityConfig(min_words=500)) == "too-few-words"
    twice = "\n".join([LONG, LONG])
    assert quality_reason(twice, "en", QualityConfig()) == "same-lines"
    looser = QualityConfig(max_same_line_chars=1)
    assert quality_reason(twice, "en", looser) == "repeated-lines"
    assert quality_reason(twice, "en", OFF) is None


def test_function_words_are_asked_of_english_only() -> None:
    french = "La rivière prend sa source dans les collines puis coule longtemps vers la mer. "
    varied = " ".join(
        f"{french}Le moulin numéro {word} tourne encore aujourd'hui pour nous."
        for word in ("un", "deux", "trois", "quatre", "cinq")
    )
    assert quality_reason(varied, "fr", OFF) is None
    assert quality_reason(varied, "en", OFF) == "stop-words"


def test_lines_that_do_not_count_are_left_out_unless_told_otherwise() -> None:
    text = "\n".join([
        "Mills", PROSE.strip(), "Please enable JavaScript to read on.", MILL,
        "By reading on you accept our privacy policy.", FISH + "[12]", "x" * 1200,
    ])
    reason, left = judged(text, "en", QualityConfig(max_word_length=20))
    assert reason is None
    assert left == "\n".join([PROSE.strip(), MILL, FISH])
    keep_all = QualityConfig(max_word_length=20, drop_lines=False)
    assert judged(text, "en", keep_all) == (None, text)


def test_a_good_text_comes_back_as_it_was() -> None:
    text = f"{LONG}\n\n{article(3)}"
    assert judged(text, "en", QualityConfig()) == (None, text)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a", "…", "\ud800", "日本 語", "\U0001f600" * 9])
def test_odd_texts_are_dropped_and_nothing_breaks(text: str) -> None:
    assert quality_reason(text, "en", QualityConfig()) == "too-few-words"
    assert isinstance(quality_reason(text, "en", QualityConfig(min_words=0)), str)


def _cut(text: str) -> list[str]:
    words = layout(text).words
    return [text[a:b] for a, b in zip(words.start.tolist(), words.end.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two: (three).", ["One", ",", "two", ":", "(", "three", ")", "."]),
        ("I don't; she's we'll", ["I", "do", "n't", ";", "she", "'s", "we", "'ll"]),
        ("a well-known 32-bit e.g. 1,000 3.5", [
            "a", "well", "-", "known", "32", "-", "bit", "e.g.", "1,000", "3.5",
        ]),
        ("wait... what?!", ["wait", "...", "what", "?", "!"]),
        ("end.Next “quoted”", ["end", ".", "Next", "“", "quoted", "”"]),
        ("/etc/motd --help $5", ["/etc", "/", "motd", "--help", "$", "5"]),
        ("", []),
        (" \n ", []),
        ("Straße côté", ["Straße", "côté"]),
    ],
)
def test_words_are_cut_as_published_filters_cut_them(text: str, words: list[str]) -> None:
    assert _cut(text) == words


def test_equal_words_have_equal_hashes_wherever_they_stand() -> None:
    page = layout("the mill and the “mill”")
    hashes = page.hashes(page.words).tolist()
    assert hashes[0] == hashes[3] == word_hash("the")
    assert hashes[1] == hashes[5] == word_hash("mill")
    assert len(set(hashes)) == 5


def test_lines_and_paragraphs() -> None:
    page = layout(" one \ntwo\n\n  \nthree")
    spans = [page.lines, page.paragraphs]
    found = [[page.text[a:b] for a, b in zip(s.start, s.end, strict=True)] for s in spans]
    assert found == [["one", "two", "three"], ["one \ntwo", "three"]]


def _plain_top(words: list[str], size: int) -> int:
    runs = [" ".join(words[i : i + size]) for i in range(len(words) - size + 1)]
    (top, times), = Counter(runs).most_common(1)
    return len(top) * times


def _plain_repeated(words: list[str], size: int) -> int:
    seen: set[str] = set()
    total = place = 0
    while place <= len(words) - size:
        run = " ".join(words[place : place + size])
        if run in seen:
            total += sum(map(len, words[place : place + size]))
            place += size
        else:
            seen.add(run)
            place += 1
    return total


@pytest.mark.parametrize("seed", range(30))
def test_repetition_is_counted_exactly(seed: int) -> None:
    draw = random.Random(seed)
    words = [draw.choice(["a", "bb", "ccc"][: 1 + seed % 3]) for _ in range(draw.randrange(10, 90))]
    ids = np.unique(words, return_inverse=True)[1]
    lengths = np.array([len(word) for word in words])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for size, found in enumerate(grams(ids, 10), 2):
        assert top_characters(found, size, lengths) == _plain_top(words, size)
        assert repeated_characters(found, size, ends, -1) in (0, *range(1, 10_000))
        counted = repeated_characters(found, size, ends, 0)
        wanted = _plain_repeated(words, size)
        assert (counted > 0) == (wanted > 0)
        most = wanted - 1
        assert (repeated_characters(found, size, ends, most) == wanted) or wanted == 0
        assert repeated_characters(found, size, ends, wanted) in (0, wanted)


def test_a_pattern_is_no_trap_for_the_clock() -> None:
    """Repetition all over: what is counted is bounded by the text, not by its square."""
    text = re.sub(r"\s+", " ", "the mill of that river " * 20_000)
    assert quality_reason(text, "en", QualityConfig(max_words=10**9)) is not None
