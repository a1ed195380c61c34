"""Weights on their way down, as their difference from the public base."""

import numpy as np

from federate.compression.codec import CodecConfig
from federate.compression.downlink import decode_down, encode_down
from tests.federate.compression.deltas import delta, error


def test_what_a_message_down_leaves_out_is_in_the_next_one() -> None:
    rng = np.random.default_rng(5)
    base = {name: value * 50 for name, value in delta(9).items()}
    weights, errors = dict(base), []
    for number in range(6):
        change = {name: value * rng.uniform(0.5, 1) for name, value in delta(number).items()}
        weights = {name: (weights[name] + change[name]).astype(np.float32) for name in base}
        buffers = encode_down(weights, base, CodecConfig(bits=2), [number])
        arrived = decode_down(buffers, base, np.inf)
        assert not isinstance(arrived, str)
        moved = {name: weights[name] - base[name] for name in base}
        errors.append(error(moved, {name: arrived[name] - base[name] for name in base}))
    assert max(errors) < 0.05


def test_weights_down_in_full_arrive_to_the_bit() -> None:
    base, weights = delta(1), delta(2)
    arrived = decode_down(encode_down(weights, base, CodecConfig(), [0]), base, np.inf)
    assert not isinstance(arrived, str)
    assert all(np.array_equal(arrived[name], weights[name]) for name in base)


def test_what_arrives_from_above_stays_within_the_bounds() -> None:
    base = {name: value + 900 for name, value in delta(1).items()}
    weights = {name: value + 150 for name, value in base.items()}
    buffers = encode_down(weights, base, CodecConfig(bits=8), [0])
    assert "above 1000" in str(decode_down(buffers, base, 1000))
