"""Messages that lie or are damaged: refused with a reason, or decoded to bounded tensors."""

import io
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from federate.compression.codec import CodecConfig, decode, encode
from federate.wire import shapes_of
from tests.federate.compression.deltas import delta, flat


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
