"""Exact and near duplicates."""

import random

from ingest.dedup import fingerprint, near_duplicate_groups, signature

WORDS = [
    f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "re", "so") for b in ("ban", "dor", "fil", "gus")
]


def _text(seed: int, length: int = 200) -> str:
    draw = random.Random(seed)
    return " ".join(f"{draw.choice(WORDS)}{draw.randrange(50)}" for _ in range(length))


def _edited(text: str, edits: int) -> str:
    words = text.split(" ")
    for place in random.Random(edits).sample(range(len(words)), edits):
        words[place] = "changed"
    return " ".join(words)


def test_small_edits_are_found_and_other_texts_are_not() -> None:
    originals = [_text(seed) for seed in range(60)]
    copies = [_edited(text, 3) for text in originals]
    groups = near_duplicate_groups(originals + copies)
    assert groups[:60] == list(range(60))
    assert sum(groups[60 + i] == i for i in range(60)) >= 58  # MinHash is a sample, not a proof


def test_texts_that_share_less_stay_apart() -> None:
    first = [_text(seed) for seed in range(40)]
    half = [text[: len(text) // 2] + _text(seed + 1000, 100) for seed, text in enumerate(first)]
    assert near_duplicate_groups(first + half) == list(range(80))


def test_similarity_is_estimated_without_bias() -> None:
    left, right = _text(1, 400), " ".join(_text(1, 400).split()[:200] + _text(2, 200).split())
    shared = float((signature(left) == signature(right)).mean())
    assert abs(shared - 196 / (2 * 396 - 196)) < 0.15


def test_case_punctuation_and_spacing_make_no_difference() -> None:
    assert fingerprint("One, two: THREE.")[0] == fingerprint("one two\n\nthree")[0]
    assert fingerprint("one two")[0] != fingerprint("one two three")[0]
    assert near_duplicate_groups(["One, two: THREE.", "one two three", "four"]) == [0, 0, 2]


def test_small_and_odd_inputs() -> None:
    assert near_duplicate_groups([]) == []
    assert near_duplicate_groups(["", "", "a", "日本 語", "日本 語"]) == [0, 0, 2, 3, 3]
    assert near_duplicate_groups(["\ud800"]) == [0]


def test_a_threshold_of_one_keeps_all_but_equal_texts() -> None:
    text = _text(5)
    assert near_duplicate_groups([text, _edited(text, 2), text], threshold=1.0) == [0, 1, 0]
