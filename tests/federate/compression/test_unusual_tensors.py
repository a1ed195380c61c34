"""Tensors that are empty, zero, still but for one value, huge, or of any shape at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federate.compression.codec import CodecConfig, compress, decode
from federate.wire import shapes_of
from tests.federate.compression.deltas import error, round_trip


@pytest.mark.parametrize("bits", [16.0, 4.0, 0.3])
def test_unusual_tensors(bits: float) -> None:
    config = CodecConfig(bits=bits)
    for weights in (
        {"zero": np.zeros((40, 30), np.float32), "also": np.zeros(3, np.float32)},
        {"empty": np.zeros((0, 7), np.float32), "none": np.zeros(0, np.float32)},
        {},
    ):
        decoded = round_trip(weights, config)
        assert all(not value.any() for value in decoded.values())
    small = {
        "scalar": np.array(0.5, np.float32),
        "empty": np.zeros((3, 0), np.float32),
        "conv": np.ones((4, 3, 2), np.float32),
        "one": np.full((1, 50), -2, np.float32),
        "column": np.full((50, 1), 2, np.float32),
    }
    assert error(small, round_trip(small, CodecConfig(bits=max(bits, 12)))) < 1e-4
    round_trip(small, config)


def test_a_single_huge_outlier_arrives() -> None:
    for shape in ((5000,), (100, 50)):
        value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        value.flat[1234] = 1e6
        decoded = round_trip({"w": value}, CodecConfig(bits=4))["w"]
        assert abs(decoded.flat[1234] - 1e6) < 1e3
        assert error({"w": value}, {"w": decoded}) < 1e-6
    extremes = np.array([3e38, -3.4e38, 1e-38, 0], np.float32)
    for bits in (16.0, 8.0):
        assert np.isfinite(round_trip({"w": extremes}, CodecConfig(bits=bits))["w"]).all()


def test_one_large_value_among_many_still_ones_arrives() -> None:
    lone = np.zeros(20_000, np.float32)
    lone[77] = 40.0
    many = np.random.default_rng(0).standard_normal((200, 100)).astype(np.float32)
    weights = {"lone": lone, "w": many}
    decoded = round_trip(weights, CodecConfig(bits=0.2))
    assert abs(decoded["lone"][77] - 40) < 4


shape = st.one_of(
    st.tuples(),
    st.tuples(st.integers(0, 40)),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
)


@given(
    st.lists(shape, max_size=4),
    st.floats(0.05, 31),
    st.booleans(),
    st.floats(-35, 35),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_shapes_and_sizes_round_trip(
    shapes: list[tuple[int, ...]], bits: float, stochastic: bool, size10: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = {
        f"t{number}": np.asarray(rng.standard_cauchy(of) * 10.0**size10).clip(-3e38, 3e38)
        for number, of in enumerate(shapes)
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    config = CodecConfig(bits=bits, stochastic=stochastic)
    round_trip(weights, config)
    sent = compress(weights, {}, config, [seed])
    again = decode(sent.buffers, shapes_of(weights), np.inf)
    assert not isinstance(again, str)
    assert all(np.array_equal(again[name], sent.received[name]) for name in weights)
