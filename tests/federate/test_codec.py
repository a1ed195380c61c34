import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonroot.errors import TrainingError
from federate.compression.bits import CLASSES, LARGEST, pack_integers, unpack_integers
from federate.compression.codec import CodecConfig, compress, decode, encode
from federate.compression.downlink import decode_down, encode_down
from federate.local import Weights
from federate.wire import shapes_of


def delta(seed: int = 0, size: int = 64) -> Weights:
    """Like what training leaves: a few strong directions, noise, a vector, still rows."""
    rng = np.random.default_rng([seed, 77])
    embed = rng.standard_normal((4 * size, 6)) @ rng.standard_normal((6, size))
    embed += 0.3 * rng.standard_normal(embed.shape)
    embed[size:] *= 0.05
    square = rng.standard_normal((size, size // 2)) * np.exp(rng.standard_normal(size // 2))
    named = {"embed": embed, "square": square.T, "norm": rng.standard_normal(size)}
    return {name: (0.01 * value).astype(np.float32) for name, value in named.items()}


def round_trip(weights: Weights, config: CodecConfig, seed: int = 0) -> Weights:
    decoded = decode(encode(weights, config, [seed]), shapes_of(weights), np.inf)
    assert not isinstance(decoded, str), decoded
    assert shapes_of(decoded) == shapes_of(weights)
    assert list(decoded) == list(weights)
    return decoded


def flat(weights: Weights) -> np.ndarray:
    return np.concatenate([value.ravel() for value in weights.values()]).astype(np.float64)


def error(weights: Weights, decoded: Weights) -> float:
    """Squared, relative."""
    return float(np.square(flat(weights) - flat(decoded)).sum() / np.square(flat(weights)).sum())


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


def test_values_that_are_not_finite_are_refused_by_the_sender() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(TrainingError, match="not finite"):
            encode({"w": np.array([1, bad], np.float32)}, CodecConfig(bits=4), [0])


def test_receiver_says_what_is_wrong() -> None:
    weights = delta(size=16)
    shapes = shapes_of(weights)
    for bits in (16.0, 4.0):
        buffers = encode(weights, CodecConfig(bits=bits), [0])
        assert "names or shapes" in str(decode(buffers, {**shapes, "norm": (17,)}, 9))
        assert "names or shapes" in str(decode(buffers, {"other": (16,)}, 9))
        assert "above 0.001" in str(decode(buffers, shapes, 1e-3))
    assert "differ" in str(decode({**buffers, "more": buffers["packed"]}, shapes, 9))
    assert "not a .npy" in str(decode({"packed": b"x"}, shapes, 9))
    infinite = encode({"w": np.ones(4, np.float32)}, CodecConfig(bits=16), [0])["packed"]
    infinite = infinite[:-2] + b"\x80\x7f"
    assert "not finite" in str(decode({"packed": infinite}, {"w": (4,)}, np.inf))


def test_a_claim_of_a_huge_tensor_allocates_nothing(limit_memory: Callable[[], None]) -> None:
    limit_memory()
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(header, claim)
    for name in ("packed", "w"):
        assert "not a .npy" in str(decode({name: header.getvalue()}, {name: (4,)}, 9))


def test_a_head_that_inflates_without_end_is_cut_off(limit_memory: Callable[[], None]) -> None:
    weights = delta(size=16)
    packed = encode(weights, CodecConfig(bits=2), [0])["packed"]
    bomb = zlib.compress(bytes(1 << 28), 9)
    start = packed.index(b"crq1")
    body = packed[start : start + 20] + len(bomb).to_bytes(4, "little") + bomb
    limit_memory()
    answer = decode({"packed": as_npy(body)}, shapes_of(weights), 9)
    assert "too long" in str(answer)


@pytest.mark.parametrize("bits", [16.0, 2.0, 0.5])
def test_500_damaged_messages_are_refused_or_decode_to_bounded_tensors(
    bits: float, limit_memory: Callable[[], None]
) -> None:
    weights = delta(size=16)
    shapes = shapes_of(weights)
    packed = encode(weights, CodecConfig(bits=bits), [0])["packed"]
    start = packed.index(b"cr")
    limit_memory()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(500):
        body = bytearray(packed[start:])
        kind = number % 4
        place = int(rng.integers(len(body)))
        if kind == 0:
            body = body[:place]
        elif kind == 1:
            body[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            body[place : place + 8] = rng.bytes(8)
        else:
            body[16:] = rng.bytes(int(rng.integers(1, 2000)))
        decoded = decode({"packed": as_npy(bytes(body))}, shapes, 10.0)
        refused += isinstance(decoded, str)
        if not isinstance(decoded, str):
            assert shapes_of(decoded) == shapes
            assert np.abs(flat(decoded)).max() <= 10
    assert refused > 200


@pytest.fixture
def limit_memory():  # type: ignore[no-untyped-def]
    """Call it to refuse any further 200 MB of address space until the test ends."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)

    def limit() -> None:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_AS, before)


def as_npy(body: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.frombuffer(body, np.uint8))
    return buffer.getvalue()


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
