"""Deltas on their way up: their size, their error, and what error feedback makes good."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from commonroot.errors import TrainingError
from federate.compression.codec import CodecConfig, compress, encode
from tests.federate.compression.deltas import delta, error, flat, round_trip


def size(buffers: dict[str, bytes]) -> int:
    return sum(map(len, buffers.values()))


def test_fp32_is_exact_and_one_buffer_a_tensor() -> None:
    weights = delta()
    assert encode(weights, CodecConfig(), [0]).keys() == weights.keys()
    assert error(weights, round_trip(weights, CodecConfig())) == 0


@pytest.mark.parametrize(
    ("bits", "most"), [(16, 3e-6), (8, 2e-5), (4, 4e-3), (2, 0.04), (1, 0.11), (0.4, 0.35)]
)
def test_message_fits_its_budget_and_its_error_is_bounded(bits: float, most: float) -> None:
    weights = delta()
    buffers = encode(weights, CodecConfig(bits=bits), [0])
    assert buffers.keys() == {"packed"}
    budget = bits * flat(weights).size / 8
    assert 0.85 * budget < size(buffers) < 1.01 * budget + 200
    assert error(weights, round_trip(weights, CodecConfig(bits=bits))) < most


def test_low_rank_changes_cost_a_fraction_of_their_entries() -> None:
    rng = np.random.default_rng(1)
    low = {"w": (rng.standard_normal((600, 4)) @ rng.standard_normal((4, 200))).astype(np.float32)}
    full = {"w": rng.standard_normal((600, 200)).astype(np.float32)}
    config = CodecConfig(bits=0.3)
    assert error(low, round_trip(low, config)) < 0.02
    assert error(full, round_trip(full, config)) > 0.5


def test_rows_that_did_not_move_take_no_bits_from_the_others() -> None:
    rng = np.random.default_rng(2)
    value = np.zeros((1000, 64), np.float32)
    value[::50] = rng.standard_normal((20, 64))
    assert error({"w": value}, round_trip({"w": value}, CodecConfig(bits=0.15))) < 0.03


def test_every_buffer_is_npy_bytes_without_pickle() -> None:
    for bits in (32.0, 16.0, 1.0):
        for data in encode(delta(), CodecConfig(bits=bits), [0]).values():
            np.load(io.BytesIO(data), allow_pickle=False)


def test_equal_inputs_and_seed_give_equal_bytes_in_any_order_of_names() -> None:
    weights = delta()
    turned = dict(reversed(weights.items()))
    for stochastic in (False, True):
        for bits in (16, 1):
            config = CodecConfig(bits=bits, stochastic=stochastic)
            assert encode(weights, config, [3]) == encode(turned, config, [3])
    assert encode(weights, config, [3]) != encode(weights, config, [4])


def test_equal_bytes_on_one_and_two_threads() -> None:
    code = (
        "import numpy as np; from federate.compression.codec import CodecConfig, encode;"
        "w = {'w': np.random.default_rng(0).standard_normal((700, 260)).astype(np.float32)};"
        "print(encode(w, CodecConfig(bits=0.7), [0])['packed'].hex())"
    )
    told = []
    for threads in ("1", "2"):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        told.append(run.stdout)
    assert len(told[0]) > 10_000
    assert told[0] == told[1]


@pytest.mark.parametrize("bits", [16.0, 1.5])
def test_stochastic_rounding_is_unbiased_and_rounding_is_not(bits: float) -> None:
    weights = delta(size=16)
    draws = 60

    def bias(stochastic: bool) -> float:
        config = CodecConfig(bits=bits, stochastic=stochastic)
        runs = [flat(round_trip(weights, config, seed)) for seed in range(draws)]
        noise = np.var(runs, axis=0).sum() / draws
        left = np.square(np.mean(runs, axis=0) - flat(weights)).sum()
        return float(left / max(noise, 1e-30))

    # The mean of unbiased draws is off by its own noise: a ratio of 1, ± 10 % here.
    assert 0.8 < bias(True) < 1.25
    assert bias(False) > 3


def test_error_feedback_makes_the_sum_of_messages_right() -> None:
    weights = delta()
    config = CodecConfig(bits=0.5)
    total, residual = np.zeros(flat(weights).size), dict[str, np.ndarray]()
    for number in range(8):
        sent = compress(weights, residual, config, [number])
        residual = sent.residual
        total += flat(sent.received)
    behind = np.square(total - 8 * flat(weights)).sum() / np.square(8 * flat(weights)).sum()
    once = error(weights, round_trip(weights, config))
    assert behind < once / 5  # without feedback it would be `once`
    left = {name: (8 * weights[name]).astype(np.float32) for name in weights}
    assert np.allclose(flat(left) - total, flat(residual), atol=1e-4)


def test_without_feedback_nothing_is_kept() -> None:
    assert compress(delta(), {}, CodecConfig(bits=0.5, feedback=0), [0]).residual == {}


def test_values_that_are_not_finite_are_refused_by_the_sender() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(TrainingError, match="not finite"):
            encode({"w": np.array([1, bad], np.float32)}, CodecConfig(bits=4), [0])
