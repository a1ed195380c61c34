"""Integers through the range coder: all survive, damage is noticed, few bytes are lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federate.compression.bits import CLASSES, LARGEST, pack_integers, unpack_integers

integers = st.one_of(st.just(0), st.integers(-20, 20), st.integers(-LARGEST, LARGEST))


@given(st.lists(st.tuples(integers, st.integers(0, CLASSES - 1)), max_size=400))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_integers_survive_the_coder(pairs: list[tuple[int, int]]) -> None:
    values = np.array([value for value, _ in pairs], np.int64)
    classes = np.array([number for _, number in pairs], np.uint8)
    tables, coded = pack_integers(values, classes)
    assert np.array_equal(unpack_integers(tables, coded, classes), values)
    if len(coded) > 8:
        with pytest.raises(ValueError, match=r"cut short|length|damaged"):
            unpack_integers(tables, coded[:-1], classes)


def test_damage_to_coded_symbols_is_noticed() -> None:
    rng = np.random.default_rng(4)
    values = rng.integers(-1, 2, 3000) * (rng.random(3000) < 0.3)
    classes = np.zeros(3000, np.uint8)
    tables, coded = pack_integers(values, classes)
    signs = (np.count_nonzero(values) + 7) // 8
    for place in rng.integers(4, len(coded) - signs, 100):
        damaged = bytearray(coded)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ValueError, match=r"cut short|length|damaged"):
            unpack_integers(tables, bytes(damaged), classes)


def test_the_coder_is_within_a_percent_of_the_entropy() -> None:
    rng = np.random.default_rng(3)
    for spread in (0.2, 1.0, 30.0):
        values = np.rint(spread * rng.laplace(size=200_000)).astype(np.int64)
        shares = np.unique(values, return_counts=True)[1] / len(values)
        entropy = -(shares * np.log2(shares)).sum() * len(values) / 8
        tables, coded = pack_integers(values, np.zeros(len(values), np.uint8))
        assert len(tables) + len(coded) < 1.01 * entropy + 300
